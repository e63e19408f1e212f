"""The random numbers: Philox against its published vectors, the inverse normal against SciPy, and independence.

Samples are of a million numbers, in the engine's usual single precision; what each test would see is said in its docstring.
"""

from itertools import combinations, product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import ndtr, ndtri
from statistical import assert_law, assert_mean

from calibrate.shocks import (
    PathIds,
    Seed,
    Shocks,
    derived_seed,
    normal,
    path_ids,
    philox,
    seed_words,
    shocks_of_steps,
    start_normal,
    uniform,
)

PATHS = STEPS = 1000
SINGLE, DOUBLE = np.dtype(np.float32), np.dtype(np.float64)

# Counter, key and output words, from the known answers that come with Random123 (Salmon et al., SC 2011).
KNOWN_ANSWERS = {
    "all zeros": ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    "all ones": ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    "digits of pi": ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
}


def words(text: str) -> list[jax.Array]:
    return [jnp.uint32(int(word, 16)) for word in text.split()]


@pytest.mark.parametrize("name", KNOWN_ANSWERS)
def test_the_generator_gives_the_published_answers(name: str) -> None:
    counter, key, expected = KNOWN_ANSWERS[name]
    found = philox(tuple(words(counter)), Seed(*words(key)))
    assert " ".join(f"{int(word):08x}" for word in found) == expected


# --- from words to numbers ------------------------------------------------------------------------------------------------


def tail_places() -> np.ndarray:
    """Places in the tail, 0 (furthest out) to 2**31 - 1 (the median): all of both ends, and many between."""
    last, many = 2**31 - 1, 200_000
    ends = np.arange(4096)
    between = np.concatenate([np.geomspace(1, last, many), np.linspace(0, last, many)]).astype(np.int64)
    return np.unique(np.concatenate([ends, last - ends, between]))


@pytest.mark.parametrize(("dtype", "largest_error"), [(SINGLE, 2.5e-6), (DOUBLE, 1.6e-6)])
def test_normals_are_the_inverse_normal_distribution_function(dtype: np.dtype, largest_error: float) -> None:
    """Not statistical: an absolute error of 2.5e-6 in single precision, of 1.6e-6 in double, is seen anywhere in the tail."""
    places = tail_places()
    exact = ndtri((places + 0.5) * 2.0**-32)
    assert exact.min() < -6.3
    assert exact.max() > -1e-9
    for upper, sign in ((0, 1), (1, -1)):
        with jax.enable_x64(dtype == DOUBLE):
            z = np.asarray(normal(jnp.asarray((2 * places + upper).astype(np.uint32)), dtype), np.float64)
        error = np.abs(z - sign * exact)
        assert error.max() < largest_error
        assert error[exact < -6].max() < 1e-6, "beyond six standard deviations"


def test_uniforms_stay_within_the_unit_interval() -> None:
    ends = np.array([0, 1, 2**31, 2**32 - 2, 2**32 - 1], np.uint32)
    with jax.enable_x64(True):
        double = np.asarray(uniform(jnp.asarray(ends), DOUBLE))
    np.testing.assert_array_equal(double, (ends + 0.5) / 2**32)
    single = np.asarray(uniform(jnp.asarray(ends), SINGLE))
    assert single[0] > 0
    assert single[-1] <= 1


# --- the law of many ------------------------------------------------------------------------------------------------------


def draw(seed: int, paths: np.ndarray, steps: np.ndarray) -> Shocks:
    key, ids = seed_words(seed), path_ids(paths)
    return shocks_of_steps(key, ids, jnp.asarray(steps, jnp.uint32), SINGLE, continuous=True)


@pytest.fixture(scope="module")
def shocks() -> Shocks:
    return Shocks(*(np.asarray(s, np.float64) for s in draw(1, np.arange(PATHS), np.arange(STEPS))))


@pytest.mark.parametrize("name", Shocks._fields)
def test_every_shock_has_its_distribution(shocks: Shocks, name: str) -> None:
    """Sees a gap of 0.6 % in the distribution function."""
    cdf = ndtr if name.endswith("normal") else lambda u: np.clip(u, 0, 1)
    assert_law(getattr(shocks, name), cdf, resolution=0.006)


@pytest.mark.parametrize("name", ["return_normal", "volatility_normal"])
def test_normals_have_the_moments_of_a_normal(shocks: Shocks, name: str) -> None:
    """Sees errors of 0.011 in the mean, 0.015 in the variance, 0.04 in the third and 0.1 in the fourth moment, and a third of
    the probability of a move beyond three and a half standard deviations."""
    z = getattr(shocks, name).ravel()
    for power, moment, resolution in ((1, 0, 0.011), (2, 1, 0.015), (3, 0, 0.04), (4, 3, 0.1)):
        assert_mean(z**power, moment, resolution=resolution)
    for side in (-1, 1):
        assert_mean(side * z > 3, ndtr(-3), resolution=0.3 * ndtr(-3))


