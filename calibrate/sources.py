"""Where an oracle's prices come from: several sources, each with its own noise and outages, made into one price.

A source shows the market's log-price, perhaps some steps late, plus a noise that forgets itself (an autoregression, exact at any
step), and is out and back at constant rates (a Markov chain, exact at any step). What is out is left out. The others are made
into one price by their weighted median, half-way between its two ends where it has two, or by their weighted mean. With fewer of
them than the quorum there is no new price. Medians are what keeps one displaced source from displacing the price by more than
the others disagree, and one late source from making it late. How far the others disagree is what a confidence interval says.
"""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, UInt

from calibrate.events import Displaced
from calibrate.extremes import larger
from calibrate.shocks import PathIds, Seed, normals, philox, uniform
from calibrate.units import Index, PerPath

# The purposes of these counters of the generator, one for each source.
_STREAM_SOURCES = 64
_ROUNDING = 1e-6  # of all weight
_BEYOND = 1e3  # further than any log-price

PerSource = Float[Array, " source"]
SourcePath = Float[Array, "source path"]
WhetherOut = Bool[Array, "source path"]


class SourceShocks(NamedTuple):
    """What moves the sources in a step: normals of their noise and uniforms of their outages, where they have any."""

    normals: Float[Array, "*step source path"] | None
    uniforms: Float[Array, "*step source path"] | None


class SourcesState(NamedTuple):
    """The noise of each source, and whether it is out; and what the market was, where some are late."""

    noise: SourcePath | None
    out: WhetherOut | None
    past: Float[Array, "delay path"] | None = None


class Made(NamedTuple):
    """The price that sources make; whether enough of them are there (None: they always are); and how far from it the further of
    their two quartiles lies, where somebody asks."""

    price: PerPath
    enough: Bool[Array, " path"] | None
    apart: PerPath | None


class Noise(eqx.Module):
    """Of standard deviation `spread` (in logs), of which the part `kept` stays from step to step; none at the start."""

    spread: PerSource
    kept: PerSource

    def step(self, before: SourcePath, normal: SourcePath) -> SourcePath:
        fresh = self.spread * jnp.sqrt(1 - self.kept**2)
        return self.kept[:, None] * before + fresh[:, None] * normal


class Outages(eqx.Module):
    """The probabilities of going out within a step, and of staying out; all are there at the start."""

    goes: PerSource
    stays: PerSource

    def step(self, out: WhetherOut, drawn: SourcePath) -> WhetherOut:
        return drawn < jnp.where(out, self.stays[:, None], self.goes[:, None])


class Lag(eqx.Module):
    """Each source shows what was there `steps` steps ago, `longest` at the most."""

    steps: Int[Array, " source"]
    longest: int = eqx.field(static=True)

    def start(self, log_price: PerPath) -> Float[Array, "delay path"]:
        return jnp.broadcast_to(log_price, (self.longest + 1, *log_price.shape))

    def step(
        self, past: Float[Array, "delay path"], index: Index, log_price: PerPath
    ) -> tuple[Float[Array, "delay path"], SourcePath]:
        length = self.longest + 1
        past = lax.dynamic_update_index_in_dim(past, log_price, index % length, 0)
        return past, past[(index - self.steps) % length]


