"""Two policies on the same paths: differences that are far sharper than the levels.

Every metric is to first order a mean over paths of something that each path contributes: its outcome, for expected shortfall
its outcome beyond the quantile. The difference of two contributions on the same path has a small spread, since both policies
face the same future. Quantiles have no such contribution and are left out.
"""

from typing import NamedTuple

import numpy as np
from scipy.stats import norm

from calibrate.metrics import CONFIDENCE, mean, metrics_of, probability, quantile, upper_limit, user_cost
from calibrate.rise_windows import METRICS as RISES
from calibrate.simulate import Sample
from calibrate.weighing import diagnose

# With fewer paths on which the two differ, a normal interval for a mean of losses claims too much.
_DIFFERENCES_NEEDED = 30


class Difference(NamedTuple):
    """The second policy less the first, with its standard error and 95 % interval. `verdict` is "lower", "higher" or "not
    told apart"; one verdict in twenty is wrong where there is no difference. `poor` says why weighted paths, should they not,
    do not suffice for one."""

    metric: str
    first: float
    second: float
    difference: float
    standard_error: float
    interval: tuple[float, float]
    verdict: str
    poor: str | None = None


def compare(first: Sample, second: Sample, tail_level: float) -> list[Difference]:
    """Differences of all metrics that are means over paths; both samples are of the same paths."""
    levels = [metrics_of(sample, tail_level) for sample in (first, second)]
    parts = [contributions(sample, tail_level) for sample in (first, second)]
    rows = []
    for name in parts[0]:
        gaps = parts[1][name] - parts[0][name]
        difference, error, *_ = mean(gaps, first.weights)
        counted = name == "insolvency_probability" and first.weights is None
        interval, told = (_counted if counted else _averaged)(gaps, difference, error)
        poor = None if first.weights is None or not gaps.any() else diagnose(np.abs(gaps), first.weights).poor
        verdict = ("higher" if difference > 0 else "lower") if told and poor is None else "not told apart"
        before, after = (sample[name].value for sample in levels)
        rows.append(Difference(name, before, after, difference, error, interval, verdict, poor))
    return rows


def contributions(sample: Sample, tail_level: float) -> dict[str, np.ndarray]:
    """What each path contributes to each metric; the metric is the mean, to first order."""
    v = {name: np.asarray(values, np.float64) for name, values in sample.values.items()}
    at = f"{100 * tail_level:g}"
    margin = mean(v["initial_margin"], sample.weights).value
    return {
        "insolvency_probability": (v["distance"] > 0).astype(np.float64),
        "account_insolvency_rate": v["insolvent_share"],
        "bad_debt": v["bad_debt"],
        f"bad_debt_es_{at}": _beyond(v["bad_debt"], tail_level, sample.weights),
        "fund_draw": v["fund_draw"],
        "socialised_loss": v["socialised_loss"],
        "liquidated": v["liquidated"],
        "user_cost": user_cost(v),
        "false_liquidation_rate": v["false_liquidation"],
        "margin_per_oi": v["initial_margin"],
        "max_leverage": 1 / margin - (v["initial_margin"] - margin) / margin**2,
        "margin_rise": v["margin_rise"],
        **{name: v[name] for name in RISES if name in v},
    }


def _beyond(values: np.ndarray, level: float, weights: np.ndarray | None) -> np.ndarray:
    threshold = quantile(values, level, weights).value
    return threshold + np.maximum(values - threshold, 0.0) / (1 - level)


def _averaged(gaps: np.ndarray, difference: float, error: float) -> tuple[tuple[float, float], bool]:
    """Interval of a mean difference, and whether it tells the two apart."""
    half = float(norm.ppf((1 + CONFIDENCE) / 2)) * error
    enough = np.count_nonzero(gaps) >= _DIFFERENCES_NEEDED
    return (difference - half, difference + half), bool(enough and abs(difference) > half)


def _counted(gaps: np.ndarray, difference: float, error: float) -> tuple[tuple[float, float], bool]:
    """The same for a probability. Paths that are insolvent under one policy only favour either as a coin does, if there is no
    difference (McNemar 1947); the interval is that of the coin, for as many paths as differ."""
    del difference, error
    up, differ = int(np.count_nonzero(gaps > 0)), int(np.count_nonzero(gaps))
    if differ == 0:
        most = upper_limit(0, gaps.size, (1 + CONFIDENCE) / 2)
        return (-most, most), False
    low, high = probability(up, differ).interval
    interval = ((2 * low - 1) * differ / gaps.size, (2 * high - 1) * differ / gaps.size)
    return interval, not interval[0] <= 0 <= interval[1]
