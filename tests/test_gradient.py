"""Gradient estimators on toy problems whose derivatives are known in closed form.

The engine's own derivatives along the path are tested with the engine; here it is what is made of them: means, tails and
probabilities, and their standard errors.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from scipy.stats import norm
from statistical import assert_mean

from calibrate.gradient import Gradient, bandwidth, mean_gradient, probability_gradient, tail_gradient


class Toy(NamedTuple):
    """A signed distance in two parameters: how it and its slopes follow from standard normals, and the derivatives of the
    probability that it is positive, where that probability is `level`."""

    draw: Callable[[np.ndarray, float], tuple[np.ndarray, np.ndarray]]
    truth: Callable[[float], np.ndarray]


def shifted_and_scaled(z: np.ndarray, barrier: float) -> tuple[np.ndarray, np.ndarray]:
    """D = a + s (z - barrier) at a = 0, s = 2: P(D > 0) = N(a / s - barrier). The slope in s is taken of a + s z."""
    return 2 * (z - barrier), np.stack([np.ones_like(z), z], axis=1)


def lognormal(z: np.ndarray, barrier: float) -> tuple[np.ndarray, np.ndarray]:
    """D = a exp(s z) - K at a = 1, s = 0.5: P(D > 0) = N(-log(K / a) / s)."""
    value = np.exp(0.5 * z)
    return value - np.exp(0.5 * barrier), np.stack([value, z * value], axis=1)


# The barrier is where a standard normal is exceeded with the probability asked for; n is its density there.
TOYS = {
    "normal": Toy(shifted_and_scaled, lambda b: norm.pdf(b) * np.array([1 / 2, b / 2])),
    "lognormal": Toy(lognormal, lambda b: norm.pdf(b) * np.array([1 / 0.5, b / 0.5])),
}
PATHS, REPETITIONS, PROBABILITY = 100_000, 150, 0.01
BARRIER = float(norm.isf(PROBABILITY))


def estimates(toy: Toy, sign: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Gradients and their standard errors over independent samples; `sign` plants an error."""
    rng, found = np.random.default_rng(1), []
    for _ in range(REPETITIONS):
        distance, slopes = toy.draw(rng.standard_normal(PATHS), BARRIER)
        width = bandwidth(distance, np.count_nonzero(distance > 0))
        near = np.abs(distance) < 4 * width
        found.append(probability_gradient(distance[near], sign * slopes[near], PATHS, width))
    return np.array([g.value for g in found]), np.array([g.standard_error for g in found])


@pytest.mark.parametrize("name", TOYS)
def test_the_derivative_of_a_probability_is_unbiased_and_its_error_honest(name: str) -> None:
    """Sees a bias of 3 %, in a derivative that one sample gives to 3 %, and a standard error that is wrong by a fifth."""
    toy = TOYS[name]
    values, claimed = estimates(toy)
    for parameter, true in enumerate(toy.truth(BARRIER)):
        assert_mean(values[:, parameter], true, resolution=0.03 * true)
        assert 0.8 < claimed[:, parameter].mean() / values[:, parameter].std(ddof=1) < 1.25


def test_a_wrong_sign_is_caught() -> None:
    """The test of the test."""
    toy = TOYS["normal"]
    values, _ = estimates(toy, sign=-1.0)
    with pytest.raises(AssertionError, match="standard errors from"):
        assert_mean(values[:, 0], toy.truth(BARRIER)[0], resolution=0.03 * toy.truth(BARRIER)[0])


def test_a_kernel_of_second_order_would_be_caught() -> None:
    """The test of the test: without its correction the kernel averages over the fall of the density."""
    toy, rng, values = TOYS["lognormal"], np.random.default_rng(2), []
    for _ in range(REPETITIONS):
        distance, slopes = toy.draw(rng.standard_normal(PATHS), BARRIER)
        width = bandwidth(distance, np.count_nonzero(distance > 0))
        values.append((norm.pdf(distance / width) / width * slopes[:, 0]).mean())
    with pytest.raises(AssertionError, match="standard errors from"):
        assert_mean(np.array(values), toy.truth(BARRIER)[0], resolution=0.03 * toy.truth(BARRIER)[0])


def test_the_kernel_is_of_fourth_order() -> None:
    """Not statistical: on evenly spread distances, slopes that are cubic in the distance count only with their value at 0."""
    width, points = 0.3, 200_001
    distance = np.linspace(-6 * width, 6 * width, points)
    density = points / (12 * width)
    for power, expected in ((0, density), (1, 0.0), (2, 0.0), (3, 0.0)):
        found = probability_gradient(distance, (distance[:, None] / width) ** power, 1, width).value
        np.testing.assert_allclose(found, expected, atol=1e-4 * density)
    curved = probability_gradient(distance, (distance[:, None] / width) ** 4, 1, width).value
    assert abs(curved) > density, "the fourth power is the first that counts"


