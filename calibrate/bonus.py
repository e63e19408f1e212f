"""A penalty that grows as health falls: what each account pays, and up to which one keepers come.

With one penalty for all keepers close as much as the market absorbs for it. Where an account that is worse off pays more, they
start with the one that pays most and go on until the next pays no more than what it costs to close it: gas, and the displacement
that all closes before it have left. Of the accounts in that order (their *place*) both what the next pays and what is closed
before it are known, so where the two meet is the zero of a rising function.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from calibrate.extremes import clipped, larger, smaller
from calibrate.slices import Slice
from calibrate.units import CohortPath, PerPath, Scalar
from calibrate.venue.incentive import HealthBonus

SidePath = Float[Array, "side path"]


class BonusLevels(NamedTuple):
    """The penalty in levels of collateral: a rate of notional of `lowest` at `top` and above, of `lowest + rise` at `bottom` and
    below, and linear in between. A place of 0 is `top`, of 1 `bottom`; above the top lie the places down to -1."""

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

    def average(self, accounts: Slice) -> CohortPath:
        """The rate of the accounts of each cohort, on average."""
        some = accounts.share > _NOBODY
        beyond = (accounts.lacking(self.top) - accounts.lacking(self.bottom)) / self._width
        return self.lowest + self.rise * clipped(
            jnp.where(some, beyond, 0.0) / jnp.where(some, accounts.share, 1.0), 0.0, 1.0
        )

    def level(self, place: CohortPath, highest: CohortPath) -> CohortPath:
        """The level of a place, where the place -1 is the level `highest`."""
        down, up = place * (self.top - self.bottom), place * larger(highest - self.top, 0.0)
        return self.top - jnp.where(place > 0, down, up)

    def place(self, level: CohortPath, highest: CohortPath) -> CohortPath:
        """The other way round."""
        above = larger(highest - self.top, _NARROWEST)
        return clipped((self.top - level) / jnp.where(level > self.top, above, self._width), -1.0, 1.0)

    def rate(self, place: PerPath) -> PerPath:
        """The penalty of a place."""
        return self.lowest + self.rise * larger(place, 0.0)

    @property
    def _width(self) -> CohortPath:
        return larger(self.top - self.bottom, _NARROWEST)


# Of a cohort, a share that shows in no figure; of collateral, a distance that does not.
_NOBODY, _NARROWEST = 1e-12, 1e-9


def bonus_levels(
    bonus: HealthBonus, penalty: Scalar, cover: CohortPath, price: CohortPath, required: PerPath | CohortPath
) -> BonusLevels:
    """Levels of accounts that are judged where `cover` just covers their loss; notional is worth `price` there, as a level."""
    lowest, highest = bonus.rates(penalty)
    top, bottom = (cover + equity * price for equity in bonus.equities(penalty, required))
    return BonusLevels(top, bottom, lowest, highest - lowest)


def last_place(left: Callable[[SidePath], SidePath], first: SidePath) -> SidePath:
    """The place up to which keepers come, of longs and of shorts: where `left` changes its sign, by how much the penalty of a place
    lets closes move the price less how far they have by then. It is -1 where all is worth closing, and where nothing is that of
    the account that would be closed `first`. The rule of false position, after Illinois: every guess is a continuous function
    of what it is made of."""
    low, high = -jnp.ones_like(first), lax.stop_gradient(first)
    at_low, at_high = left(low), left(high)
    place, was_short = smaller(0 * first, first), None
    for _ in range(_GUESSES):
        found = left(place)
        short = found < 0
        if was_short is not None:
            # An end that stays for a second time counts for less, so that it is left behind.
            at_low, at_high = (
                jnp.where(short | was_short, at_low, at_low / 2),
                jnp.where(short & was_short, at_high / 2, at_high),
            )
        low, at_low = jnp.where(short, place, low), jnp.where(short, found, at_low)
        high, at_high = jnp.where(short, high, place), jnp.where(short, at_high, found)
        place, was_short = low + (high - low) * clipped(-at_low / larger(at_high - at_low, _TINY), 0.0, 1.0), short
    # Two steps of Newton's from there. The last alone has derivatives: those of the place where `left` is nothing.
    for _ in range(2):
        place = lax.stop_gradient(place)
        rest, slope = jax.jvp(left, (place,), (jnp.ones_like(place),))
        slope = lax.stop_gradient(slope)
        steep = slope > _FLAT
        place = clipped(place - jnp.where(steep, rest / jnp.where(steep, slope, 1.0), 0.0), -1.0, first)
    return place


_GUESSES = 6
_TINY, _FLAT = 1e-30, 1e-6
