"""What the venue sees of the price, and when.

An oracle turns the market's log-price into the log-price that the venue acts on. `ExactOracle` reports every step;
`PushOracle` reports when the price has moved by a threshold or a heartbeat has run out, as Chainlink's feeds do; both may
reach the venue some steps late, later in a storm. `ContinuousOracle` watches between the steps too: it draws the extremes
within the step from the Brownian bridge (Glasserman 2004, section 6.4), which is exact for the diffusion, so that the trigger
does not depend on the step. Longs are judged at the lowest and shorts at the highest price that the venue saw in the step.
A report may move the price by so much only (a clamp); and while the oracle stands still there is none. What stands before the
report, sources and filters, is in `oracle_pipe.py`.
"""

from abc import abstractmethod
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt

from calibrate.delay import Delay
from calibrate.events import Displaced, Whether
from calibrate.extremes import clipped, larger, smaller
from calibrate.shocks import PathIds, Seed
from calibrate.sources import SourceShocks
from calibrate.units import Index, IndexPerPath, PerPath, Scalar


class StepOfPrice(NamedTuple):
    """The market's log-price around one step: at its start, before its jump, at its end; and the step's diffusive
    variance and uniforms from which extremes in between are drawn (None unless the oracle is continuous). `log_volatility`
    is relative to the median; only a delay that grows with volatility asks for it, and only one that grows in a crash whether it
    is one (None in a market of one regime). Events may keep the oracle from reporting (`frozen`) and displace single sources;
    `sources` is what moves those."""

    start: PerPath
    before_jump: PerPath
    end: PerPath
    variance: PerPath
    low_uniform: PerPath | None
    high_uniform: PerPath | None
    log_volatility: PerPath | None = None
    crash: Bool[Array, " path"] | None = None
    frozen: Whether | None = None
    displaced: tuple[Displaced, ...] = ()
    sources: SourceShocks | None = None

    def shown(self) -> "StepOfPrice":
        """As an attacker of all sources makes it look."""
        price = self
        for source, by in self.displaced:
            if source is None:
                price = price._replace(start=price.start + by, before_jump=price.before_jump + by, end=price.end + by)
        return price


class Within(NamedTuple):
    """What is drawn for the oracle in a step: the uniforms of the extremes inside the step, where it is continuous, and what moves
    its sources, where it has any."""

    low_uniform: PerPath | None = None
    high_uniform: PerPath | None = None
    sources: SourceShocks | None = None


NOTHING_DRAWN = Within()


class OracleView(NamedTuple):
    """Log-prices that the venue sees in this step; the step in which what it sees was reported, where somebody asks how old it
    is; what the sources say now, where there are any; and how far from its price the ends of a band around it are, where it has
    one."""

    log_price: PerPath
    lowest: PerPath
    highest: PerPath
    made: IndexPerPath | None = None
    sources: PerPath | None = None
    band: PerPath | None = None


class Dates(NamedTuple):
    """The steps in which the last report, and those that are under way, were made."""

    last: IndexPerPath
    under_way: Int[Array, "delay path"]


class OracleState(NamedTuple):
    """The last report, the age in years of what the heartbeat counts from, the reports that are under way, the step whose
    report each path sees, where paths differ in it, and when reports were made, where somebody asks."""

    reported: PerPath
    age: PerPath
    under_way: Float[Array, "delay path"]
    place: IndexPerPath | None
    dates: Dates | None = None


class Oracle(eqx.Module):
    """An oracle: initial state, and one step from the market's price to the venue's view. Its `delay` is how late reports are."""

    def shocks(self, seed: Seed, ids: PathIds, steps: UInt[Array, " step"], dtype: np.dtype) -> SourceShocks | None:
        """What moves the oracle's sources at these steps, if it has any."""
        del seed, ids, steps, dtype
        return None

    @abstractmethod
    def start(self, log_price: PerPath) -> Any:
        """The state before the first step."""

    @abstractmethod
    def step(self, state: Any, price: StepOfPrice, index: Index, dt: Scalar) -> tuple[Any, OracleView]:
        """The view after step number `index`, which took `dt` years."""


class ExactOracle(Oracle):
    """Reports the market price in every step, `delay` later. A report moves the log-price by `clamp` at most; `dated` reports
    carry the step in which they were made."""

    delay: Delay
    clamp: Scalar | None = None
    dated: bool = eqx.field(static=True, default=False)

    def start(self, log_price: PerPath) -> OracleState:
        return _nothing_yet(self, log_price)

    def step(self, state: OracleState, price: StepOfPrice, index: Index, dt: Scalar) -> tuple[OracleState, OracleView]:
        del dt
        due = None if price.frozen is None else jnp.broadcast_to(~price.frozen, price.end.shape)
        return _report(self, state, due, state.age, index, price)


