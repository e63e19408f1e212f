"""The continuum of accounts: its closed forms against quadrature, each other and difference quotients, in double precision."""

from collections.abc import Iterator
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import ndtr, ndtri

from calibrate.book import (
    Below,
    Closed,
    Cohort,
    Density,
    accounts_below,
    collateral_of,
    density_at,
    knot_shares,
    lacking,
    lay_out,
    level_holding,
    share_below,
    share_short_of,
)

DOUBLE = np.dtype(np.float64)
# Compiled once for each shape.
below_level, level_of, height_at = jax.jit(accounts_below), jax.jit(level_holding), jax.jit(density_at)


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def random_density(seed: int, *, cohorts: int = 3, segments: int = 7) -> Density:
    """Cohorts of uneven segments, their densities apart by orders of magnitude."""
    rng = np.random.default_rng(seed)
    knots = 0.01 + np.cumsum(rng.exponential(0.03, (cohorts, segments + 1)) + 1e-4, axis=1)
    parts = rng.gamma(0.5, size=(cohorts, segments)) + 1e-3
    shares = np.concatenate([np.zeros((cohorts, 1)), np.cumsum(parts, axis=1)], axis=1)
    return Density(jnp.asarray(knots), jnp.asarray(shares / shares[:, -1:]))


def levels_within(density: Density, seed: int, *, number: int = 40, beyond: float = 0.0) -> np.ndarray:
    """Levels by cohort between the first and the last knot, and by a share `beyond` of that range to either side."""
    knots = np.asarray(density.knots)
    place = np.random.default_rng(seed).uniform(-beyond, 1 + beyond, (len(knots), number))
    return knots[:, :1] + place * (knots[:, -1:] - knots[:, :1])


def slope_of_shares(knots: np.ndarray, shares: np.ndarray, level: float) -> float:
    """The density at a level, written anew."""
    segment = np.searchsorted(knots, level, side="right") - 1
    if not 0 <= segment < len(knots) - 1:
        return 0.0
    return float((shares[segment + 1] - shares[segment]) / (knots[segment + 1] - knots[segment]))


SEEDS = [1, 2]


