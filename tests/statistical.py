"""Assertions on estimates, with both of their error rates.

At five standard errors correct code fails once in 1.7 million assertions; an assertion also fails when the sample is too small
to show, with the same certainty, an error of the stated resolution.
"""

from collections.abc import Callable

import numpy as np
from scipy.stats import kstwo, norm

from calibrate.simulate import Sample
from calibrate.weighing import mean_and_error, probability_and_error

SIGMAS = 5.0


def assert_mean(samples: np.ndarray, expected: float, *, resolution: float) -> None:
    """The mean of `samples` is `expected`; an error of `resolution` (absolute) would be seen."""
    samples = np.asarray(samples, dtype=np.float64)
    assert_close(samples.mean(), samples.std(ddof=1) / np.sqrt(samples.size), expected, resolution=resolution)


def assert_close(value: float, standard_error: float, expected: float, *, resolution: float) -> None:
    """An estimate is `expected` within five standard errors; an error of `resolution` would be seen."""
    seen = 2 * SIGMAS * standard_error
    assert seen <= resolution, f"too few samples: an error of {seen:.3g} is seen, asked for {resolution:.3g}"
    gap = abs(value - expected)
    assert gap <= SIGMAS * standard_error, (
        f"{value:.8g} is {gap / standard_error:.1f} standard errors from {expected:.8g}"
    )


def assert_recovered(value: float, standard_error: float, expected: float, *, largest_error: float) -> None:
    """A fitted parameter is `expected` within five of its own standard errors, which are no larger than `largest_error`."""
    assert 0 < standard_error <= largest_error, f"a standard error of {standard_error:.3g}, above {largest_error:.3g}"
    gap = abs(value - expected)
    assert gap < SIGMAS * standard_error, (
        f"{value:.6g} is {gap / standard_error:.1f} standard errors from {expected:.6g}"
    )


def assert_law(samples: np.ndarray, cdf: Callable[[np.ndarray], np.ndarray], *, resolution: float) -> None:
    """The samples have the continuous distribution function `cdf` (Kolmogorov and Smirnov); a gap of `resolution` between
    the true and the claimed distribution function would be seen."""
    samples = np.sort(np.asarray(samples, dtype=np.float64).ravel())
    critical = float(kstwo.isf(2 * norm.sf(SIGMAS), samples.size))
    assert 2 * critical <= resolution, (
        f"too few samples: a gap of {2 * critical:.3g} is seen, asked for {resolution:.3g}"
    )
    claimed, ranks = cdf(samples), np.arange(samples.size + 1) / samples.size
    gap = max((ranks[1:] - claimed).max(), (claimed - ranks[:-1]).max())
    assert gap <= critical, f"the distribution functions are {gap:.3g} apart, chance explains {critical:.3g}"


def assert_mean_of_plain_paths(weighted: Sample, plain: Sample, field: str, resolution: float) -> None:
    """That the weighted mean of an outcome is that of plain paths; `resolution` is the relative error that is seen."""
    mean, error = mean_and_error(weighted.values[field], weighted.weights)
    other = np.asarray(plain.values[field], np.float64)
    together = float(np.hypot(error, other.std() / np.sqrt(len(other))))
    assert_close(mean, together, float(other.mean()), resolution=resolution * float(other.mean()))


def assert_tail_of_plain_paths(weighted: Sample, plain: Sample, level: float, resolution: float) -> None:
    """That as many weighted as plain paths come so near to insolvency; `resolution` is the relative error that is seen."""
    expected = float(np.mean(plain.values["distance"] > level))
    value, error = probability_and_error(weighted.values["distance"] > level, weighted.weights)
    together = float(np.hypot(error, np.sqrt(expected / plain.paths)))
    assert_close(value, together, expected, resolution=resolution * expected)