class PushOracle(Oracle):
    """Reports when the log-price has moved by `deviation` or the heartbeat of so many years has run out, `delay` later. Either
    every report restarts the heartbeat, or it is a clock that runs on whatever is reported in between. The rest is as in an
    exact oracle."""

    deviation: Scalar
    heartbeat: Scalar
    delay: Delay
    restarts: bool = eqx.field(static=True, default=True)
    clamp: Scalar | None = None
    dated: bool = eqx.field(static=True, default=False)

    def start(self, log_price: PerPath) -> OracleState:
        return _nothing_yet(self, log_price)

    def step(self, state: OracleState, price: StepOfPrice, index: Index, dt: Scalar) -> tuple[OracleState, OracleView]:
        age = state.age + dt
        # Half a step of slack: adding steps up in floating point must not put a heartbeat off by one of them.
        beat = age >= self.heartbeat - dt / 2
        due = (jnp.abs(price.end - state.reported) >= self.deviation) | beat
        if price.frozen is not None:
            due = due & ~price.frozen
        # A clock takes along what it is late by, so that it keeps its pace whatever the step.
        age = jnp.where(due, 0.0, age) if self.restarts else jnp.where(beat, age - self.heartbeat, age)
        return _report(self, state, due, age, index, price)


class ContinuousOracle(Oracle):
    """Sees every instant, at once (its `delay` is not used). A keeper delay of n steps then lasts n and a half on average,
    since accounts are triggered within a step and closed at the end of one."""

    delay: Delay
    dated: bool = eqx.field(static=True, default=False)

    def start(self, log_price: PerPath) -> OracleState:
        made = jnp.full(log_price.shape, -1, jnp.int32)
        dates = Dates(made, self.delay.empty_line(made)) if self.dated else None
        return OracleState(log_price, jnp.zeros_like(log_price), self.delay.empty_line(log_price), None, dates)

    def step(self, state: OracleState, price: StepOfPrice, index: Index, dt: Scalar) -> tuple[OracleState, OracleView]:
        del dt
        assert price.low_uniform is not None
        assert price.high_uniform is not None
        lowest = smaller(_bridge_extreme(price, price.low_uniform, -1.0), price.end)
        highest = larger(_bridge_extreme(price, price.high_uniform, 1.0), price.end)
        seen = OracleView(price.end, lowest, highest)
        if price.frozen is not None:
            seen = OracleView(*(jnp.where(price.frozen, state.reported, part) for part in seen[:3]))
        dates = state.dates
        if dates is not None:
            goes_on = True if price.frozen is None else ~price.frozen
            dates = dates._replace(last=jnp.where(goes_on, index, dates.last).astype(jnp.int32))
            seen = seen._replace(made=dates.last)
        return OracleState(seen.log_price, state.age, state.under_way, None, dates), seen


Publication = ExactOracle | PushOracle


def _nothing_yet(oracle: Publication, log_price: PerPath) -> OracleState:
    line, place = oracle.delay.empty_line(log_price), oracle.delay.first_place(log_price)
    # The price at the start counts as reported just before the first step.
    made = jnp.full(log_price.shape, -1, jnp.int32)
    dates = Dates(made, oracle.delay.empty_line(made)) if oracle.dated else None
    return OracleState(log_price, jnp.zeros_like(log_price), line, place, dates)


def _report(
    oracle: Publication,
    state: OracleState,
    due: Bool[Array, " path"] | None,
    age: PerPath,
    index: Index,
    price: StepOfPrice,
) -> tuple[OracleState, OracleView]:
    """Report the price where that is `due` (None: everywhere), and see what arrives."""
    reported = price.end
    if oracle.clamp is not None:
        reported = state.reported + clipped(price.end - state.reported, -oracle.clamp, oracle.clamp)
    if due is not None:
        reported = jnp.where(due, reported, state.reported)
    under_way, place, seen = _arriving(oracle.delay, state.under_way, state.place, reported, index, price)
    dates = made = None
    if state.dates is not None:
        last = jnp.broadcast_to(index, age.shape) if due is None else jnp.where(due, index, state.dates.last)
        last = last.astype(jnp.int32)
        made_line, _, made = _arriving(oracle.delay, state.dates.under_way, state.place, last, index, price)
        dates = Dates(last, made_line)
    return OracleState(reported, age, under_way, place, dates), OracleView(seen, seen, seen, made)


def _arriving(
    delay: Delay, line: Array, place: IndexPerPath | None, value: Array, index: Index, price: StepOfPrice
) -> tuple[Array, IndexPerPath | None, Array]:
    if place is None:
        line, seen = delay.through(line, index, value)
        return line, None, seen
    assert price.log_volatility is not None
    return delay.through_at_own_pace(line, place, index, value, price.log_volatility, price.crash)


def _bridge_extreme(price: StepOfPrice, uniform: PerPath, sign: float) -> PerPath:
    """Lowest (`sign` -1) or highest (+1) log-price of a Brownian bridge between the ends of the step."""
    span = price.before_jump - price.start
    uniform = smaller(uniform, 1 - jnp.finfo(uniform.dtype).eps)
    return (price.start + price.before_jump + sign * jnp.sqrt(span**2 - 2 * price.variance * jnp.log(uniform))) / 2
