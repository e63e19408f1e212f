"""From outcomes of paths to figures with standard errors.

Means have the standard error of a mean. Probabilities have exact binomial intervals (Clopper and Pearson 1934). Quantiles have
intervals from order statistics, and expected shortfall the standard error of its minimised form (Rockafellar and Uryasev
2000), which counts the uncertainty of the quantile to first order. Where paths are weighted, `weighing.py` says how.
"""

from typing import Any, NamedTuple

import numpy as np
from scipy.stats import beta, binom, norm

from calibrate import weighing
from calibrate.rise_windows import METRICS as RISES
from calibrate.simulate import OPTIONAL_FIELDS, Sample
from calibrate.summary import Outcomes, Summary, total

Weights = np.ndarray | None
# By path, or what is remembered of all paths; whoever gives weights gives the former.
Values = np.ndarray | Summary

CONFIDENCE = 0.95


class Estimate(NamedTuple):
    """A figure, its standard error, its 95 % interval, and a warning where it does not mean what its name suggests."""

    value: float
    standard_error: float
    interval: tuple[float, float]
    warning: str | None = None

    def as_json(self) -> dict[str, object]:
        shown: dict[str, object] = {
            "value": self.value,
            "standard_error": self.standard_error,
            "interval": list(self.interval),
        }
        return shown | ({"warning": self.warning} if self.warning else {})


def mean(values: Values, weights: Weights = None) -> Estimate:
    if isinstance(values, Summary):
        value, error = values.mean, values.standard_error
    elif weights is not None:
        value, error = weighing.mean_and_error(np.asarray(values, np.float64), weights)
    else:
        values = np.asarray(values, dtype=np.float64)
        value = float(values.mean())
        error = float(values.std(ddof=1) / np.sqrt(values.size)) if values.size > 1 else float("nan")
    half = float(norm.ppf((1 + CONFIDENCE) / 2)) * error
    return Estimate(value, error, (value - half, value + half))


def mean_of_loss(values: Values, weights: Weights = None) -> Estimate:
    """A mean of what cannot be negative; warns when it rests on a handful of paths."""
    estimate = mean(values, weights)
    hit = positive(values)
    warning = f"rests on {hit} paths with a loss" if hit < 30 else _doubt(values, weights)
    return estimate._replace(interval=(max(estimate.interval[0], 0.0), estimate.interval[1]), warning=warning)


def positive(values: Values) -> int:
    """On how many paths there is some of it."""
    return values.positive if isinstance(values, Summary) else int(np.count_nonzero(values > 0))


def _doubt(values: Values, weights: Weights) -> str | None:
    return None if weights is None or isinstance(values, Summary) else weighing.diagnose(values, weights).poor


def frequency(hit: np.ndarray, weights: Weights = None) -> Estimate:
    """How likely an event is, given on which paths it was seen."""
    if weights is None:
        return probability(int(np.count_nonzero(hit)), len(hit))
    value, error = weighing.probability_and_error(hit, weights)
    interval = weighing.probability_limits(hit, weights, (1 - CONFIDENCE) / 2)
    warning = "no path had the event; read the interval's upper end" if not hit.any() else _doubt(hit, weights)
    return Estimate(value, error if hit.any() else float(weights.max()) / len(weights), interval, warning)


def probability(events: int, paths: int, confidence: float = CONFIDENCE) -> Estimate:
    """Share of paths with an event. Without events the standard error is that of one event in as many paths."""
    tail = (1 - confidence) / 2
    low = float(beta.ppf(tail, events, paths - events + 1)) if events > 0 else 0.0
    high = float(beta.ppf(1 - tail, events + 1, paths - events)) if events < paths else 1.0
    share = events / paths
    spread = min(max(share, 1 / paths), 1 - 1 / paths) if paths > 1 else 0.5
    warning = "no path had the event; read the interval's upper end" if events == 0 else None
    return Estimate(share, float(np.sqrt(spread * (1 - spread) / paths)), (low, high), warning)


def upper_limit(events: int, paths: int, confidence: float) -> float:
    """One-sided upper confidence limit of a probability."""
    return float(beta.ppf(confidence, events + 1, paths - events)) if events < paths else 1.0


def most_events(limit: float, paths: int, confidence: float) -> int:
    """How many events there may be among the paths for the upper limit to stay within `limit`; -1 if none is too many."""
    low, high = -1, paths
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if upper_limit(middle, paths, confidence) <= limit else (low, middle)
    return low


