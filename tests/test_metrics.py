"""Figures and their errors: closed forms, how often intervals cover the truth, and the axioms of risk measures."""

import numpy as np
import pytest
from scipy.stats import binom, binomtest, norm
from scipy.stats import t as student
from statistical import assert_close, assert_mean

from calibrate.metrics import (
    Estimate,
    expected_shortfall,
    inverse,
    mean,
    mean_of_loss,
    metrics_of,
    most_events,
    probability,
    quantile,
    upper_limit,
    user_cost,
)
from calibrate.simulate import METRIC_FIELDS, Sample

# --- probabilities --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("events", "paths"), [(0, 10), (1, 10), (10, 10), (3, 1000), (40, 100_000), (999, 1000)])
@pytest.mark.parametrize("confidence", [0.95, 0.99])
def test_intervals_of_probabilities_are_those_of_clopper_and_pearson(
    events: int, paths: int, confidence: float
) -> None:
    exact = binomtest(events, paths).proportion_ci(confidence, method="exact")
    np.testing.assert_allclose(probability(events, paths, confidence).interval, exact, rtol=1e-9)
    one_sided = binomtest(events, paths, alternative="less").proportion_ci(confidence, method="exact")
    np.testing.assert_allclose(upper_limit(events, paths, confidence), one_sided.high, rtol=1e-9)


def test_without_events_the_upper_limit_is_the_rule_of_three() -> None:
    np.testing.assert_allclose(upper_limit(0, 1000, 0.95), 1 - 0.05**0.001, rtol=1e-12)
    np.testing.assert_allclose(upper_limit(0, 1_000_000, 0.95), 2.9957e-6, rtol=1e-4)
    # The classic example of the two-sided interval: 0 of 100 gives 0 to 3.62 %.
    low, high = probability(0, 100).interval
    assert low == 0
    assert round(high, 6) == 0.036217


@pytest.mark.parametrize("paths", [20, 300, 5000])
@pytest.mark.parametrize("expected_events", [0.5, 4, 15])
def test_intervals_of_probabilities_cover_at_least_as_often_as_they_say(paths: int, expected_events: float) -> None:
    """Exactly, by summing over the binomial distribution."""
    true, events = expected_events / paths, np.arange(paths + 1)
    chance = binom.pmf(events, paths, true)
    likely = events[chance > 1e-12]
    covered = [low <= true <= high for low, high in (probability(int(k), paths).interval for k in likely)]
    assert chance[likely][covered].sum() >= 0.95 - 1e-9
    for confidence in (0.95, 0.975):
        above = [upper_limit(int(k), paths, confidence) >= true for k in likely]
        assert chance[likely][above].sum() >= confidence - 1e-9


def test_the_standard_error_of_a_probability_is_binomial() -> None:
    np.testing.assert_allclose(probability(30, 1000).standard_error, np.sqrt(0.03 * 0.97 / 1000), rtol=1e-12)
    np.testing.assert_allclose(probability(0, 1000).standard_error, probability(1, 1000).standard_error, rtol=1e-12)


# --- how often intervals cover --------------------------------------------------------------------------------------------

LAWS = {
    "exponential": (np.random.Generator.standard_exponential, 1.0, lambda q: -np.log1p(-q)),
    "lognormal": (lambda rng, size: np.exp(rng.standard_normal(size)), np.exp(0.5), lambda q: np.exp(norm.ppf(q))),
}
REPETITIONS = 1500


def shortfall_of(law: str, level: float) -> float:
    """Mean beyond the quantile: of an exponential the quantile plus one; of a lognormal by completing the square."""
    quantile_of = LAWS[law][2]
    return quantile_of(level) + 1 if law == "exponential" else LAWS[law][1] * norm.sf(norm.ppf(level) - 1) / (1 - level)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(("paths", "level"), [(2000, 0.95), (4000, 0.9)])
def test_intervals_cover_the_truth_as_often_as_they_say(law: str, paths: int, level: float) -> None:
    """Sees a coverage that is wrong by 0.06 (a standard error that is wrong by a third), and a mean standard error of the
    expected shortfall that is 15 % off the real one. (Measured for the shortfall of the worst 100 of 10,000 lognormals: 92 %.)"""
    draw, true_mean, quantile_of = LAWS[law]
    truth = {mean: true_mean, quantile: quantile_of(level), expected_shortfall: shortfall_of(law, level)}
    rng = np.random.default_rng(4)
    found: dict = {metric: [] for metric in truth}
    for _ in range(REPETITIONS):
        values = draw(rng, paths)
        for metric in truth:
            found[metric].append(metric(values) if metric is mean else metric(values, level))
    for metric, true in truth.items():
        covered = np.array([low <= true <= high for _, _, (low, high), _ in found[metric]])
        # An order statistic's interval covers a little more than 95 %, as its ranks are whole numbers.
        assert_close(covered.mean(), np.sqrt(0.05 * 0.95 / REPETITIONS), 0.95, resolution=0.06)
        values = np.array([estimate.value for estimate in found[metric]])
        claimed = np.mean([estimate.standard_error for estimate in found[metric]])
        assert abs(claimed / values.std() - 1) < 0.15, metric.__name__


