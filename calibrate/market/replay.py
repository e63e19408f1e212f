"""Replay of a real history: every path meets the same bars, and draws its own way through each of them.

In a bar the price starts at the open, goes to the high and the low in an order that is drawn with its probability given the
bar (`intrabar.py`), and ends at the close. The bar's time is shared among the three legs in proportion to their lengths, those
before and after the two extremes times a lognormal number each: a rule that comes near to when a Brownian motion is at its
extremes. Within a leg it is a Brownian bridge at the bar's own volatility, kept between low and high. So the spread over paths is
what the bars leave open, and nothing else.

A bar is made of whole steps. All four prices are met exactly at ends of steps where there are three or more; with one or two, only
the close is. Between the ends of steps nothing happens. The volatility that depth follows is estimated from the bars before the
current one. Normals bend ways through bars and choose no other bars, so paths are sampled plainly.

What a step costs is measured with a venue on top: from hourly bars of ETH on 21 and 23 May 2021, under `configs/eth-perp.toml`,
steps of half a minute instead of a minute liquidate 1.2 and 0.9 % more (± 0.1 %), of a quarter instead of half 0.7 and 0.6 % more.
"""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from calibrate.extremes import clipped
from calibrate.market.intrabar import Bars
from calibrate.market.model import Diffusion, StepShocks, Volatility
from calibrate.shocks import Needs, StartDraws
from calibrate.units import Index, PerPath, Scalar

# Fewest steps in which a bar can go to both of its extremes and to its close.
LEAST_STEPS = 3
# The outer legs, from the open and to the close, take so much longer for their length than the one between the extremes, in the
# median, and their logarithms vary by so much. Over all bars of a Brownian motion, the times of both extremes then have their
# means and standard deviations within a few per cent (tests/test_intrabar.py).
_OUTER, _PACE = 1.15, 1.1
# Annual, and nothing: between steps there is no more to see. The derivative of a bridge's extremes needs it to be positive.
_STILL = 1e-3


class Route(NamedTuple):
    """A path's way through a bar: whether to the high first, and the steps (counted from 1) that end at either turning point."""

    high_first: Bool[Array, " path"]
    first: Int[Array, " path"]
    second: Int[Array, " path"]


class ReplayState(NamedTuple):
    """Annual variance as it is known by now, the log-price in the history, the route through the bar, and how many steps have been
    made."""

    variance: PerPath
    place: PerPath
    route: Route
    steps: Index


class Replay(Volatility):
    """`open` to `close` are log-prices of the bars relative to the first open, `sd` is the standard deviation of a bar's return,
    `known` the annual variance that the bars before each one tell, with one value more. `usual_variance` is what depth and
    margins call usual."""

    needs = Needs(third_normal=True, block_uniform=True)
    driven_by_normals = False

    open: Float[Array, " bar"]
    high: Float[Array, " bar"]
    low: Float[Array, " bar"]
    close: Float[Array, " bar"]
    high_first: Float[Array, " bar"]
    sd: Float[Array, " bar"]
    known: Float[Array, " known"]
    usual_variance: Scalar
    steps_per_bar: int = eqx.field(static=True)

    def start(self, draws: StartDraws) -> ReplayState:
        return self._at(self.known[0] + jnp.zeros_like(draws.normal))

    def usual(self, like: PerPath) -> ReplayState:
        return self._at(self.usual_variance + jnp.zeros_like(like))

    def _at(self, variance: PerPath) -> ReplayState:
        zero = jnp.zeros_like(variance)
        whole = zero.astype(jnp.int32)
        return ReplayState(variance, zero, Route(zero > 0, whole, whole), jnp.int32(0))

    def log_level(self, state: ReplayState) -> PerPath:
        return jnp.log(state.variance / self.usual_variance) / 2

    def variance_rate(self, state: ReplayState) -> PerPath:
        return state.variance

    def step(
        self, state: ReplayState, shocks: StepShocks, drift: Scalar, dt: Scalar, scale: Scalar | PerPath
    ) -> tuple[ReplayState, Diffusion]:
        del drift, dt  # A history has its own.
        bar, position = state.steps // self.steps_per_bar, state.steps % self.steps_per_bar
        begins = position == 0
        drawn = self._route(bar, shocks)
        route = Route(*(jnp.where(begins, new, old) for new, old in zip(drawn, state.route, strict=True)))

        high, low = self.high[bar], self.low[bar]
        to_first, to_second = position < route.first, position < route.second
        turn = jnp.where(to_first == route.high_first, high, low)
        target = jnp.where(to_second, turn, self.close[bar])
        until = jnp.where(to_first, route.first, jnp.where(to_second, route.second, self.steps_per_bar))
        # One step of a Brownian bridge that has to be at its target after so many steps.
        left = (until - position).astype(target.dtype)
        place = jnp.where(begins, self.open[bar], state.place)
        spread = self.sd[bar] * jnp.sqrt((left - 1) / left / self.steps_per_bar)
        between = place + (target - place) / left + spread * shocks.return_normal
        place = jnp.where(left == 1, target, clipped(between, low, high))

        steps = state.steps + 1
        variance = self.known[steps // self.steps_per_bar] + jnp.zeros_like(place)
        after = ReplayState(variance, place, route, steps)
        still = _STILL * jnp.ones_like(place)
        return after, Diffusion(still, jnp.zeros_like(place), scale * (place - state.place))

    def _route(self, bar: Index, shocks: StepShocks) -> Route:
        assert shocks.block_uniform is not None
        assert shocks.third_normal is not None
        high_first = shocks.block_uniform < self.high_first[bar]
        if self.steps_per_bar < LEAST_STEPS:
            nowhere = jnp.zeros_like(high_first, jnp.int32)
            return Route(high_first, nowhere, nowhere)
        high, low = self.high[bar], self.low[bar]
        first, second = jnp.where(high_first, high, low), jnp.where(high_first, low, high)
        begin = _OUTER * jnp.abs(first - self.open[bar]) * jnp.exp(_PACE * shocks.volatility_normal)
        end = _OUTER * jnp.abs(self.close[bar] - second) * jnp.exp(_PACE * shocks.third_normal)
        whole = begin + (high - low) + end
        steps = self.steps_per_bar / jnp.where(whole > 0, whole, 1.0)
        # A close that is the second turning point is met at the end; otherwise it has a step of its own.
        last = jnp.where(end > 0, self.steps_per_bar - 1, self.steps_per_bar)
        turned = jnp.clip(jnp.round(begin * steps).astype(jnp.int32), 1, last - 1)
        back = jnp.clip(jnp.round((begin + high - low) * steps).astype(jnp.int32), turned + 1, last)
        return Route(high_first, turned, back)


def replay_of(bars: Bars, known: np.ndarray, usual_variance: float, steps_per_bar: int, dtype: np.dtype) -> Replay:
    """The market that replays the bars, each in so many steps."""

    def column(values: np.ndarray | float) -> Array:
        return jnp.asarray(values, dtype)

    return Replay(
        column(bars.open),
        column(bars.high),
        column(bars.low),
        column(bars.close),
        column(bars.high_first),
        column(np.sqrt(bars.variance)),
        column(known),
        column(usual_variance),
        steps_per_bar,
    )
