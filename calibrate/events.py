"""What happens at certain times, whatever the market does by itself: keepers stay away, the oracle stands still, a price is
displaced by an attacker, depth collapses, gas rises, a pegged price breaks away.

An event has a window of steps. It begins at a fixed step, or, path by path, at any of those at which it fits into the horizon,
all equally likely and independent of everything else. `happening` gathers what all events do to one step; what no event does is
None, so that a job without events runs the program that it would run without this module. `docs/rules.md`, section 10, states
the rules.
"""

from abc import abstractmethod
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from calibrate.extremes import clipped
from calibrate.shocks import PathIds, Seed, philox, uniform
from calibrate.units import Index, IndexPerPath, Scalar

# The purpose of these counters of the generator, apart from those of the shocks.
_STREAM_EVENTS = 32

# One number, or one for each path where events begin at different times.
Strength = Float[Array, "#path"]
Whether = Bool[Array, "#path"]
Begin = Index | IndexPerPath


class Displaced(NamedTuple):
    """A displacement of the log-price that one source shows, or all do (None)."""

    source: int | None
    by: Strength


class Happening(NamedTuple):
    """What events do to a step: by how much the log-price jumps; what depth and gas are multiplied by; whether keepers are away
    and the oracle stands still; which prices are displaced as the oracle sees them."""

    jump: Strength | None = None
    depth: Strength | None = None
    gas: Strength | None = None
    away: Whether | None = None
    frozen: Whether | None = None
    displaced: tuple[Displaced, ...] = ()


NOTHING = Happening()


class When(eqx.Module):
    """A window that is `steps` long. It begins before step `begin` (counted from 0), or, where that is None, before any of the
    first `places` steps."""

    begin: Index | None
    steps: Index
    places: Index

    def has(self, index: Index, begin: Begin) -> Whether:
        return (index >= begin) & (index < begin + self.steps)


class Event(eqx.Module):
    """Something that happens within a window."""

    when: eqx.AbstractVar[When]

    @abstractmethod
    def felt(self, now: Happening, index: Index, begin: Begin) -> Happening:
        """What happens in step `index`, with this event, whose window begins at `begin`."""


class KeeperOutage(Event):
    """Nobody closes anything."""

    when: When

    def felt(self, now: Happening, index: Index, begin: Begin) -> Happening:
        return now._replace(away=_either(now.away, self.when.has(index, begin)))


class OracleFreeze(Event):
    """Nothing is reported; what is under way arrives."""

    when: When

    def felt(self, now: Happening, index: Index, begin: Begin) -> Happening:
        return now._replace(frozen=_either(now.frozen, self.when.has(index, begin)))


class Manipulation(Event):
    """The oracle, or one of its sources, shows a price that is displaced by `displacement` (in logs)."""

    when: When
    displacement: Scalar
    source: int | None = eqx.field(static=True, default=None)

    def felt(self, now: Happening, index: Index, begin: Begin) -> Happening:
        by = jnp.where(self.when.has(index, begin), self.displacement, 0.0)
        return now._replace(displaced=(*now.displaced, Displaced(self.source, by)))


class DepthCollapse(Event):
    """Depth is multiplied by `factor`."""

    when: When
    factor: Scalar

    def felt(self, now: Happening, index: Index, begin: Begin) -> Happening:
        return now._replace(depth=_times(now.depth, jnp.where(self.when.has(index, begin), self.factor, 1.0)))


class GasSpike(Event):
    """Gas is multiplied by `factor`."""

    when: When
    factor: Scalar

    def felt(self, now: Happening, index: Index, begin: Begin) -> Happening:
        return now._replace(gas=_times(now.gas, jnp.where(self.when.has(index, begin), self.factor, 1.0)))


class Depeg(Event):
    """The price of the market falls by `fall` (in logs) at the start of the window and comes back by itself after it, evenly over
    `recovery` steps (1 or more)."""

    when: When
    fall: Scalar
    recovery: Index

    def felt(self, now: Happening, index: Index, begin: Begin) -> Happening:
        jump = self.fall * (self._part(index - 1, begin) - self._part(index, begin))
        return now._replace(jump=jump if now.jump is None else now.jump + jump)

    def _part(self, index: Index, begin: Begin) -> Strength:
        """How much of the fall there is at the end of a step."""
        left = 1 - (index + 1 - begin - self.when.steps) / self.recovery
        return jnp.where(index >= begin, clipped(left, 0.0, 1.0), 0.0).astype(self.fall.dtype)


def begins_of(events: tuple[Event, ...], seed: Seed, ids: PathIds) -> tuple[Begin, ...]:
    """The step before which each event begins, of every path."""
    return tuple(_begin(event.when, number, seed, ids) for number, event in enumerate(events))


def _begin(when: When, number: int, seed: Seed, ids: PathIds) -> Begin:
    if when.begin is not None:
        return when.begin
    return jnp.minimum((event_uniform(seed, ids, number) * when.places).astype(jnp.int32), when.places - 1)


def event_uniform(seed: Seed, ids: PathIds, number: int) -> Float[Array, " path"]:
    """What draws the time of event `number`."""
    which, purpose = (jnp.full_like(ids.low, value) for value in (number, _STREAM_EVENTS))
    return uniform(philox((ids.low, ids.high, which, purpose), seed)[0], jnp.dtype(jnp.float32))


def happening(events: tuple[Event, ...], begins: tuple[Begin, ...], index: Index) -> Happening:
    """What all events together do to step `index`."""
    now = NOTHING
    for event, begin in zip(events, begins, strict=True):
        now = event.felt(now, index, begin)
    return now


def _either(before: Whether | None, more: Whether) -> Whether:
    return more if before is None else before | more


def _times(before: Strength | None, more: Strength) -> Strength:
    return more if before is None else before * more
