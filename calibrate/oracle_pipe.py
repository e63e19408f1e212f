"""The whole way from sources to what the venue sees: sources, an average, then publication.

Sources make one price (`sources.py`); a time-weighted average or an exponential one smooths it; and an exact or a push oracle
reports what comes out, clamped, late, or not at all while the oracle stands still or too few sources are there (`oracle.py`).
Averages are of logarithms, as those of on-chain pools are, so that they are geometric means of prices. Around the price there may
be a band: between a bid and an ask, or as wide as the sources disagree.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt

from calibrate.delay import Delay
from calibrate.oracle import Oracle, OracleState, OracleView, Publication, StepOfPrice
from calibrate.shocks import PathIds, Seed
from calibrate.sources import Sources, SourceShocks, SourcesState
from calibrate.units import Index, PerPath, Scalar


class Window(NamedTuple):
    """The last values and their sum."""

    values: Float[Array, "delay path"]
    total: PerPath


class TimeWeighted(eqx.Module):
    """The mean of the last steps: as many as `window` is long."""

    window: Delay

    def start(self, value: PerPath) -> Window:
        return Window(self.window.empty_line(value), value * self.window.steps)

    def step(self, state: Window, index: Index, value: PerPath) -> tuple[Window, PerPath]:
        values, leaving = self.window.through(state.values, index, value)
        total = state.total + value - leaving
        return Window(values, total), total / self.window.steps


class Exponential(eqx.Module):
    """Every step the mean takes over the part `weight` of what is new."""

    weight: Scalar

    def start(self, value: PerPath) -> PerPath:
        return value

    def step(self, state: PerPath, index: Index, value: PerPath) -> tuple[PerPath, PerPath]:
        del index
        mean = state + self.weight * (value - state)
        return mean, mean


Average = TimeWeighted | Exponential


class Band(eqx.Module):
    """How far from its price the ends of a band are, in logs: `half_width` at median volatility, which changes with volatility to
    the power `growth`, and `of_sources` times as far as the further quartile of the sources."""

    half_width: Scalar
    growth: Scalar
    of_sources: Scalar | None = None

    def around(self, price: StepOfPrice, apart: PerPath | None) -> PerPath:
        assert price.log_volatility is not None
        half = self.half_width * jnp.exp(self.growth * price.log_volatility)
        return half if self.of_sources is None or apart is None else half + self.of_sources * apart


class PipeState(NamedTuple):
    """The states of the parts, the last price of the sources, and how far they last were apart."""

    sources: SourcesState | None
    value: PerPath
    average: Any
    publication: OracleState
    apart: PerPath | None = None


class OraclePipe(Oracle):
    """Sources and an average before a publication, and a band around its price, or some of them."""

    publication: Publication
    sources: Sources | None = None
    average: Average | None = None
    band: Band | None = None

    @property
    def delay(self) -> Delay:
        return self.publication.delay

    def shocks(self, seed: Seed, ids: PathIds, steps: UInt[Array, " step"], dtype: np.dtype) -> SourceShocks | None:
        return None if self.sources is None else self.sources.shocks(seed, ids, steps, dtype)

    def start(self, log_price: PerPath) -> PipeState:
        sources = None if self.sources is None else self.sources.start(log_price)
        average = None if self.average is None else self.average.start(log_price)
        apart = None if self.sources is None or not self.sources.quartiles else jnp.zeros_like(log_price)
        return PipeState(sources, log_price, average, self.publication.start(log_price), apart)

    def step(self, state: PipeState, price: StepOfPrice, index: Index, dt: Scalar) -> tuple[PipeState, OracleView]:
        sources, value, apart, frozen = state.sources, price.end, state.apart, price.frozen
        if self.sources is not None and sources is not None and price.sources is not None:
            sources, made = self.sources.step(sources, value, index, price.sources, price.displaced)
            value, apart = made.price, made.apart
            if made.enough is not None:
                value = jnp.where(made.enough, value, state.value)
                if apart is not None and state.apart is not None:
                    apart = jnp.where(made.enough, apart, state.apart)
                frozen = ~made.enough if frozen is None else frozen | ~made.enough
        average, shown = state.average, value
        if self.average is not None:
            average, shown = self.average.step(state.average, index, value)
        publication, view = self.publication.step(
            state.publication, price._replace(end=shown, frozen=frozen), index, dt
        )
        band = None if self.band is None else self.band.around(price, apart)
        return PipeState(sources, value, average, publication, apart), view._replace(sources=value, band=band)
