"""What the venue sees of the price, and when.

An oracle turns the market's log-price into the log-price that the venue acts on. `ExactOracle` reports every step;
`PushOracle` reports when the price has moved by a threshold or a heartbeat has run out, as Chainlink's feeds do; both may
reach the venue some steps late, later in a storm. `ContinuousOracle` watches between the steps too: it draws the extremes
within the step from the Brownian bridge (Glasserman 2004, section 6.4), which is exact for the diffusion, so that the trigger
does not depend on the step. Longs are judged at the lowest and shorts at the highest price that the venue saw in the step.
"""

from abc import abstractmethod
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from calibrate.delay import Delay
from calibrate.extremes import larger, smaller
from calibrate.units import Index, IndexPerPath, PerPath, Scalar


class StepOfPrice(NamedTuple):
    """The market's log-price around one step: at its start, before its jump, at its end; and the step's diffusive
    variance and uniforms from which extremes in between are drawn (None unless the oracle is continuous). `log_volatility`
    is relative to the median; only a delay that grows with volatility asks for it, and only one that grows in a crash whether it
    is one (None in a market of one regime)."""

    start: PerPath
    before_jump: PerPath
    end: PerPath
    variance: PerPath
    low_uniform: PerPath | None
    high_uniform: PerPath | None
    log_volatility: PerPath | None = None
    crash: Bool[Array, " path"] | None = None


class OracleView(NamedTuple):
    """Log-prices that the venue sees in this step."""

    log_price: PerPath
    lowest: PerPath
    highest: PerPath


class OracleState(NamedTuple):
    """The last report, the age in years of what the heartbeat counts from, the reports that are under way, and the step whose
    report each path sees, where paths differ in it."""

    reported: PerPath
    age: PerPath
    under_way: Float[Array, "delay path"]
    place: IndexPerPath | None


class Oracle(eqx.Module):
    """An oracle: initial state, and one step from the market's price to the venue's view."""

    delay: eqx.AbstractVar[Delay]

    def start(self, log_price: PerPath) -> OracleState:
        line, place = self.delay.empty_line(log_price), self.delay.first_place(log_price)
        return OracleState(log_price, jnp.zeros_like(log_price), line, place)

    def _delayed(
        self, state: OracleState, reported: PerPath, age: PerPath, index: Index, price: StepOfPrice
    ) -> tuple[OracleState, OracleView]:
        if state.place is None:
            under_way, seen = self.delay.through(state.under_way, index, reported)
            return OracleState(reported, age, under_way, None), OracleView(seen, seen, seen)
        assert price.log_volatility is not None
        under_way, place, seen = self.delay.through_at_own_pace(
            state.under_way, state.place, index, reported, price.log_volatility, price.crash
        )
        return OracleState(reported, age, under_way, place), OracleView(seen, seen, seen)

    @abstractmethod
    def step(self, state: OracleState, price: StepOfPrice, index: Index, dt: Scalar) -> tuple[OracleState, OracleView]:
        """The view after step number `index`, which took `dt` years."""


class ExactOracle(Oracle):
    """Reports the market price in every step, `delay` later."""

    delay: Delay

    def step(self, state: OracleState, price: StepOfPrice, index: Index, dt: Scalar) -> tuple[OracleState, OracleView]:
        del dt
        return self._delayed(state, price.end, state.age, index, price)


class PushOracle(Oracle):
    """Reports when the log-price has moved by `deviation` or the heartbeat of so many years has run out, `delay` later. Either
    every report restarts the heartbeat, or it is a clock that runs on whatever is reported in between."""

    deviation: Scalar
    heartbeat: Scalar
    delay: Delay
    restarts: bool = eqx.field(static=True, default=True)

    def step(self, state: OracleState, price: StepOfPrice, index: Index, dt: Scalar) -> tuple[OracleState, OracleView]:
        age = state.age + dt
        # Half a step of slack: adding steps up in floating point must not put a heartbeat off by one of them.
        beat = age >= self.heartbeat - dt / 2
        due = (jnp.abs(price.end - state.reported) >= self.deviation) | beat
        # A clock takes along what it is late by, so that it keeps its pace whatever the step.
        age = jnp.where(due, 0.0, age) if self.restarts else jnp.where(beat, age - self.heartbeat, age)
        return self._delayed(state, jnp.where(due, price.end, state.reported), age, index, price)


class ContinuousOracle(Oracle):
    """Sees every instant, at once (its `delay` is not used). A keeper delay of n steps then lasts n and a half on average,
    since accounts are triggered within a step and closed at the end of one."""

    delay: Delay

    def step(self, state: OracleState, price: StepOfPrice, index: Index, dt: Scalar) -> tuple[OracleState, OracleView]:
        del index, dt
        assert price.low_uniform is not None
        assert price.high_uniform is not None
        lowest = smaller(_bridge_extreme(price, price.low_uniform, -1.0), price.end)
        highest = larger(_bridge_extreme(price, price.high_uniform, 1.0), price.end)
        return OracleState(price.end, state.age, state.under_way, None), OracleView(price.end, lowest, highest)


def _bridge_extreme(price: StepOfPrice, uniform: PerPath, sign: float) -> PerPath:
    """Lowest (`sign` -1) or highest (+1) log-price of a Brownian bridge between the ends of the step."""
    span = price.before_jump - price.start
    uniform = smaller(uniform, 1 - jnp.finfo(uniform.dtype).eps)
    return (price.start + price.before_jump + sign * jnp.sqrt(span**2 - 2 * price.variance * jnp.log(uniform))) / 2
