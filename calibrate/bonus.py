"""A penalty that grows as health falls: what each account pays, and up to which one keepers come.

With one penalty for all keepers close as much as the market absorbs for it. Where an account that is worse off pays more, they
start with the one that pays most and go on until the next pays no more than what it costs to close it: gas, and the displacement
that all closes before it have left. Of the accounts in that order (their *place*) both what the next pays and what is closed
before it are known, so where the two meet is the zero of a rising function.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from calibrate.extremes import clipped, larger, smaller
from calibrate.slices import Slice
from calibrate.units import CohortPath, PerPath, Scalar
from calibrate.venue.incentive import HealthBonus

OfSides = tuple[PerPath, PerPath]


class BonusLevels(NamedTuple):
    """The penalty in levels of collateral: a rate of notional of `lowest` at `top` and above, of `lowest + rise` at `bottom` and
    below, and linear in between. A place of 0 is `top`, of 1 `bottom` and below; places above the top are negative."""

    top: CohortPath
    bottom: CohortPath
    lowest: Scalar
    rise: Scalar

    def penalties(self, accounts: Slice, cover: CohortPath, price: CohortPath, deficit: CohortPath) -> CohortPath:
        """What the accounts pay, each no more than its equity: `cover` is the level that just covers their loss, `price` what a
        unit of notional is worth, as a level. As a function of collateral that is piecewise linear: 0 up to `cover`, the
        equity up to `meets`, then the penalty; so it is a sum of `(level - c)^+`."""
        fee, slope = self.lowest * price, self.rise * price / self._width
        crossing = (cover + fee + slope * self.top) / (1 + slope)
        meets = clipped(crossing, cover + fee, cover + fee + self.rise * price)
        falls, ends = larger(meets, self.bottom), larger(meets, self.top)
        fall = accounts.lacking(ends) - accounts.lacking(falls)
        return fee * accounts.share + deficit - accounts.lacking(meets) + slope * fall

    def level(self, place: CohortPath) -> CohortPath:
        """The level of a place."""
        return self.top - place * self._width

    def place(self, level: CohortPath) -> CohortPath:
        """The other way round."""
        return smaller((self.top - level) / self._width, 1.0)

    def rate(self, place: PerPath) -> PerPath:
        """The penalty of a place."""
        return self.lowest + self.rise * clipped(place, 0.0, 1.0)

    @property
    def _width(self) -> CohortPath:
        return larger(self.top - self.bottom, _NARROWEST)


# Of collateral, a distance that shows in no figure.
_NARROWEST = 1e-9


def bonus_levels(
    bonus: HealthBonus, penalty: Scalar, cover: CohortPath, price: CohortPath, required: PerPath | CohortPath
) -> BonusLevels:
    """Levels of accounts that are judged where `cover` just covers their loss; notional is worth `price` there, as a level."""
    lowest, highest = bonus.rates(penalty)
    top, bottom = (cover + equity * price for equity in bonus.equities(penalty, required))
    return BonusLevels(top, bottom, lowest, highest - lowest)


def last_places(spare: Callable[[OfSides], OfSides], low: OfSides, high: OfSides) -> OfSides:
    """The places up to which keepers come, of longs and of shorts, between a `low` and a `high` one each: where `spare` changes its
    sign, what may be closed for the penalty of a place less what there is to close by then. It rises with the place. It is taken
    to run straight between a few places, and then once more between the two that are nearest and the one found. That is a fixed
    number of operations whose slopes are bounded, so what is found has derivatives along with everything else."""
    marks = [(low[0] + part * (high[0] - low[0]), low[1] + part * (high[1] - low[1])) for part in _MARKS]
    found = [spare(mark) for mark in marks]
    longs, shorts = (_nearest([mark[k] for mark in marks], [rest[k] for rest in found]) for k in (0, 1))
    middle = longs.crossing(), shorts.crossing()
    rest = spare(middle)
    return longs.refined(middle[0], rest[0]), shorts.refined(middle[1], rest[1])


_MARKS = (0.0, 0.25, 0.5, 0.75, 1.0)


class _Bracket(NamedTuple):
    """Two places between which something that rises changes its sign, and what it is there."""

    low: PerPath
    at_low: PerPath
    high: PerPath
    at_high: PerPath

    def crossing(self) -> PerPath:
        """Where a straight line between them does."""
        return self.low + (self.high - self.low) * _part_negative(self.at_low, self.at_high)

    def refined(self, place: PerPath, found: PerPath) -> PerPath:
        """Where two straight lines do, that meet at a place in between."""
        before, behind = _part_negative(self.at_low, found), _part_negative(found, self.at_high)
        return self.low + (place - self.low) * before + (self.high - place) * behind


def _nearest(places: list[PerPath], found: list[PerPath]) -> _Bracket:
    bracket = _Bracket(places[0], found[0], places[1], found[1])
    for k in range(1, len(places) - 1):
        further = _Bracket(places[k], found[k], places[k + 1], found[k + 1])
        bracket = _Bracket(*(jnp.where(found[k] < 0, *both) for both in zip(further, bracket, strict=True)))
    return bracket


def _part_negative(start: PerPath, end: PerPath) -> PerPath:
    """Of a straight rise the part that is below nothing."""
    rises = (start < 0) & (end > 0)
    crossed = -start / jnp.where(rises, end - start, 1.0)
    return jnp.where(rises, crossed, jnp.where(start < 0, 1.0, 0.0))
