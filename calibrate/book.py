"""The accounts, as a continuum: cohorts and the integrals over them that liquidation needs.

Accounts of one side that differ only in their collateral form a cohort. Inside it open interest is spread over `c`, the
collateral per unit of initial notional, with a piecewise constant density between *knots*; so the share of accounts below a
level, the loss they make below a price and the level that holds a given share all have exact closed forms, with derivatives.
A lognormal mixture or a table of real positions is laid on such knots once, before the simulation (`lay_out`); how close they
come is a matter of the number of knots and is measured in the tests.

Fronts and levels are in units of `c` at the *reference requirement*. Where users keep their share of the allowed leverage
(`responds`), everyone's collateral scales with the initial requirement, and the caller divides by that scale.
"""

import functools
import operator
from collections.abc import Callable, Iterator
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from calibrate.compiled import computed_once
from calibrate.extremes import clipped, larger
from calibrate.units import CohortPath, KnotsOfCohort, PerCohort, PerPath, Scalar


class Density(NamedTuple):
    """Piecewise constant density of each cohort's accounts over `c`: knots, and the share of accounts below each. Both
    rise strictly along a cohort."""

    knots: KnotsOfCohort
    shares: KnotsOfCohort

    @property
    def heights(self) -> Float[Array, "cohort segment"]:
        return jnp.diff(self.shares, axis=1) / jnp.diff(self.knots, axis=1)


class Book(eqx.Module):
    """Cohorts: side (+1 long, -1 short), weight (share of open interest; sums to 1) and density over collateral."""

    side: PerCohort
    weight: PerCohort | CohortPath
    density: Density
    reference_margin: Scalar | Float[Array, "cohort 1"]
    responds: bool = eqx.field(static=True)

    @property
    def weights(self) -> CohortPath:
        """Weights by cohort and path; they differ between paths only where accounts have left the book on the way."""
        return self.weight if self.weight.ndim == 2 else self.weight[:, None]

    def thinned(self, left: CohortPath | None) -> "Book":
        """The same book when of each cohort only a part is left, whatever its collateral."""
        return self if left is None else eqx.tree_at(lambda book: book.weight, self, self.weights * left)

    def scale(self, initial_margin: PerPath | CohortPath) -> PerPath | CohortPath:
        """By how much everyone's collateral differs from the reference, given the initial requirement at the start. Where that
        depends on the cohort, so does the reference."""
        return initial_margin / self.reference_margin if self.responds else jnp.ones_like(initial_margin)

    def lowest_collateral(self, like: PerPath) -> CohortPath:
        return jnp.broadcast_to(self.density.knots[:, :1], (self.side.shape[0], *like.shape)).astype(like.dtype)

    def all_accounts(self, like: CohortPath) -> "tuple[CohortPath, Below]":
        """The highest collateral of each cohort, and everyone below it."""
        highest = jnp.broadcast_to(self.density.knots[:, -1:], like.shape)
        return highest, riskiest(self.density, jnp.ones_like(like), highest)

    def over_cohorts(self, share: CohortPath) -> PerPath:
        """What is a share of each cohort, as a share of all open interest."""
        return sum_of_rows(self.weights * share)

    def average(self, of_cohorts: PerPath | CohortPath) -> PerPath:
        """The average over open interest of what may differ between cohorts."""
        return of_cohorts if of_cohorts.ndim == 1 else self.over_cohorts(of_cohorts)

    def of_sides(self, share: CohortPath) -> tuple[PerPath, PerPath]:
        """The same, of longs and of shorts."""
        longs, of_all = self.side[:, None] > 0, self.weights * share
        return sum_of_rows(jnp.where(longs, of_all, 0.0)), sum_of_rows(jnp.where(longs, 0.0, of_all))


def sum_of_rows(values: CohortPath) -> PerPath:
    """The sum over cohorts, or whatever the first axis is. Written out: the compiler merges additions with what surrounds them,
    but not a reduction; and a time loop in which there is one it does not compile as a whole, which costs as much again."""
    return functools.reduce(operator.add, values)


def worst(values: CohortPath) -> PerPath:
    """The largest over cohorts, or whatever the first axis is."""
    return functools.reduce(larger, values)


