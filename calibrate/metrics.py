"""From outcomes of paths to figures with standard errors.

Means have the standard error of a mean. Probabilities have exact binomial intervals (Clopper and Pearson 1934). Quantiles have
intervals from order statistics, and expected shortfall the standard error of its minimised form (Rockafellar and Uryasev
2000), which counts the uncertainty of the quantile to first order.
"""

from typing import NamedTuple

import numpy as np
from scipy.stats import beta, binom, norm

from calibrate.simulate import Sample

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


def mean(values: np.ndarray) -> Estimate:
    values = np.asarray(values, dtype=np.float64)
    value = float(values.mean())
    error = float(values.std(ddof=1) / np.sqrt(values.size)) if values.size > 1 else float("nan")
    half = float(norm.ppf((1 + CONFIDENCE) / 2)) * error
    return Estimate(value, error, (value - half, value + half))


def mean_of_loss(values: np.ndarray) -> Estimate:
    """A mean of what cannot be negative; warns when it rests on a handful of paths."""
    estimate = mean(values)
    hit = int(np.count_nonzero(values > 0))
    warning = f"rests on {hit} paths with a loss" if hit < 30 else None
    return estimate._replace(interval=(max(estimate.interval[0], 0.0), estimate.interval[1]), warning=warning)


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


def quantile(values: np.ndarray, level: float) -> Estimate:
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    size = ordered.size
    tail = (1 - CONFIDENCE) / 2
    # Counted from 0: the lower end must have at least the lower count of values below it, itself included.
    ranks = np.asarray(binom.ppf([tail, 1 - tail], size, level)).astype(int) - [1, 0]
    low, high = ordered[np.clip(ranks, 0, size - 1)]
    value = float(ordered[min(int(np.ceil(level * size)), size) - 1])
    error = float(high - low) / (2 * float(norm.ppf(1 - tail)))
    warning = None
    if value <= 0 and ordered[-1] > 0:
        warning = f"0 because fewer than {1 - level:.2%} of paths lose anything; read the expected shortfall"
    elif (1 - level) * size < 10:
        warning = "fewer than ten paths lie beyond this quantile"
    return Estimate(value, error, (float(low), float(high)), warning)


def expected_shortfall(values: np.ndarray, level: float) -> Estimate:
    """Mean over the worst `1 - level` of paths."""
    values = np.asarray(values, dtype=np.float64)
    threshold = quantile(values, level).value
    excess = np.maximum(values - threshold, 0.0) / (1 - level)
    inner = mean(excess)
    low, high = inner.interval
    warning = None
    if np.mean(values > 0) < 1 - level:
        warning = f"fewer than {1 - level:.2%} of paths lose anything: this is the mean divided by {1 - level:g}"
    return Estimate(
        threshold + inner.value, inner.standard_error, (max(threshold + low, 0.0), threshold + high), warning
    )


def inverse(estimate: Estimate) -> Estimate:
    """One over a positive figure, its error by the delta method."""
    low, high = estimate.interval
    value = 1 / estimate.value
    return Estimate(value, estimate.standard_error * value**2, (1 / high, 1 / low if low > 0 else float("inf")))


def user_cost(values: dict[str, np.ndarray]) -> np.ndarray:
    """What liquidated users pay, by path: penalties, and slippage through spread and displaced prices."""
    return np.asarray(values["penalty"], np.float64) + np.asarray(values["slippage"], np.float64)


def metrics_of(sample: Sample, tail_level: float) -> dict[str, Estimate]:
    """Every metric of a sample, by name; losses and costs as shares of initial open interest."""
    v = sample.values
    at = f"{100 * tail_level:g}"
    margin = mean(v["initial_margin"])
    return {
        "insolvency_probability": probability(int(np.count_nonzero(v["distance"] > 0)), sample.paths),
        "account_insolvency_rate": mean_of_loss(v["insolvent_share"]),
        "bad_debt": mean_of_loss(v["bad_debt"]),
        f"bad_debt_var_{at}": quantile(v["bad_debt"], tail_level),
        f"bad_debt_es_{at}": expected_shortfall(v["bad_debt"], tail_level),
        "open_deficit": mean_of_loss(v["open_deficit"]),
        "fund_draw": mean_of_loss(v["fund_draw"]),
        f"fund_draw_es_{at}": expected_shortfall(v["fund_draw"], tail_level),
        "socialised_loss": mean_of_loss(v["socialised_loss"]),
        f"socialised_loss_es_{at}": expected_shortfall(v["socialised_loss"], tail_level),
        "liquidated": mean_of_loss(v["liquidated"]),
        f"liquidations_at_risk_{at}": quantile(v["liquidated"], tail_level),
        "user_cost": mean(user_cost(v)),
        "false_liquidation_rate": mean_of_loss(v["false_liquidation"]),
        "margin_per_oi": margin,
        "max_leverage": inverse(margin),
        "margin_peak_to_trough": mean(v["margin_peak_to_trough"]),
        "margin_rise": mean(v["margin_rise"]),
    }
