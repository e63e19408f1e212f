"""Figures of weighted paths: exact where all weigh the same, right on average where not, and their limits keep their promise."""

import numpy as np
import pytest
from scipy.stats import chi2
from statistical import SIGMAS, assert_close

from calibrate.weighing import (
    Diagnosis,
    diagnose,
    level_of,
    mean_and_error,
    probability_and_error,
    probability_limits,
    quantile,
)


def sample(rng: np.random.Generator, paths: int, *, shift: float, share: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    """Standard normals, most of them drawn shifted, and their weights."""
    drawn = rng.standard_normal(paths) + shift * (rng.random(paths) >= share)
    return drawn, 1 / (share + (1 - share) * np.exp(shift * drawn - shift**2 / 2))


def test_equal_weights_change_nothing() -> None:
    values, ones = np.random.default_rng(1).exponential(size=1000), np.ones(1000)
    mean, error = mean_and_error(values, ones)
    np.testing.assert_allclose(mean, values.mean(), rtol=1e-12)
    np.testing.assert_allclose(error, values.std(ddof=1) / np.sqrt(1000), rtol=1e-12)
    assert level_of(values, ones, 0.0999) == quantile(values, ones, 0.9001, 0.025)[0] == np.sort(values)[900]
    found = diagnose(values > 1, ones)
    np.testing.assert_allclose(found.effective_paths, np.count_nonzero(values > 1))
    np.testing.assert_allclose(found.largest_share, 1 / np.count_nonzero(values > 1))
    assert found.weight_gap == 0


@pytest.mark.parametrize("events", [0, 1, 7, 300])
def test_with_equal_weights_the_limits_are_those_of_a_poisson_count(events: int) -> None:
    paths = 100_000
    low, high = probability_limits(np.arange(paths) < events, np.ones(paths), 0.025)
    np.testing.assert_allclose(high, chi2.ppf(0.975, 2 * events + 2) / 2 / paths, rtol=1e-9)
    np.testing.assert_allclose(low, chi2.ppf(0.025, 2 * events) / 2 / paths if events else 0.0, rtol=1e-9)


def test_without_an_event_the_heaviest_path_of_all_may_still_be_one() -> None:
    weights = np.array([0.1] * 99 + [5.0])
    _, high = probability_limits(np.zeros(100, bool), weights, 0.05)
    np.testing.assert_allclose(high, 5.0 / 100 * chi2.ppf(0.95, 2) / 2, rtol=1e-9)


@pytest.mark.parametrize(("shift", "paths"), [(3.0, 4000), (3.5, 1000), (2.5, 300)])
def test_limits_of_a_rare_probability_are_missed_as_seldom_as_they_say(shift: float, paths: int) -> None:
    """A normal beyond 3.5, probability 2.3e-4, from shifted draws, 4,000 times: either limit at 2.5 % is missed at most so often
    within binomial error; sees a rate of 3.8 %."""
    rng, repetitions, true = np.random.default_rng(2), 4000, 2.3262907903552504e-4
    missed = np.zeros(2)
    for _ in range(repetitions):
        drawn, weights = sample(rng, paths, shift=shift)
        low, high = probability_limits(drawn > 3.5, weights, 0.025)
        missed += [true < low, true > high]
    assert (missed / repetitions <= 0.025 + SIGMAS * np.sqrt(0.025 * 0.975 / repetitions)).all(), missed / repetitions


def test_weighted_figures_are_those_of_the_law_that_the_weights_lead_back_to() -> None:
    """Of normals drawn with a shift of 2: mean of the square, probability beyond 3, and quantile at 99.9 %; sees errors of 5 %."""
    drawn, weights = sample(np.random.default_rng(3), 400_000, shift=2.0)
    assert_close(*mean_and_error(drawn**2, weights), 1.0, resolution=0.05)
    assert_close(*probability_and_error(drawn > 3, weights), 1.3498980316300945e-3, resolution=0.05 * 1.35e-3)
    value, low, high = quantile(drawn, weights, 0.999, 0.025)
    assert_close(value, (high - low) / 3.92, 3.090232306167813, resolution=0.1)
    np.testing.assert_allclose(level_of(drawn, weights, 1e-3), value)


def test_standard_errors_are_the_spread_between_samples() -> None:
    """To 8 %, five errors of a spread over 2,000 samples."""
    rng = np.random.default_rng(4)
    found = [
        (*mean_and_error(drawn**2, weights), *probability_and_error(drawn > 2, weights))
        for drawn, weights in (sample(rng, 2000, shift=2.0) for _ in range(2000))
    ]
    squares, square_errors, shares, share_errors = np.array(found).T
    np.testing.assert_allclose(squares.std(), square_errors.mean(), rtol=0.08)
    np.testing.assert_allclose(shares.std(), share_errors.mean(), rtol=0.08)


def test_a_figure_that_all_paths_share_is_sharp_although_weights_are_not() -> None:
    """One plus a little noise: the error is at most that of the noise on the share of paths that are drawn plainly, as Owen and
    Zhou show, and a fifth of what the spread of the weights alone would make it."""
    rng = np.random.default_rng(6)
    _, weights = sample(rng, 20_000, shift=3.0)
    noise = rng.standard_normal(20_000)
    mean, error = mean_and_error(1 + 0.1 * noise, weights)
    assert abs(mean - 1) < SIGMAS * error
    assert error <= 1.1 * 0.1 / np.sqrt(0.2 * 20_000)
    assert error < weights.std() / np.sqrt(20_000) / 5


def test_a_tilt_that_overlooks_what_matters_is_caught() -> None:
    """Paths drawn far beyond the events, without a plain share: the estimate is many of its standard errors below the truth, and
    looks precise. That the weights do not average to one gives it away."""
    rng = np.random.default_rng(5)
    drawn = rng.standard_normal(20_000) + 8.0
    weights = np.exp(-8.0 * drawn + 32.0)
    true = 1.3498980316300945e-3
    mean, error = float((weights * (drawn > 3)).mean()), float((weights * (drawn > 3)).std() / np.sqrt(20_000))
    assert mean + 3 * error < true
    assert error < 0.5 * true
    poor = diagnose(drawn > 3, weights).poor
    assert poor is not None
    assert "overlooked" in poor
    kept, kept_weights = sample(rng, 20_000, shift=3.0)
    assert diagnose(kept > 3, kept_weights).poor is None


@pytest.mark.parametrize(
    ("found", "word"),
    [
        (Diagnosis(99.0, 0.01, 0.0, 0.0), "equally heavy"),
        (Diagnosis(500.0, 0.11, 0.0, 0.0), "single path"),
        (Diagnosis(500.0, 0.01, 5.1, 0.0), "halves"),
        (Diagnosis(500.0, 0.01, 0.0, 5.1), "overlooked"),
    ],
)
def test_every_weakness_is_told(found: Diagnosis, word: str) -> None:
    assert word in (found.poor or "")
    assert Diagnosis(100.0, 0.1, 5.0, 5.0).poor is None