def test_far_paths_may_be_left_out() -> None:
    rng = np.random.default_rng(3)
    distance, slopes = lognormal(rng.standard_normal(20_000), BARRIER)
    width = bandwidth(distance, 200)
    near = np.abs(distance) < 4 * width
    assert near.sum() < 5000
    everything, some = (probability_gradient(distance[k], slopes[k], 20_000, width) for k in (slice(None), near))
    np.testing.assert_allclose(some.value, everything.value, rtol=5e-3)
    np.testing.assert_allclose(some.standard_error, everything.standard_error, rtol=5e-3)


def test_the_bandwidth_follows_the_scale_and_shrinks_with_the_events() -> None:
    distance = np.random.default_rng(4).exponential(size=200_000)
    for events in (100, 1000, 10_000):
        # Beyond any level an exponential exceeds it by 1 on average; sees an error of half.
        np.testing.assert_allclose(bandwidth(distance, events), 0.5 * (1000 / events) ** (1 / 9), rtol=0.5)
        np.testing.assert_allclose(bandwidth(7 * distance, events), 7 * bandwidth(distance, events), rtol=1e-12)
        np.testing.assert_allclose(bandwidth(distance - 3, events), bandwidth(distance, events), rtol=1e-9)
    assert bandwidth(np.arange(5.0), 0) > 0


# --- means and tails ------------------------------------------------------------------------------------------------------


def test_the_derivative_of_a_mean_is_the_mean_derivative() -> None:
    slopes = np.random.default_rng(5).normal(size=(1000, 3))
    found = mean_gradient(slopes)
    np.testing.assert_allclose(found.value, slopes.mean(axis=0))
    np.testing.assert_allclose(found.standard_error, slopes.std(axis=0, ddof=1) / np.sqrt(1000))


def tails(level: float, paths: int, sign: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Derivatives of the expected shortfall of a + s z in a and s, over independent samples."""
    rng, found = np.random.default_rng(6), []
    for _ in range(600):
        z = rng.standard_normal(paths)
        found.append(tail_gradient(1 + 2 * z, sign * np.stack([np.ones_like(z), z], axis=1), level, paths))
    return np.array([g.value for g in found]), np.array([g.standard_error for g in found])


@pytest.mark.parametrize(("level", "paths"), [(0.9, 4000), (0.99, 20_000)])
def test_the_derivative_of_an_expected_shortfall_is_unbiased_and_its_error_honest(level: float, paths: int) -> None:
    """The shortfall of a + s z is a + s phi(q) / (1 - level). Sees a bias of 1 %, and a standard error that is wrong by 15 %:
    one that forgets the uncertainty of the tail's edge is too small by a third."""
    values, claimed = tails(level, paths)
    true = norm.pdf(norm.ppf(level)) / (1 - level)
    np.testing.assert_allclose(values[:, 0], 1.0, rtol=1e-12)
    assert_mean(values[:, 1], true, resolution=0.01 * true)
    assert 0.85 < claimed[:, 1].mean() / values[:, 1].std(ddof=1) < 1.15


def test_a_wrong_sign_in_the_tail_is_caught() -> None:
    """The test of the test."""
    values, _ = tails(0.99, 2000, sign=-1.0)
    with pytest.raises(AssertionError, match="standard errors from"):
        assert_mean(values[:, 1], norm.pdf(norm.ppf(0.99)) / 0.01, resolution=0.1)


def test_the_tail_may_be_given_alone() -> None:
    rng = np.random.default_rng(7)
    values, slopes = rng.standard_normal(5000), rng.standard_normal((5000, 2))
    worst = np.argsort(-values)[:200]
    everything, some = (
        tail_gradient(values, slopes, 0.99, 5000),
        tail_gradient(values[worst], slopes[worst], 0.99, 5000),
    )
    np.testing.assert_allclose(some.value, everything.value, rtol=1e-12)
    np.testing.assert_allclose(some.standard_error, everything.standard_error, rtol=1e-12)


def test_a_tail_of_one_path_has_no_standard_error() -> None:
    found: Gradient = tail_gradient(np.arange(10.0), np.arange(10.0)[:, None], 0.99, 10)
    assert found.value == 9
    assert np.isnan(found.standard_error).all()
