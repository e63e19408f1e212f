"""The random numbers: Philox against its published vectors, normals against their definition, laws and independence.

Samples are of a million numbers, in the engine's usual single precision; what each test would see is said in its docstring.
"""

from itertools import combinations, product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn import Drawn, drawn
from scipy.special import ndtr
from statistical import assert_law, assert_mean
from venues import EVERYTHING_ON, LONGS_AND_SHORTS, Case

from calibrate.sampling import PlainSampling
from calibrate.shocks import (
    PathIds,
    Seed,
    derived_seed,
    normals,
    path_ids,
    philox,
    seed_words,
    shocks_of_steps,
    start_draws,
    uniform,
)
from calibrate.simulate import outcomes, values_of, with_values

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


def ends_and_between(last: int = 2**32 - 1, many: int = 200_000) -> np.ndarray:
    """Words from 0 to 2**32 - 1: all of both ends, and many between."""
    ends = np.arange(4096)
    between = np.concatenate([np.geomspace(1, last, many), np.linspace(0, last, many)]).astype(np.int64)
    return np.unique(np.concatenate([ends, last - ends, between]))


def pair(radius_word: np.ndarray, angle_word: np.ndarray, dtype: np.dtype) -> np.ndarray:
    with jax.enable_x64(dtype == DOUBLE):
        words = (jnp.asarray(word.astype(np.uint32)) for word in (radius_word, angle_word))
        return np.asarray(normals(*words, dtype), np.complex128)


@pytest.mark.parametrize(("dtype", "largest_error"), [(SINGLE, 2e-6), (DOUBLE, 3e-8)])
def test_normals_are_a_point_in_polar_coordinates(dtype: np.dtype, largest_error: float) -> None:
    """Not statistical: an error of 2e-6 standard deviations in single precision, of 3e-8 in double, is seen at any radius up to
    6.7 and at any angle. Single precision cannot tell the smallest radii apart: those below 0.02 may be 4e-4 off."""
    places = ends_and_between()
    angles = np.random.default_rng(1).permutation(places)
    exact = np.sqrt(-2 * np.log((places + 0.5) * 2.0**-32)) * np.exp(1j * turn(angles))
    assert np.abs(exact).max() > 6.7
    error = np.abs(pair(places, angles, dtype) - exact)
    allowed = np.where((np.abs(exact) < 0.02) & (dtype == SINGLE), 4e-4, largest_error)
    assert (error <= allowed).all()
    assert error[np.abs(exact) > 6].max() < largest_error, "beyond six standard deviations"


def turn(angle_word: np.ndarray) -> np.ndarray:
    """The angle that a word stands for: quarters of a turn from its two highest bits, the rest as a signed part of one."""
    rest = (angle_word & (2**30 - 1)) * 2.0**-30
    return (angle_word >> 30) * np.pi / 2 + (rest - (rest >= 0.5)) * np.pi / 2


def test_angles_go_once_around() -> None:
    angles = np.sort(np.mod(turn(np.linspace(0, 2**32 - 1, 4097).astype(np.int64)), 2 * np.pi))
    assert np.diff(angles).max() < 2 * np.pi / 4096 * 1.001


def test_uniforms_stay_within_the_unit_interval() -> None:
    ends = np.array([0, 1, 2**31, 2**32 - 2, 2**32 - 1], np.uint32)
    with jax.enable_x64(True):
        double = np.asarray(uniform(jnp.asarray(ends), DOUBLE))
    np.testing.assert_array_equal(double, (ends + 0.5) / 2**32)
    single = np.asarray(uniform(jnp.asarray(ends), SINGLE))
    assert single[0] > 0
    assert single[-1] <= 1


# --- the law of many ------------------------------------------------------------------------------------------------------


def draw(seed: int, paths: np.ndarray, steps: np.ndarray) -> Drawn:
    key, ids = seed_words(seed), path_ids(paths)
    return drawn(shocks_of_steps(key, ids, jnp.asarray(steps, jnp.uint32), SINGLE, continuous=True))


@pytest.fixture(scope="module")
def shocks() -> Drawn:
    return draw(1, np.arange(PATHS), np.arange(STEPS))


@pytest.mark.parametrize("name", Drawn._fields)
def test_every_shock_has_its_distribution(shocks: Drawn, name: str) -> None:
    """Sees a gap of 0.6 % in the distribution function."""
    cdf = ndtr if name.endswith("normal") else lambda u: np.clip(u, 0, 1)
    assert_law(getattr(shocks, name), cdf, resolution=0.006)


