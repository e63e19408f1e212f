"""Filtered historical simulation: what happened, at the volatility of now.

Returns of past bars, each divided by the volatility that was forecast for it, are drawn in blocks and multiplied by the volatility
of the path, which the same recursion forecasts from what was drawn (Barone-Adesi, Giannopoulos and Vosper 1999). Blocks are as in
the stationary bootstrap (Politis and Romano 1994): after each bar a new place in the history is drawn with probability
one over the mean length of a block, else the next bar follows; the last is followed by the first.

As with GARCH, a bar is made of whole steps. The bar's return is the one that was drawn, to the last digit; where the bar has
several steps the price moves there on a Brownian bridge at the path's volatility, so that a return of ten standard deviations
comes as a steady slide over the bar and not at once: steps of a bar each are the safer choice. Normals matter to the bridge
alone: shifting them draws no other bars, so paths are sampled plainly.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from calibrate.market.curve import Curve
from calibrate.market.garch import VarianceRecursion, variance_at_start
from calibrate.market.model import Diffusion, StepShocks, Volatility
from calibrate.shocks import Needs, StartDraws
from calibrate.units import Index, PerPath, Scalar


class HistoricalState(NamedTuple):
    """Annual variance of the bar, the place in the history that it is drawn from, how much of its return is still to come, and the
    step within the bar."""

    variance: PerPath
    cursor: Int[Array, " path"]
    to_come: PerPath
    position: Index


class FilteredHistorical(Volatility):
    """`residuals` are returns over forecast volatility, in the order of time, with mean square 1. A block has `block_bars` bars on
    average. Variance starts as GARCH's does."""

    needs = Needs(block_uniform=True)
    driven_by_normals = False

    recursion: VarianceRecursion
    residuals: Float[Array, " bar"]
    block_bars: Scalar
    initial_variance: Scalar | None = None
    stationary: Curve | None = None

    def start(self, draws: StartDraws) -> HistoricalState:
        # Where the first block starts is drawn from what no other part of this market uses.
        cursor = self._place(draws.law_uniform)
        return self._at(variance_at_start(self.initial_variance, self.stationary, draws.normal), cursor)

    def usual(self, like: PerPath) -> HistoricalState:
        zero = jnp.zeros_like(like)
        return self._at(self.recursion.volatility**2 + zero, zero.astype(jnp.int32))

    def _at(self, variance: PerPath, cursor: Int[Array, " path"]) -> HistoricalState:
        return HistoricalState(variance, cursor, jnp.zeros_like(variance), jnp.int32(0))

    def log_level(self, state: HistoricalState) -> PerPath:
        return self.recursion.log_level(state.variance)

    def variance_rate(self, state: HistoricalState) -> PerPath:
        return state.variance

    def step(
        self, state: HistoricalState, shocks: StepShocks, drift: Scalar, dt: Scalar, scale: Scalar | PerPath
    ) -> tuple[HistoricalState, Diffusion]:
        assert shocks.block_uniform is not None
        steps, first = self.recursion.steps, state.position == 0
        bar = steps * dt
        cursor = jnp.where(first, self._next(state.cursor, shocks.block_uniform), state.cursor)
        volatility, residual = jnp.sqrt(state.variance), self.residuals[cursor]
        bar_return = volatility * jnp.sqrt(bar) * residual
        to_come = jnp.where(first, bar_return, state.to_come)
        # One step of a Brownian bridge that has to come to what is left of the bar's return.
        left = (steps - state.position).astype(dt.dtype)
        noise = to_come / left + volatility * jnp.sqrt(dt * (left - 1) / left) * shocks.return_normal
        after = HistoricalState(
            jnp.where(left == 1, self.recursion.next_variance(state.variance, bar_return, bar), state.variance),
            cursor,
            to_come - noise,
            (state.position + 1) % steps,
        )
        mean = (drift - scale**2 * state.variance / 2) * dt
        return after, Diffusion(scale * volatility, mean, scale * noise)

    def _next(self, cursor: Int[Array, " path"], uniform: PerPath) -> Int[Array, " path"]:
        """Below one over the length of a block the uniform draws a new place, being then uniform again."""
        return jnp.where(
            uniform * self.block_bars < 1, self._place(uniform * self.block_bars), (cursor + 1) % len(self.residuals)
        )

    def _place(self, uniform: PerPath) -> Int[Array, " path"]:
        bars = len(self.residuals)
        return jnp.minimum((uniform * bars).astype(jnp.int32), bars - 1)