@pytest.mark.parametrize("level", [0.5, 0.9, 0.99, 0.999])
def test_intervals_of_quantiles_never_cover_less_than_they_say(level: float) -> None:
    """Exactly: of values 1 to n the ranks are read off, and how many of n values lie below a quantile is binomial."""
    for paths in np.unique(np.geomspace(40 / (1 - level), 1e5, 40).astype(int)):
        low, high = quantile(np.arange(1, paths + 1), level).interval
        missed = binom.cdf(low - 1, paths, level), binom.sf(high - 1, paths, level)
        assert max(missed) <= 0.025 + 1e-12
        assert sum(missed) > 0.03, "nor are they needlessly wide"


# --- expected shortfall ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0.95, 0.99, 0.999])
def test_the_expected_shortfall_of_a_normal_is_met(level: float) -> None:
    """phi(z) / (1 - level); sees an error of 5 %: the quantile in its place would be one of 8 to 20 %."""
    true = norm.pdf(norm.ppf(level)) / (1 - level)
    found = expected_shortfall(np.random.default_rng(5).standard_normal(1_000_000), level)
    assert_close(found.value, found.standard_error, true, resolution=0.05 * true)


@pytest.mark.parametrize(
    ("level", "var", "shortfall"), [(0.99, 2.64949191, 3.69151049), (0.999, 5.07220579, 6.84919129)]
)
def test_tail_figures_of_a_student_t_are_met(level: float, var: float, shortfall: float) -> None:
    """Unit variance, four degrees of freedom; reference values recomputed. Sees an error of 5 and 15 %."""
    unit = np.sqrt(0.5)
    q = student.ppf(level, 4)
    np.testing.assert_allclose(q * unit, var, rtol=1e-8)
    np.testing.assert_allclose(student.pdf(q, 4) / (1 - level) * (4 + q**2) / 3 * unit, shortfall, rtol=1e-8)
    values = student.rvs(4, size=1_000_000, random_state=np.random.default_rng(6)) * unit
    for estimate, true in ((quantile(values, level), var), (expected_shortfall(values, level), shortfall)):
        assert_close(estimate.value, estimate.standard_error, true, resolution=(0.05 if level == 0.99 else 0.15) * true)


def test_expected_shortfall_is_the_mean_of_the_worst() -> None:
    values = np.random.default_rng(7).exponential(size=1000)
    np.testing.assert_allclose(expected_shortfall(values, 0.95).value, np.sort(values)[-50:].mean(), rtol=1e-12)


AXIOM_LEVELS = pytest.mark.parametrize("level", [0.5, 0.9, 0.987, 0.999])