# --- what lies below a level ----------------------------------------------------------------------------------------------
# The derivatives are written out: they need only the density at the level, which every direction then shares.


class Below(NamedTuple):
    """The accounts of each cohort with collateral below a level: their share, and the collateral they put up."""

    share: CohortPath
    collateral: CohortPath

    def __sub__(self, other: "Below") -> "Below":
        return Below(self.share - other.share, self.collateral - other.collateral)


@jax.custom_jvp
def share_below(density: Density, level: CohortPath) -> CohortPath:
    """Share of each cohort below `level`."""
    return computed_once(lambda: _share_below(density, level), level)


@share_below.defjvp
def _share_below_jvp(primals, tangents):  # type: ignore[no-untyped-def]
    density, level = primals
    share, rate = computed_once(lambda: (_share_below(density, level), density_at(density, level)), level)
    return share, rate * tangents[1]


def _share_below(density: Density, level: CohortPath) -> CohortPath:
    share = jnp.zeros_like(level)
    for height, start, end in _segments(density):
        # The difference is exact however narrow the segment; a difference of integrals would not be.
        share = share + height * (clipped(level, start, end) - start)
    return share


def _collateral_below(density: Density, level: CohortPath) -> CohortPath:
    """Collateral of the accounts of each cohort below `level`: the integral of `c` up to it."""
    twice = jnp.zeros_like(level)
    for height, start, end in _segments(density):
        reached = clipped(level, start, end)
        twice = twice + height * (reached - start) * (reached + start)
    return twice / 2


def accounts_below(density: Density, level: CohortPath) -> Below:
    """Both at once, for where no derivative is taken."""
    return Below(_share_below(density, level), _collateral_below(density, level))


def _segments(density: Density) -> Iterator[tuple[Float[Array, "cohort 1"], ...]]:
    """Height, start and end of one segment of each cohort after the other."""
    knots = _columns(density.knots)
    return zip(_columns(density.heights), knots[:-1], knots[1:], strict=True)


def _columns(of_cohorts: Float[Array, "cohort column"]) -> list[Float[Array, "cohort 1"]]:
    return [lax.slice_in_dim(of_cohorts, j, j + 1, axis=1) for j in range(of_cohorts.shape[1])]


@jax.custom_jvp
def level_holding(density: Density, share: CohortPath) -> CohortPath:
    """The collateral below which a given share of each cohort lies."""
    return computed_once(lambda: _level_holding(density, share), share)


@level_holding.defjvp
def _level_holding_jvp(primals, tangents):  # type: ignore[no-untyped-def]
    density, share = primals

    def level_and_rate() -> tuple[CohortPath, CohortPath]:
        level = computed_once(lambda: _level_holding(density, share), share)
        rate = density_at(density, level)
        return level, jnp.where(rate > 0, 1 / jnp.where(rate > 0, rate, 1.0), 0.0)

    level, rate = computed_once(level_and_rate, share)
    return level, rate * tangents[1]


def _level_holding(density: Density, share: CohortPath) -> CohortPath:
    level = density.knots[:, :1]
    for height, start, end in _segments_by_share(density):
        level = level + (clipped(share, start, end) - start) / height
    return level


@jax.custom_jvp
def collateral_of(density: Density, share: CohortPath, level: CohortPath) -> CohortPath:
    """Collateral of the given riskiest share of each cohort, all of which lies below `level`."""
    return computed_once(lambda: _collateral_of(density, share), level)


@collateral_of.defjvp
def _collateral_of_jvp(primals, tangents):  # type: ignore[no-untyped-def]
    density, share, level = primals
    return collateral_of(density, share, level), level * tangents[1]


def _collateral_of(density: Density, share: CohortPath) -> CohortPath:
    collateral = jnp.zeros_like(share)
    for knot, (height, start, end) in zip(_columns(density.knots), _segments_by_share(density), strict=False):
        part = clipped(share, start, end) - start
        collateral = collateral + part * (knot + part * (0.5 / height))
    return collateral


def _segments_by_share(density: Density) -> Iterator[tuple[Float[Array, "cohort 1"], ...]]:
    """Height of one segment of each cohort after the other, and the shares of accounts below its start and end."""
    shares = _columns(density.shares)
    return zip(_columns(density.heights), shares[:-1], shares[1:], strict=True)