@pytest.mark.parametrize("name", ["return_normal", "volatility_normal"])
def test_normals_have_the_moments_of_a_normal(shocks: Drawn, name: str) -> None:
    """Sees errors of 0.011 in the mean, 0.015 in the variance, 0.04 in the third and 0.1 in the fourth moment, and a third of
    the probability of a move beyond three and a half standard deviations."""
    z = getattr(shocks, name).ravel()
    for power, moment, resolution in ((1, 0, 0.011), (2, 1, 0.015), (3, 0, 0.04), (4, 3, 0.1)):
        assert_mean(z**power, moment, resolution=resolution)
    for side in (-1, 1):
        assert_mean(side * z > 3, ndtr(-3), resolution=0.3 * ndtr(-3))


@pytest.mark.parametrize("name", ["jump_uniform", "low_uniform", "high_uniform"])
def test_uniforms_have_the_moments_of_a_uniform(shocks: Drawn, name: str) -> None:
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


@pytest.mark.parametrize(("one", "other"), [*combinations(Drawn._fields, 2)])
def test_the_shocks_of_a_step_are_independent(shocks: Drawn, one: str, other: str) -> None:
    """Sees a correlation of 0.012, and one of 0.015 between the squares of normals."""
    assert_uncorrelated(*(standardised(name, getattr(shocks, name)) for name in (one, other)))


@pytest.mark.parametrize("name", Drawn._fields)
def test_neighbouring_steps_and_paths_are_independent(shocks: Drawn, name: str) -> None:
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
def test_other_seeds_paths_and_steps_give_other_numbers(shocks: Drawn, name: str) -> None:
    """Sees a correlation of 0.012 with the numbers of seed 1."""
    seed, first_path, first_step = ELSEWHERE[name]
    others = draw(seed, first_path + np.arange(PATHS), first_step + np.arange(STEPS))
    for field in Drawn._fields:
        here, there = (np.asarray(getattr(s, field), np.float64) for s in (shocks, others))
        # Two of a million numbers with 24 bits agree by chance in a share of about 1e-7.
        assert np.mean(here == there) < 1e-5
        assert_uncorrelated(standardised(field, here), standardised(field, there))


def test_the_normal_of_the_start_is_its_own() -> None:
    """Sees a correlation of 0.012 between a path's start and its first step, and a gap of 0.6 % in the distribution function."""
    paths = np.arange(1_000_000)
    first = np.asarray(start_draws(seed_words(1), path_ids(paths), SINGLE)[0], np.float64)
    assert_law(first, ndtr, resolution=0.006)
    step = draw(1, paths, np.arange(1))
    for field in Drawn._fields:
        assert_uncorrelated(first, standardised(field, np.asarray(getattr(step, field), np.float64)[0]))


def test_a_shared_factor_is_seen(shocks: Drawn) -> None:
    """The test of the test: two per cent of one normal in the other."""
    z, w = shocks.return_normal, shocks.volatility_normal
    with pytest.raises(AssertionError, match="standard errors from"):
        assert_uncorrelated(z, np.sqrt(1 - 0.02**2) * w + 0.02 * z)


def test_any_part_of_the_numbers_can_be_drawn_again(shocks: Drawn) -> None:
    paths, steps = np.array([3, 500, 999]), np.array([0, 77])
    again = draw(1, paths, steps)
    for field in Drawn._fields:
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


# --- what the compiler makes of it ----------------------------------------------------------------------------------------


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="fusion differs by device")
def test_the_generator_is_computed_once_for_the_normals_and_once_for_the_uniform() -> None:
    """In the compiled program of value and derivatives: a loop that uses the words of the generator would compute them anew, for
    every step and every derivative. The third appearance is the draw of the start, outside the time loop."""
    case = Case(EVERYTHING_ON, LONGS_AND_SHORTS, 48, np.float32)
    scenario, parameters = case.scenario(), case.parameters()
    names = ("base_margin", "volatility_multiplier", "penalty")

    def slopes(values: jax.Array, seed: Seed, ids: PathIds) -> jax.Array:
        return outcomes(scenario, with_values(parameters, names, values), PlainSampling(), seed, ids)[0].distance

    compiled = jax.jit(jax.jacfwd(slopes)).lower(
        jnp.asarray(values_of(parameters, names), jnp.float32), seed_words(1), path_ids(np.arange(256))
    )
    text = compiled.compile().as_text()
    # Philox multiplies 20 times; what is spread over fewer multiplications is the draw of the start.
    whole = [block for block in text.split("\n\n") if block.count("mulhi") + block.count("multiply-high") >= 15]
    in_loops = [block for block in whole if "while/body" in block]
    assert len(in_loops) == 2