def losses(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two dependent losses with many zeros and heavy tails."""
    rng = np.random.default_rng(seed)
    a, b = rng.pareto(2.5, (2, 5000)) * (rng.random((2, 5000)) < 0.3)
    return a, 0.5 * a + b


@AXIOM_LEVELS
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_expected_shortfall_is_a_coherent_measure_of_risk(level: float, seed: int) -> None:
    x, y = losses(seed)
    risk = lambda values: expected_shortfall(values, level).value  # noqa: E731
    assert risk(x) >= quantile(x, level).value
    assert risk(x) >= x.mean()
    assert risk(np.maximum(x, y)) >= risk(x), "monotone"
    np.testing.assert_allclose(risk(3.5 * x), 3.5 * risk(x), rtol=1e-12)
    np.testing.assert_allclose(risk(x + 0.7), risk(x) + 0.7, rtol=1e-12)
    assert risk(x + y) <= risk(x) + risk(y) + 1e-12, "subadditive"
    np.testing.assert_allclose(risk(np.random.default_rng(0).permutation(x)), risk(x), rtol=1e-12)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_tail_figures_rise_with_their_level(seed: int) -> None:
    x, _ = losses(seed)
    levels = np.linspace(0.5, 0.999, 30)
    for metric in (quantile, expected_shortfall):
        assert (np.diff([metric(x, level).value for level in levels]) >= -1e-12).all()


# --- warnings and the rest ------------------------------------------------------------------------------------------------


def with_losses(number: int, paths: int = 10_000) -> np.ndarray:
    return np.r_[np.linspace(1, 2, number), np.zeros(paths - number)]


def test_an_empty_tail_is_told() -> None:
    assert "0 because fewer than 1.00%" in quantile(with_losses(50), 0.99).warning
    assert "this is the mean divided by 0.01" in expected_shortfall(with_losses(50), 0.99).warning
    np.testing.assert_allclose(expected_shortfall(with_losses(50), 0.99).value, with_losses(50).mean() / 0.01)
    assert "fewer than ten" in quantile(with_losses(5000), 0.9995).warning
    assert "rests on 29 paths" in mean_of_loss(with_losses(29)).warning
    assert "no path had the event" in probability(0, 100).warning


def test_a_full_tail_is_no_reason_to_warn() -> None:
    for estimate in (
        quantile(with_losses(150), 0.99),
        expected_shortfall(with_losses(150), 0.99),
        mean_of_loss(with_losses(30)),
        probability(1, 100),
        mean(with_losses(1)),
    ):
        assert estimate.warning is None


def test_where_nothing_is_lost_every_figure_is_zero() -> None:
    for estimate in (
        mean_of_loss(np.zeros(1000)),
        quantile(np.zeros(1000), 0.99),
        expected_shortfall(np.zeros(1000), 0.99),
    ):
        assert estimate[:3] == (0.0, 0.0, (0.0, 0.0))


def test_the_interval_of_a_loss_is_never_negative() -> None:
    few = with_losses(2)
    assert mean(few).interval[0] < 0
    assert mean_of_loss(few).interval[0] == 0
    assert expected_shortfall(few, 0.99).interval[0] >= 0


def test_one_over_a_figure_has_its_error_by_the_delta_method() -> None:
    """Sees an error of 5 % in the value and of a tenth in the standard error."""
    rng = np.random.default_rng(8)
    estimates = [inverse(mean(rng.normal(0.04, 0.02, 400))) for _ in range(2000)]
    values, claimed = (np.array([estimate[k] for estimate in estimates]) for k in (0, 1))
    # A second-order bias remains: the squared relative error of the mean.
    assert_mean(values, 25 * (1 + (0.025**2)), resolution=0.05 * 25)
    assert abs(claimed.mean() / values.std() - 1) < 0.1
    assert inverse(Estimate(0.5, 0.1, (0.25, 1.0))).interval == (1.0, 4.0)
    assert inverse(Estimate(0.5, 0.5, (-0.1, 1.0))).interval == (1.0, float("inf"))


def test_metrics_read_the_outcomes_that_their_names_say() -> None:
    rng = np.random.default_rng(9)
    values = {name: rng.exponential(size=2000) for name in METRIC_FIELDS} | {"distance": rng.normal(-1, 1, 2000)}
    metrics = metrics_of(Sample(values, {}, ()), 0.95)
    means = {
        "account_insolvency_rate": "insolvent_share",
        "false_liquidation_rate": "false_liquidation",
        "margin_per_oi": "initial_margin",
    }
    for name in ("bad_debt", "open_deficit", "fund_draw", "socialised_loss", "liquidated", "margin_rise", *means):
        np.testing.assert_allclose(metrics[name].value, values[means.get(name, name)].mean(), rtol=1e-12)
    assert metrics["insolvency_probability"].value == np.mean(values["distance"] > 0)
    assert metrics["bad_debt_var_95"] == quantile(values["bad_debt"], 0.95)
    assert metrics["bad_debt_es_95"] == expected_shortfall(values["bad_debt"], 0.95)
    assert metrics["liquidations_at_risk_95"] == quantile(values["liquidated"], 0.95)
    assert metrics["max_leverage"].value == 1 / metrics["margin_per_oi"].value
    np.testing.assert_array_equal(user_cost(values), values["penalty"] + values["slippage"])
    assert metrics["user_cost"] == mean(user_cost(values))


def test_a_figure_is_written_with_its_warning_if_it_has_one() -> None:
    plain = Estimate(1.0, 0.1, (0.8, 1.2))
    assert plain.as_json() == {"value": 1.0, "standard_error": 0.1, "interval": [0.8, 1.2]}
    assert plain._replace(warning="beware").as_json()["warning"] == "beware"


@pytest.mark.parametrize(("limit", "paths"), [(1e-3, 200_000), (1e-4, 80_000), (0.2, 50), (1e-6, 1000)])
def test_the_most_events_are_the_last_within_the_limit(limit: float, paths: int) -> None:
    events = most_events(limit, paths, 0.95)
    assert events < 0 or upper_limit(events, paths, 0.95) <= limit
    assert upper_limit(events + 1, paths, 0.95) > limit