def riskiest(density: Density, share: CohortPath, level: CohortPath) -> Below:
    """The given riskiest share of each cohort, all of which lies below `level`."""
    return Below(share, collateral_of(density, share, level))


class Closed(NamedTuple):
    """The accounts closed between two levels: the levels, and the accounts below each (`riskiest`)."""

    low: CohortPath
    below_low: Below
    high: CohortPath
    below_high: Below


def share_short_of(density: Density, strike: CohortPath, closed: Closed) -> CohortPath:
    """The share of each cohort that was closed with less collateral than `strike`."""
    below = jnp.where(strike < closed.high, share_below(density, strike), closed.below_high.share)
    return jnp.where(strike > closed.low, below - closed.below_low.share, 0.0)


@jax.custom_jvp
def lacking(density: Density, strike: CohortPath, closed: Closed) -> CohortPath:
    """What the accounts that were closed with less collateral than `strike` lack to reach it, in all."""
    return computed_once(lambda: _lacking_and_share(density, strike, closed)[0], strike)


@lacking.defjvp
def _lacking_jvp(primals, tangents):  # type: ignore[no-untyped-def]
    density, strike, closed = primals
    _, strike_dot, closed_dot = tangents
    value, share = computed_once(lambda: _lacking_and_share(density, strike, closed), strike)
    # What happens at the strike itself adds nothing, since nothing is lacking there; so no density is needed.
    at_high = jnp.where(strike < closed.high, 0.0, (strike - closed.high) * closed_dot.below_high.share)
    at_low = (strike - closed.low) * closed_dot.below_low.share
    return value, jnp.where(strike > closed.low, share * strike_dot + at_high - at_low, 0.0)


def _lacking_and_share(density: Density, strike: CohortPath, closed: Closed) -> tuple[CohortPath, CohortPath]:
    within = accounts_below(density, clipped(strike, closed.low, closed.high)) - closed.below_low
    short = strike > closed.low
    value = larger(strike * within.share - within.collateral, 0.0)
    return jnp.where(short, value, 0.0), jnp.where(short, within.share, 0.0)


def density_at(density: Density, level: CohortPath) -> CohortPath:
    """Share of accounts per unit of collateral at a level (to its right where it changes)."""
    rate = jnp.zeros_like(level)
    for height, start, _ in _segments(density):
        rate = jnp.where(level >= start, height, rate)
    return jnp.where(level >= density.knots[:, -1:], 0.0, rate)


# --- laying a distribution on knots ---------------------------------------------------------------------------------------


class Cohort(NamedTuple):
    """One cohort before it is laid out: its side, its weight, and its accounts' quantile function of `c`."""

    side: int
    weight: float
    quantile: Callable[[np.ndarray], np.ndarray]


# Shares at which knots are placed: dense where liquidation happens first, that is among the least collateralised accounts.
def knot_shares(segments: int) -> np.ndarray:
    """Shares 0, ..., 1 in `segments` steps that grow steadily from the riskiest account on."""
    place = np.linspace(0.0, 1.0, segments + 1)
    return place**2


def lay_out(
    cohorts: list[Cohort], *, reference_margin: float | np.ndarray, responds: bool, segments: int, dtype: np.dtype
) -> Book:
    """Put each cohort's distribution on knots at fixed shares; inside a segment accounts are spread evenly."""
    shares = knot_shares(segments)
    knots = np.stack([cohort.quantile(shares) for cohort in cohorts])
    # Accounts of the very same collateral would give a segment no width; a millionth is no one's concern.
    for j in range(segments):
        knots[:, j + 1] = np.maximum(knots[:, j + 1], knots[:, j] + 1e-6 * np.maximum(knots[:, j], 1.0))
    weight = np.array([cohort.weight for cohort in cohorts])
    as_array = lambda values: jnp.asarray(np.asarray(values, dtype=dtype))  # noqa: E731
    return Book(
        side=as_array([cohort.side for cohort in cohorts]),
        weight=as_array(weight / weight.sum()),
        density=Density(as_array(knots), as_array(np.broadcast_to(shares, knots.shape))),
        reference_margin=as_array(reference_margin),
        responds=responds,
    )