@pytest.mark.parametrize("name", ["jump_uniform", "low_uniform", "high_uniform"])
def test_uniforms_have_the_moments_of_a_uniform(shocks: Shocks, name: str) -> None:
    """Sees an error of 0.003 in the mean and in the mean square, and of 6 % in the share below 1 %, where jumps are."""
    u = getattr(shocks, name).ravel()
    assert_mean(u, 1 / 2, resolution=0.003)
    assert_mean(u**2, 1 / 3, resolution=0.0031)
    assert_mean(u < 0.01, 0.01, resolution=0.0011)


# --- independence ---------------------------------------------------------------------------------------------------------


def standardised(name: str, samples: np.ndarray) -> np.ndarray:
    return samples if name.endswith("normal") else (samples - 0.5) * np.sqrt(12)


def assert_uncorrelated(a: np.ndarray, b: np.ndarray) -> None:
    """Two arrays of mean 0 and variance 1: neither they nor their squares are correlated, to 0.012 and 0.03."""
    assert_mean((a * b).ravel(), 0.0, resolution=0.012)
    assert_mean(((a**2 - 1) * (b**2 - 1)).ravel(), 0.0, resolution=0.03)


@pytest.mark.parametrize(("one", "other"), [*combinations(Shocks._fields, 2)])
def test_the_shocks_of_a_step_are_independent(shocks: Shocks, one: str, other: str) -> None:
    """Sees a correlation of 0.012, and one of 0.015 between the squares of normals."""
    assert_uncorrelated(*(standardised(name, getattr(shocks, name)) for name in (one, other)))


@pytest.mark.parametrize("name", Shocks._fields)
def test_neighbouring_steps_and_paths_are_independent(shocks: Shocks, name: str) -> None:
    """Sees a correlation of 0.012 between neighbours in time and in number."""
    x = standardised(name, getattr(shocks, name))
    assert_uncorrelated(x[1:], x[:-1])
    assert_uncorrelated(x[:, 1:], x[:, :-1])


ELSEWHERE = {
    "the next seed": (2, 0, 0),
    "a seed that differs beyond 32 bits": (1 + 2**32, 0, 0),
    "paths beyond 2**32": (1, 2**32, 0),
    "later paths": (1, PATHS, 0),
    "later steps": (1, 0, STEPS),
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_other_seeds_paths_and_steps_give_other_numbers(shocks: Shocks, name: str) -> None:
    """Sees a correlation of 0.012 with the numbers of seed 1."""
    seed, first_path, first_step = ELSEWHERE[name]
    others = draw(seed, first_path + np.arange(PATHS), first_step + np.arange(STEPS))
    for field in Shocks._fields:
        here, there = (np.asarray(getattr(s, field), np.float64) for s in (shocks, others))
        # Two of a million numbers with 24 bits agree by chance in a share of about 1e-7.
        assert np.mean(here == there) < 1e-5
        assert_uncorrelated(standardised(field, here), standardised(field, there))


def test_the_normal_of_the_start_is_its_own() -> None:
    """Sees a correlation of 0.012 between a path's start and its first step, and a gap of 0.6 % in the distribution function."""
    paths = np.arange(1_000_000)
    first = np.asarray(start_normal(seed_words(1), path_ids(paths), SINGLE), np.float64)
    assert_law(first, ndtr, resolution=0.006)
    step = draw(1, paths, np.arange(1))
    for field in Shocks._fields:
        assert_uncorrelated(first, standardised(field, np.asarray(getattr(step, field), np.float64)[0]))


def test_a_shared_factor_is_seen(shocks: Shocks) -> None:
    """The test of the test: two per cent of one normal in the other."""
    z, w = shocks.return_normal, shocks.volatility_normal
    with pytest.raises(AssertionError, match="standard errors from"):
        assert_uncorrelated(z, np.sqrt(1 - 0.02**2) * w + 0.02 * z)


def test_any_part_of_the_numbers_can_be_drawn_again(shocks: Shocks) -> None:
    paths, steps = np.array([3, 500, 999]), np.array([0, 77])
    again = draw(1, paths, steps)
    for field in Shocks._fields:
        np.testing.assert_array_equal(np.asarray(getattr(again, field)), getattr(shocks, field)[np.ix_(steps, paths)])


def test_path_numbers_and_seeds_keep_all_their_bits() -> None:
    number = 2**40 + 2**33 + 5
    assert path_ids(np.array([number])) == PathIds(jnp.uint32([5]), jnp.uint32([2**8 + 2]))
    assert seed_words(number) == Seed(jnp.uint32(5), jnp.uint32(2**8 + 2))


# --- seeds for purposes ---------------------------------------------------------------------------------------------------


def test_derived_seeds_differ_by_seed_purpose_and_number() -> None:
    purposes = ("optimiser", "rehearsal", "certificate", "frontier", "frontier certificate", "gradient check")
    seeds = (0, 1, 2, 2**32, 2**32 + 1, 2**64 - 1)
    derived = [derived_seed(*of) for of in product(seeds, purposes, range(100))]
    assert len(set(derived)) == len(derived)
    assert not set(derived) & set(seeds)
    assert all(0 <= seed < 2**64 for seed in derived)


def test_a_derived_seed_never_changes() -> None:
    """Else earlier results could not be made again."""
    assert derived_seed(1, "certificate", 2) == 2560708864961954727