class Sources(eqx.Module):
    """Sources of these weights. A new price takes `quorum` of them or more. With `quartiles` it is told how far they disagree."""

    weights: PerSource
    noise: Noise | None
    outages: Outages | None
    quorum: int = eqx.field(static=True, default=1)
    by_mean: bool = eqx.field(static=True, default=False)
    lag: Lag | None = None
    quartiles: bool = eqx.field(static=True, default=False)

    def shocks(self, seed: Seed, ids: PathIds, steps: UInt[Array, " step"], dtype: np.dtype) -> SourceShocks:
        """What moves the sources at these steps; a counter is used for nothing else."""
        shape = (len(steps), len(self.weights), len(ids.low))
        purpose = jnp.arange(len(self.weights), dtype=jnp.uint32)[:, None] + jnp.uint32(_STREAM_SOURCES)
        wide = lambda words: jnp.broadcast_to(words, shape)  # noqa: E731
        counter = wide(ids.low), wide(ids.high), wide(steps[:, None, None]), wide(purpose)
        first, second, third, _ = philox(counter, seed)
        return SourceShocks(
            None if self.noise is None else normals(first, second, dtype).real,
            None if self.outages is None else uniform(third, dtype),
        )

    def start(self, like: PerPath) -> SourcesState:
        zero = jnp.zeros((len(self.weights), *like.shape), like.dtype)
        return SourcesState(
            None if self.noise is None else zero,
            None if self.outages is None else zero > 0,
            None if self.lag is None else self.lag.start(like),
        )

    def step(
        self,
        state: SourcesState,
        log_price: PerPath,
        index: Index,
        shocks: SourceShocks,
        displaced: tuple[Displaced, ...],
    ) -> tuple[SourcesState, Made]:
        """What the sources make of the market's price."""
        noise, out, past = state
        shown = jnp.broadcast_to(log_price, (len(self.weights), *log_price.shape))
        if self.lag is not None and past is not None:
            past, shown = self.lag.step(past, index, log_price)
        if self.noise is not None and noise is not None and shocks.normals is not None:
            noise = self.noise.step(noise, shocks.normals)
            shown = shown + noise
        for source, by in displaced:
            if source is not None:
                shown = shown.at[source].add(jnp.broadcast_to(by, log_price.shape))
        weights, enough = jnp.broadcast_to(self.weights[:, None], shown.shape), None
        if self.outages is not None and out is not None and shocks.uniforms is not None:
            out = self.outages.step(out, shocks.uniforms)
            weights = jnp.where(out, 0.0, weights)
            enough = jnp.sum(~out, axis=0) >= self.quorum
        price = weighted_mean(shown, weights) if self.by_mean else weighted_median(shown, weights)
        apart = _further_quartile(price, shown, weights) if self.quartiles else None
        return SourcesState(noise, out, past), Made(price, enough, apart)


def weighted_mean(values: SourcePath, weights: SourcePath) -> PerPath:
    """The mean by weight; meaningless where nothing has weight."""
    total = jnp.sum(weights, axis=0)
    return jnp.sum(weights * values, axis=0) / jnp.where(total > 0, total, 1.0)


def weighted_median(values: SourcePath, weights: SourcePath) -> PerPath:
    """The value with half of all weight at or below it and half at or above it, half-way between two such values."""
    return weighted_quantile(values, weights, 0.5)


def weighted_quantile(values: SourcePath, weights: SourcePath, part: float) -> PerPath:
    """Half-way between the smallest value with this `part` of all weight at or below it, and the largest with the rest at or above
    it. Meaningless where nothing has weight. Sources are few, so that comparing each with each is quicker than sorting."""
    total = jnp.sum(weights, axis=0)
    at_most = jnp.sum(weights * (values <= values[:, None]), axis=1)
    at_least = jnp.sum(weights * (values >= values[:, None]), axis=1)
    there = weights > 0
    lower = jnp.min(jnp.where(there & (at_most >= (part - _ROUNDING) * total), values, _BEYOND), axis=0)
    upper = jnp.max(jnp.where(there & (at_least >= (1 - part - _ROUNDING) * total), values, -_BEYOND), axis=0)
    return (lower + upper) / 2


def _further_quartile(price: PerPath, values: SourcePath, weights: SourcePath) -> PerPath:
    """How far from the price the further of the two quartiles lies, as in the confidence interval of Pyth's aggregate
    (docs.pyth.network, "Price aggregation")."""
    lower, upper = (weighted_quantile(values, weights, part) for part in (0.25, 0.75))
    return larger(larger(price - lower, upper - price), 0.0)
