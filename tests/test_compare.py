"""Two policies on the same paths: what is claimed of their difference, and how often wrongly."""

from functools import cache

import numpy as np
import pytest
from statistical import SIGMAS, assert_close

from calibrate.compare import Difference, compare, contributions
from calibrate.metrics import metrics_of
from calibrate.simulate import METRIC_FIELDS, Sample

PATHS, LEVEL = 4000, 0.95


def sample(rng: np.random.Generator, shared: np.ndarray, *, noise: float = 0.0, shift: float = 0.0) -> Sample:
    """Made-up outcomes: every field is driven by the shared future, and by a little noise of its own."""
    driver = shared + noise * rng.normal(size=shared.size) + shift
    values = {name: np.maximum(driver - 1, 0) for name in METRIC_FIELDS}
    values |= {"distance": driver - 2, "initial_margin": 0.05 + 0.001 * driver, "slippage": 0.1 * np.abs(driver)}
    return Sample(values, {}, ())


def rows(seed: int, **second: float) -> dict[str, Difference]:
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=PATHS)
    pair = sample(rng, shared, noise=0.1), sample(rng, shared, noise=0.1, **second)
    return {row.metric: row for row in compare(*pair, LEVEL)}


def test_contributions_average_to_the_metric() -> None:
    rng = np.random.default_rng(1)
    made = sample(rng, rng.normal(size=PATHS))
    metrics = metrics_of(made, LEVEL)
    for name, parts in contributions(made, LEVEL).items():
        np.testing.assert_allclose(parts.mean(), metrics[name].value, rtol=1e-9, err_msg=name)


def test_differences_are_those_of_the_metrics_and_far_sharper_than_the_levels() -> None:
    for row in rows(2, shift=0.05).values():
        np.testing.assert_allclose(row.difference, row.second - row.first, rtol=1e-6, atol=1e-12, err_msg=row.metric)
    rng = np.random.default_rng(2)
    alone = metrics_of(sample(rng, rng.normal(size=PATHS)), LEVEL)
    for name in ("bad_debt", "bad_debt_es_95", "margin_per_oi"):
        assert rows(2, shift=0.05)[name].standard_error < alone[name].standard_error / 3


def test_standard_errors_are_the_spread_over_repeated_seeds() -> None:
    """Sees standard errors that are 30 % off."""
    repeated = [rows(seed, shift=0.05) for seed in range(600)]
    for name in ("insolvency_probability", "bad_debt", "bad_debt_es_95", "max_leverage"):
        found = np.array([row[name].difference for row in repeated])
        stated = np.mean([row[name].standard_error for row in repeated])
        # The spread of 600 normals is itself known to 1 / sqrt(1200).
        assert_close(found.std(ddof=1) / stated, 1 / np.sqrt(1200), 1.0, resolution=0.3)


def test_a_verdict_on_weighted_paths_needs_as_many_as_an_estimate_does() -> None:
    """A clear difference on all paths, of which one in a hundred weighs nearly all: not told apart, and it is said why."""
    rng = np.random.default_rng(3)
    shared = rng.normal(size=PATHS)
    weights = np.where(np.arange(PATHS) % 100 == 0, 99.0, 0.0101)
    pair = [sample(rng, shared, shift=shift) for shift in (0.0, 0.5)]
    even = {row.metric: row for row in compare(*(s._replace(weights=np.ones(PATHS)) for s in pair), LEVEL)}
    uneven = {row.metric: row for row in compare(*(s._replace(weights=weights) for s in pair), LEVEL)}
    assert (even["bad_debt"].verdict, even["bad_debt"].poor) == ("higher", None)
    assert uneven["bad_debt"].verdict == "not told apart"
    assert uneven["bad_debt"].interval[0] > 0, "the interval alone would tell them apart"
    assert "equally heavy paths" in str(uneven["bad_debt"].poor)


@cache
def without_a_difference() -> list[dict[str, Difference]]:
    """Of a thousand pairs of policies; every metric is looked at on the same ones."""
    return [rows(seed) for seed in range(1000)]


@pytest.mark.parametrize("name", ["insolvency_probability", "bad_debt", "bad_debt_es_95", "margin_per_oi"])
def test_no_more_than_one_verdict_in_twenty_is_wrong(name: str) -> None:
    """Of policies without a difference; sees a rate of 9.5 %."""
    told = np.mean([row[name].verdict != "not told apart" for row in without_a_difference()])
    assert told <= 0.05 + SIGMAS * np.sqrt(0.05 * 0.95 / len(without_a_difference()))


def test_a_difference_is_told_and_its_direction() -> None:
    found = rows(3, shift=0.2)
    assert found["insolvency_probability"].verdict == "higher"
    assert found["max_leverage"].verdict == "lower"
    assert rows(3, shift=-0.2)["bad_debt"].verdict == "lower"


def test_where_hardly_any_path_differs_nothing_is_claimed() -> None:
    shared = np.zeros(PATHS)
    shared[:5] = 3.0
    rng = np.random.default_rng(4)
    lower = sample(rng, np.where(shared > 0, 2.5, shared))
    found = {row.metric: row for row in compare(sample(rng, shared), lower, LEVEL)}
    assert found["bad_debt"].verdict == "not told apart"
    row = found["insolvency_probability"]
    assert row.verdict == "not told apart"
    assert row.interval[0] < 0 < row.interval[1], "five paths of 4,000 prove no difference, nor that there is none"