def quantile(values: Values, level: float, weights: Weights = None) -> Estimate:
    tail = (1 - CONFIDENCE) / 2
    if weights is None or isinstance(values, Summary):
        value, low, high = _counted_quantile(values, level, tail)
    else:
        value, low, high = weighing.quantile(values, weights, level, tail)
    error = (high - low) / (2 * float(norm.ppf(1 - tail)))
    warning = None
    if value <= 0 and positive(values) > 0:
        warning = f"0 because fewer than {1 - level:.2%} of paths lose anything; read the expected shortfall"
    elif (1 - level) * len(values) < 10:
        warning = "fewer than ten paths lie beyond this quantile"
    return Estimate(value, error, (low, high), warning)


def _counted_quantile(values: Values, level: float, tail: float) -> tuple[float, float, float]:
    size = len(values)
    # Counted from 0: the lower end must have at least the lower count of values below it, itself included.
    ranks = np.asarray(binom.ppf([tail, 1 - tail], size, level)).astype(int) - [1, 0]
    asked = np.append(np.clip(ranks, 0, size - 1), min(int(np.ceil(level * size)), size) - 1)
    if isinstance(values, Summary):
        low, high, value = values.ranked(asked)
    else:
        low, high, value = np.sort(np.asarray(values, dtype=np.float64))[asked]
    return float(value), float(low), float(high)


def expected_shortfall(values: Values, level: float, weights: Weights = None) -> Estimate:
    """Mean over the worst `1 - level` of paths."""
    threshold = quantile(values, level, weights).value
    excess = _excess(values, threshold, 1 - level)
    inner = mean(excess, weights)
    low, high = inner.interval
    warning = _doubt(excess, weights)
    if _share_positive(values, weights) < 1 - level:
        warning = f"fewer than {1 - level:.2%} of paths lose anything: this is the mean divided by {1 - level:g}"
    return Estimate(
        threshold + inner.value, inner.standard_error, (max(threshold + low, 0.0), threshold + high), warning
    )


def _excess(values: Values, threshold: float, share: float) -> Values:
    if isinstance(values, Summary):
        return values.excess(threshold, share)
    return np.maximum(np.asarray(values, np.float64) - threshold, 0.0) / share


def _share_positive(values: Values, weights: Weights) -> float:
    return positive(values) / len(values) if isinstance(values, Summary) else mean(values > 0, weights).value


def inverse(estimate: Estimate) -> Estimate:
    """One over a positive figure, its error by the delta method."""
    low, high = estimate.interval
    value = 1 / estimate.value
    return Estimate(value, estimate.standard_error * value**2, (1 / high, 1 / low if low > 0 else float("inf")))


# What liquidated users pay: penalties, and slippage through spread and displaced prices.
USER_COST = ("penalty", "slippage")


def user_cost(values: Outcomes) -> Any:
    return total(values, USER_COST)


def metrics_of(sample: Sample, tail_level: float) -> dict[str, Estimate]:
    """Every metric of a sample, by name; losses and costs as shares of initial open interest."""
    v, w = sample.values, sample.weights
    at = f"{100 * tail_level:g}"
    margin = mean(v["initial_margin"], w)
    return {
        "insolvency_probability": frequency(v["distance"] > 0, w),
        "account_insolvency_rate": mean_of_loss(v["insolvent_share"], w),
        "bad_debt": mean_of_loss(v["bad_debt"], w),
        f"bad_debt_var_{at}": quantile(v["bad_debt"], tail_level, w),
        f"bad_debt_es_{at}": expected_shortfall(v["bad_debt"], tail_level, w),
        "open_deficit": mean_of_loss(v["open_deficit"], w),
        "fund_draw": mean_of_loss(v["fund_draw"], w),
        f"fund_draw_es_{at}": expected_shortfall(v["fund_draw"], tail_level, w),
        "socialised_loss": mean_of_loss(v["socialised_loss"], w),
        f"socialised_loss_es_{at}": expected_shortfall(v["socialised_loss"], tail_level, w),
        **{name: mean_of_loss(v[name], w) for name in OPTIONAL_FIELDS if name in v and name not in RISES},
        "liquidated": mean_of_loss(v["liquidated"], w),
        f"liquidations_at_risk_{at}": quantile(v["liquidated"], tail_level, w),
        "user_cost": mean(user_cost(v), w),
        "false_liquidation_rate": mean_of_loss(v["false_liquidation"], w),
        "margin_per_oi": margin,
        "max_leverage": inverse(margin),
        "margin_peak_to_trough": mean(v["margin_peak_to_trough"], w),
        "margin_rise": mean(v["margin_rise"], w),
        **{name: mean(v[name], w) for name in RISES if name in v},
    }
