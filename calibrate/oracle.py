"""What the venue sees of the price, and when.

An oracle turns the market's log-price into the log-price that the venue acts on. `ExactOracle` reports every step;
`PushOracle` reports when the price has moved by a threshold or a heartbeat has run out, as Chainlink's feeds do; both may
reach the venue some steps late. `ContinuousOracle` watches between the steps too: it draws the extremes within the step from
the Brownian bridge (Glasserman 2004, section 6.4), which is exact for the diffusion, so that the trigger does not depend on
the step. Longs are judged at the lowest and shorts at the highest price that the venue saw in the step.
"""

from abc import abstractmethod
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from calibrate.delay import Delay
from calibrate.extremes import larger, smaller
from calibrate.units import Index, PerPath, Scalar


class StepOfPrice(NamedTuple):
    """The market's log-price around one step: at its start, before its jump, at its end; and the step's diffusive
    variance and uniforms from which extremes in between are drawn (None unless the oracle is continuous)."""

    start: PerPath
    before_jump: PerPath
    end: PerPath
    variance: PerPath
    low_uniform: PerPath | None
    high_uniform: PerPath | None


class OracleView(NamedTuple):
    """Log-prices that the venue sees in this step."""

    log_price: PerPath
    lowest: PerPath
    highest: PerPath


class OracleState(NamedTuple):
    """The last report, its age in years, and the reports that are under way."""

    reported: PerPath
    age: PerPath
    under_way: Float[Array, "delay path"]


class Oracle(eqx.Module):
    """An oracle: initial state, and one step from the market's price to the venue's view."""

    delay: eqx.AbstractVar[Delay]

    def start(self, log_price: PerPath) -> OracleState:
        return OracleState(log_price, jnp.zeros_like(log_price), self.delay.empty_line(log_price))

    def _delayed(
        self, state: OracleState, reported: PerPath, age: PerPath, index: Index
    ) -> tuple[OracleState, OracleView]:
        under_way, seen = self.delay.through(state.under_way, index, reported)
        return OracleState(reported, age, under_way), OracleView(seen, seen, seen)

    @abstractmethod
    def step(self, state: OracleState, price: StepOfPrice, index: Index, dt: Scalar) -> tuple[OracleState, OracleView]:
        """The view after step number `index`, which took `dt` years."""


class ExactOracle(Oracle):
    """Reports the market price in every step, `delay` later."""

    delay: Delay

    def step(self, state: OracleState, price: StepOfPrice, index: Index, dt: Scalar) -> tuple[OracleState, OracleView]:
        del dt
        return self._delayed(state, price.end, state.age, index)


class PushOracle(Oracle):
    """Reports when the log-price has moved by `deviation` or the report is `heartbeat` years old, `delay` later."""

    deviation: Scalar
    heartbeat: Scalar
    delay: Delay

    def step(self, state: OracleState, price: StepOfPrice, index: Index, dt: Scalar) -> tuple[OracleState, OracleView]:
        age = state.age + dt
        # Half a step of slack: adding steps up in floating point must not put a heartbeat off by one of them.
        due = (jnp.abs(price.end - state.reported) >= self.deviation) | (age >= self.heartbeat - dt / 2)
        return self._delayed(state, jnp.where(due, price.end, state.reported), jnp.where(due, 0.0, age), index)


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
        return OracleState(price.end, state.age, state.under_way), OracleView(price.end, lowest, highest)


def _bridge_extreme(price: StepOfPrice, uniform: PerPath, sign: float) -> PerPath:
    """Lowest (`sign` -1) or highest (+1) log-price of a Brownian bridge between the ends of the step."""
    span = price.before_jump - price.start
    uniform = smaller(uniform, 1 - jnp.finfo(uniform.dtype).eps)
    return (price.start + price.before_jump + sign * jnp.sqrt(span**2 - 2 * price.variance * jnp.log(uniform))) / 2