@pytest.mark.parametrize("seed", SEEDS)
def test_shares_and_collateral_below_a_level_are_the_integrals_of_the_density(seed: int) -> None:
    density = random_density(seed)
    levels = levels_within(density, seed, number=12, beyond=0.3)
    below = below_level(density, jnp.asarray(levels))
    for cohort, (knots, shares) in enumerate(zip(np.asarray(density.knots), np.asarray(density.shares), strict=True)):
        height = partial(slope_of_shares, knots, shares)
        for path, level in enumerate(levels[cohort]):
            parts = [knots[0], *knots[(knots > knots[0]) & (knots < level)], max(level, knots[0])]
            pairs = list(pairwise(parts))
            share = sum(quad(height, *pair)[0] for pair in pairs)
            collateral = sum(quad(lambda c, height=height: c * height(c), *pair)[0] for pair in pairs)
            np.testing.assert_allclose(below.share[cohort, path], share, rtol=1e-12, atol=1e-14)
            np.testing.assert_allclose(below.collateral[cohort, path], collateral, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_density_is_the_slope_of_the_shares(seed: int) -> None:
    density = random_density(seed)
    levels = levels_within(density, seed, beyond=0.3)
    found = np.asarray(height_at(density, jnp.asarray(levels)))
    for cohort, (knots, shares) in enumerate(zip(np.asarray(density.knots), np.asarray(density.shares), strict=True)):
        expected = [slope_of_shares(knots, shares, level) for level in levels[cohort]]
        np.testing.assert_allclose(found[cohort], expected, rtol=1e-12)
        at_knots = np.asarray(height_at(density, jnp.asarray(np.broadcast_to(knots, (3, len(knots))))))[cohort]
        np.testing.assert_allclose(
            at_knots[:-1], np.asarray(density.heights)[cohort], rtol=1e-12, err_msg="right of knots"
        )
        assert at_knots[-1] == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_levels_and_shares_are_inverse_to_each_other(seed: int) -> None:
    density = random_density(seed)
    levels = levels_within(density, seed)
    share = below_level(density, jnp.asarray(levels)).share
    np.testing.assert_allclose(level_of(density, share), levels, rtol=1e-9)
    wanted = jnp.asarray(np.random.default_rng(seed).uniform(0, 1, (3, 40)))
    np.testing.assert_allclose(below_level(density, level_of(density, wanted)).share, wanted, atol=1e-13)


def test_outside_the_knots_there_is_nobody() -> None:
    density = random_density(5)
    low, high = density.knots[:, :1] - 0.5, density.knots[:, -1:] + 0.5
    below, all_of_them = below_level(density, low), below_level(density, high)
    np.testing.assert_allclose(below.share, 0.0, atol=1e-14)
    np.testing.assert_allclose(below.collateral, 0.0, atol=1e-14)
    np.testing.assert_allclose(all_of_them.share, 1.0, rtol=1e-13)
    middles = (density.knots[:, 1:] + density.knots[:, :-1]) / 2
    mean = jnp.sum(jnp.diff(density.shares, axis=1) * middles, axis=1, keepdims=True)
    np.testing.assert_allclose(all_of_them.collateral, mean, rtol=1e-13)
    nothing, everything = jnp.zeros((3, 1)), jnp.ones((3, 1))
    np.testing.assert_allclose(level_of(density, nothing), density.knots[:, :1], rtol=1e-14)
    np.testing.assert_allclose(level_of(density, everything), density.knots[:, -1:], rtol=1e-13)


# --- derivatives ----------------------------------------------------------------------------------------------------------


def away_from_knots(density: Density, seed: int) -> jax.Array:
    """One level in every segment of every cohort, in its middle half, where nothing bends within a difference quotient."""
    knots = np.asarray(density.knots)
    place = np.random.default_rng(seed).uniform(0.25, 0.75, (knots.shape[0], knots.shape[1] - 1))
    return jnp.asarray(knots[:, :-1] + place * np.diff(knots, axis=1))


def below(density: Density, level: jax.Array) -> Below:
    """The accounts below a level, as the engine arrives at them: share first."""
    share = share_below(density, level)
    return Below(share, collateral_of(density, share, level))


def closed_between(density: Density, low: jax.Array, high: jax.Array) -> Closed:
    return Closed(low, below(density, low), high, below(density, high))


FUNCTIONS = {
    "share": lambda density, level: share_below(density, level),
    "collateral": lambda density, level: below(density, level).collateral,
    "level": lambda density, level: level_holding(density, 0.9 * share_below(density, level)),
    "lacking to a strike": lambda density, level: lacking(
        density, level, closed_between(density, level - 0.02, level + 0.02)
    ),
    "lacking of all": lambda density, level: lacking(
        density, 1.3 * level, closed_between(density, level - 0.02, 1.1 * level)
    ),
    "lacking of none": lambda density, level: lacking(density, level, closed_between(density, level, level + 0.02)),
    "share short of a strike": lambda density, level: share_short_of(
        density, level, closed_between(density, level - 0.02, level + 0.02)
    ),
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_derivatives_are_the_limits_of_difference_quotients(name: str, seed: int) -> None:
    density = random_density(seed)
    function = jax.jit(partial(FUNCTIONS[name], density))
    levels = away_from_knots(density, seed)
    _, slope = jax.jvp(function, (levels,), (jnp.ones_like(levels),))
    step = 1e-8
    quotient = (function(levels + step) - function(levels - step)) / (2 * step)
    np.testing.assert_allclose(slope, quotient, rtol=2e-6, atol=2e-7)


def test_a_planted_error_in_a_derivative_is_seen() -> None:
    """The test of the test: the density of the segment next door."""
    density = random_density(1)
    levels = away_from_knots(density, 1)
    slope = jax.jvp(partial(share_below, density), (levels,), (jnp.ones_like(levels),))[1]
    beside = jnp.roll(slope, 1, axis=1)
    assert (np.abs(beside - slope) > 1e-3 * np.abs(slope)).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_lacking_is_the_integral_up_to_the_strike(seed: int) -> None:
    density = random_density(seed)
    rng = np.random.default_rng(seed)
    low, high = np.sort(np.stack([levels_within(density, n, number=8) for n in (seed, seed + 9)]), axis=0)
    strike = low + rng.uniform(-0.3, 1.5, low.shape) * (high - low)
    closed = closed_between(density, jnp.asarray(low), jnp.asarray(high))
    found = lacking(density, jnp.asarray(strike), closed), share_short_of(density, jnp.asarray(strike), closed)
    for cohort, (knots, shares) in enumerate(zip(np.asarray(density.knots), np.asarray(density.shares), strict=True)):
        height = partial(slope_of_shares, knots, shares)
        for path in range(low.shape[1]):
            a, k = low[cohort, path], strike[cohort, path]
            b = min(k, high[cohort, path])
            inside = knots[(knots > a) & (knots < b)]
            pairs = list(pairwise([a, *inside, b])) if b > a else []
            lack = sum(quad(lambda c, k=k, height=height: (k - c) * height(c), *pair)[0] for pair in pairs)
            share = sum(quad(height, *pair)[0] for pair in pairs)
            np.testing.assert_allclose(found[0][cohort, path], lack, rtol=1e-9, atol=1e-14)
            np.testing.assert_allclose(found[1][cohort, path], share, rtol=1e-9, atol=1e-14)


def test_collateral_by_share_and_by_level_are_the_same() -> None:
    density = random_density(3)
    levels = jnp.asarray(levels_within(density, 3, beyond=0.3))
    np.testing.assert_allclose(below(density, levels).collateral, below_level(density, levels).collateral, atol=1e-14)
    np.testing.assert_allclose(below(density, levels).share, below_level(density, levels).share, rtol=1e-15)


def test_beyond_all_accounts_derivatives_are_zero_and_finite() -> None:
    density = random_density(6)
    far = jnp.broadcast_to(density.knots[:, -1:] + 0.2, (3, 2))
    _, moved = jax.jvp(partial(below, density), (far,), (jnp.ones_like(far),))
    assert not np.asarray(moved.share).any()
    assert not np.asarray(moved.collateral).any()


# --- laying a distribution on knots ---------------------------------------------------------------------------------------

# A mixture as jobs give it: weight, median of the excess over the requirement, spread of its logarithm; and the requirement.
MIXTURE = ((0.35, 0.6, 0.7), (0.65, 4.0, 0.9))
REQUIREMENT = 0.04


def mixture_share(collateral: np.ndarray) -> np.ndarray:
    """The exact distribution function of collateral `REQUIREMENT * (1 + excess)`, the excess a mixture of lognormals."""
    excess = np.maximum(np.asarray(collateral, float) / REQUIREMENT - 1, 1e-300)
    return sum(weight * ndtr(np.log(excess / median) / spread) for weight, median, spread in MIXTURE)


def mixture_quantile(shares: np.ndarray) -> np.ndarray:
    """Its inverse by bisection; the last account is put where all but 1e-4 of them are below."""
    low, high = np.full_like(shares, 1e-6), np.full_like(shares, 1e4)
    for _ in range(100):
        middle = np.sqrt(low * high)
        above = mixture_share(REQUIREMENT * (1 + middle)) < np.minimum(shares, 1 - 1e-4)
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return REQUIREMENT * (1 + np.where(shares > 0, low, 0.0))


def laid_out(segments: int) -> tuple[Density, np.ndarray]:
    cohorts = [
        Cohort(1, 3.0, mixture_quantile),
        Cohort(-1, 1.0, lambda q: REQUIREMENT * (1 + np.exp(0.9 * ndtri(0.99 * q + 1e-3)))),
    ]
    book = lay_out(cohorts, reference_margin=REQUIREMENT, responds=True, segments=segments, dtype=DOUBLE)
    return book.density, np.asarray(book.weight)


def errors_in_share(segments: int) -> np.ndarray:
    """The largest error in the share below a level: among the riskiest quarter of accounts, the riskier half, and all."""
    density, _ = laid_out(segments)
    levels = mixture_quantile(np.linspace(0, 0.9999, 5_001))
    exact = mixture_share(levels)
    error = np.abs(np.asarray(below_level(density, jnp.asarray(np.stack([levels, levels]))).share)[0] - exact)
    return np.array([error[exact <= share].max() for share in (0.25, 0.5, 1.0)])


def test_a_mixture_is_met_better_the_finer_it_is_laid_out() -> None:
    """How many accounts are on the wrong side of any level: with 8, 12 and 24 segments 0.68, 0.32 and 0.09 % where collateral
    is low; 1.1, 0.50 and 0.13 % in the riskier half; among the safest, which are lumped together, up to 18, 12 and 6 %."""
    coarse, default, fine = (errors_in_share(segments) for segments in (8, 12, 24))
    assert (coarse < [0.0069, 0.011, 0.18]).all()
    assert (default < [0.0033, 0.0051, 0.12]).all()
    assert (fine < [0.0009, 0.0014, 0.06]).all()
    assert (np.log2(coarse / fine)[:2] > 1.8 * np.log2(24 / 8)).all(), "of second order where it matters"


@pytest.mark.parametrize("segments", [8, 12, 24])
def test_a_laid_out_book_has_its_knots_at_the_quantiles(segments: int) -> None:
    density, _ = laid_out(segments)
    shares = knot_shares(segments)
    np.testing.assert_allclose(density.shares, np.stack([shares, shares]), rtol=1e-14)
    inside = slice(1, -1)
    np.testing.assert_allclose(mixture_share(np.asarray(density.knots)[0, inside]), shares[inside], atol=2e-4)
    assert (np.diff(density.knots, axis=1) > 0).all()


def test_weights_of_cohorts_sum_to_one() -> None:
    density, weight = laid_out(12)
    np.testing.assert_allclose(weight, [0.75, 0.25], rtol=1e-14)
    np.testing.assert_allclose(density.shares[:, -1], 1.0, rtol=1e-14)
    assert not np.asarray(density.shares[:, 0]).any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("collateral", [0.1, 20.0, 1000.0])
def test_accounts_of_the_very_same_collateral_are_laid_out_too(collateral: float, dtype: type) -> None:
    cohort = Cohort(1, 1.0, lambda shares: np.full_like(shares, collateral))
    density = lay_out([cohort], reference_margin=0.05, responds=False, segments=24, dtype=np.dtype(dtype)).density
    np.testing.assert_allclose(density.knots, collateral, rtol=3e-4)
    around = jnp.asarray(collateral * np.array([[0.999, 1.001]]), dtype)
    below = below_level(density, around)
    np.testing.assert_allclose(below.share, [[0.0, 1.0]], atol=1e-6)
    np.testing.assert_allclose(below.collateral, [[0.0, collateral]], rtol=3e-4)
    middle = jnp.mean(density.knots, axis=1, keepdims=True)
    assert 0 < below_level(density, middle).share[0, 0] < 1


def test_distinct_accounts_are_laid_out_where_they_are() -> None:
    quantile = lambda shares: 0.05 + 0.2 * shares  # noqa: E731
    book = lay_out([Cohort(1, 1.0, quantile)], reference_margin=0.05, responds=False, segments=200, dtype=DOUBLE)
    np.testing.assert_allclose(book.density.knots[0], quantile(knot_shares(200)), rtol=1e-14)


def test_collateral_follows_the_requirement_only_where_leverage_responds() -> None:
    requirement = jnp.asarray([0.04, 0.06])
    cohorts = [Cohort(1, 1.0, mixture_quantile)]
    for responds, expected in ((True, [1.0, 1.5]), (False, [1.0, 1.0])):
        book = lay_out(cohorts, reference_margin=REQUIREMENT, responds=responds, segments=8, dtype=DOUBLE)
        np.testing.assert_allclose(book.scale(requirement), expected, rtol=1e-14)
