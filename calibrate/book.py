"""The accounts, as a continuum: cohorts and the integrals over them that liquidation needs.

Accounts of one side that differ only in their collateral form a cohort. Inside it open interest is spread over `c`, the
collateral per unit of initial notional, with a piecewise constant density between *knots*; so the share of accounts below a
level, the loss they make below a price and the level that holds a given share all have exact closed forms, with derivatives.
A lognormal mixture or a table of real positions is laid on such knots once, before the simulation (`lay_out`); how close they
come is a matter of the number of knots and is measured in the tests.

Fronts and levels are in units of `c` at the *reference requirement*. Where users keep their share of the allowed leverage
(`responds`), everyone's collateral scales with the initial requirement, and the caller divides by that scale.
"""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

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
    weight: PerCohort
    density: Density
    reference_margin: Scalar
    responds: bool = eqx.field(static=True)

    def scale(self, initial_margin: PerPath) -> PerPath:
        """By how much everyone's collateral differs from the reference, given the initial requirement at the start."""
        return initial_margin / self.reference_margin if self.responds else jnp.ones_like(initial_margin)

    def lowest_collateral(self, like: PerPath) -> CohortPath:
        return jnp.broadcast_to(self.density.knots[:, :1], (self.side.shape[0], *like.shape)).astype(like.dtype)


# --- what lies below a level ----------------------------------------------------------------------------------------------
# The derivatives are written out: they need only the density at the level, which every tangent then shares.


class Below(NamedTuple):
    """The accounts of each cohort with collateral below a level: their share, and the collateral they put up."""

    share: CohortPath
    collateral: CohortPath

    def __sub__(self, other: "Below") -> "Below":
        return Below(self.share - other.share, self.collateral - other.collateral)


@jax.custom_jvp
def accounts_below(density: Density, level: CohortPath) -> Below:
    """Share of each cohort below `level`, and its collateral: the integrals of 1 and of `c` up to the level."""
    heights, knots = density.heights, density.knots
    share = collateral = jnp.zeros_like(level)
    for j in range(heights.shape[1]):
        start = knots[:, j, None]
        reached = jnp.clip(level, start, knots[:, j + 1, None])
        # The difference is exact however narrow the segment; a difference of integrals would not be.
        part = heights[:, j, None] * (reached - start)
        share = share + part
        collateral = collateral + part * (reached + start)
    return Below(share, collateral / 2)


@accounts_below.defjvp
def _accounts_below_jvp(primals, tangents):  # type: ignore[no-untyped-def]
    density, level = primals
    _, level_dot = tangents
    rate = _computed_once(density_at(density, level)) * level_dot
    return accounts_below(density, level), Below(rate, rate * level)


@jax.custom_jvp
def level_holding(density: Density, share: CohortPath) -> CohortPath:
    """The collateral below which a given share of each cohort lies."""
    level = jnp.broadcast_to(density.knots[:, :1], share.shape).astype(share.dtype)
    for j in range(density.knots.shape[1] - 1):
        start, end = density.shares[:, j, None], density.shares[:, j + 1, None]
        width = density.knots[:, j + 1, None] - density.knots[:, j, None]
        level = level + width / (end - start) * jnp.clip(share - start, 0.0, end - start)
    return level


@level_holding.defjvp
def _level_holding_jvp(primals, tangents):  # type: ignore[no-untyped-def]
    density, share = primals
    _, share_dot = tangents
    level = level_holding(density, share)
    rate = density_at(density, level)
    return level, _computed_once(jnp.where(rate > 0, 1 / jnp.where(rate > 0, rate, 1.0), 0.0)) * share_dot


def density_at(density: Density, level: CohortPath) -> CohortPath:
    """Share of accounts per unit of collateral at a level (to its right where it changes)."""
    heights, knots = density.heights, density.knots
    rate = jnp.where(level >= knots[:, :1], heights[:, :1], 0.0)
    for j in range(1, heights.shape[1]):
        rate = jnp.where(level >= knots[:, j, None], heights[:, j, None], rate)
    return jnp.where(level >= knots[:, -1:], 0.0, rate)


def _computed_once(values: CohortPath) -> CohortPath:
    """The same values, written to memory. Without this the compiler computes them anew for every tangent that they multiply:
    it copies cheap operations into their consumers. It does not look into the branches of a condition."""
    return lax.cond(values[0, 0] > -jnp.inf, lambda: values, lambda: jnp.zeros_like(values))


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


def lay_out(cohorts: list[Cohort], *, reference_margin: float, responds: bool, segments: int, dtype: np.dtype) -> Book:
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
