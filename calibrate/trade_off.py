"""The trade-off curve in numbers: which points are beaten, how much the whole is worth, and where the named policies stand.

Everything is read off the table of the frontier. Rows that share their paths err together, so that differences between them are
sharper than their own intervals say; rows whose paths were drawn to suit them have little in common. Intervals cannot tell how
much, so every error given here is on the safe side: that of a sum takes the parts as if they erred in one direction, that of a
difference takes them as if they had nothing in common.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import norm

from calibrate.metrics import CONFIDENCE, Estimate

# The corner from which the area is measured: leverage of one is none at all.
NO_LEVERAGE = 1.0
_HALF = float(norm.ppf((1 + CONFIDENCE) / 2))


class Standing(NamedTuple):
    """Where a named policy stands. At its insolvency probability the curve offers `more_leverage`, and liquidated users pay
    `user_cost_there` instead of `user_cost`; at its leverage the curve's probability is `times_safer` times lower. None where
    that lies beyond the sweep, or where none of the policy's own paths was insolvent. `dominated` as for the points of the
    sweep.

    What users pay is there because a search that weighs it gives up leverage for it: then a policy that is dear to them
    may offer more leverage than the curve.
    """

    label: str
    max_leverage: Estimate
    insolvency_probability: Estimate
    user_cost: Estimate
    dominated: bool
    more_leverage: Estimate | None
    user_cost_there: Estimate | None
    times_safer: Estimate | None

    def as_json(self) -> dict[str, object]:
        return {key: value.as_json() if isinstance(value, Estimate) else value for key, value in self._asdict().items()}


def dominated(table: pd.DataFrame) -> pd.Series:
    """Which rows are beaten on both counts: a point of the sweep offers at least as much leverage, and its whole interval of
    the insolvency probability lies below theirs.

    Where intervals overlap or touch, nothing is said, and equal points do not beat each other. Leverage is compared by its
    estimate, whose error is hundreds of times smaller than the steps of a sweep. Only the sweep beats, so that its points
    look the same whatever policies are named beside them.
    """
    sweep = table[table["label"] == "frontier"]
    as_much = sweep["max_leverage"].to_numpy() >= table["max_leverage"].to_numpy()[:, None]
    below = sweep["high"].to_numpy() < table["low"].to_numpy()[:, None]
    return pd.Series((as_much & below).any(axis=1), index=table.index)


def curve(table: pd.DataFrame) -> pd.DataFrame:
    """Certified points of the sweep that no other of them beats by its estimate, so that probability rises with leverage.

    `shown` is the probability, or its upper limit where no path was insolvent.
    """
    points = table[(table["label"] == "frontier") & table["certified"]]
    probability = points["insolvency_probability"]
    points = points.assign(shown=probability.where(probability > 0, points["high"]))
    points = points.sort_values(["max_leverage", "shown"], ascending=[False, True], kind="stable")
    lowest_so_far = points["shown"].cummin().shift(fill_value=np.inf)
    return points[points["shown"] < lowest_so_far].iloc[::-1]


def hypervolume(table: pd.DataFrame, loosest: float) -> Estimate:
    """One number for the whole curve: the area of leverage and decades of probability that its points reach.

    A point reaches all that offers no more leverage at no less probability, from the corner of no leverage and the loosest
    tolerance (E. Zitzler and L. Thiele, Multiobjective Evolutionary Algorithms, IEEE Transactions on Evolutionary Computation
    3, 1999). It compares runs of one job, which share that corner and the number of points. Larger is better.
    """
    points = curve(table)
    if points.empty:
        return Estimate(0.0, 0.0, (0.0, 0.0), "no point of the sweep was certified")
    shown = points["shown"].to_numpy()
    decades = np.maximum(np.log10(loosest / shown), 0.0)
    widths = np.diff(np.maximum(points["max_leverage"].to_numpy(), NO_LEVERAGE), prepend=NO_LEVERAGE)
    steps = decades - np.append(decades[1:], 0.0)
    # Moving a point sideways moves the edge of its own step, moving it up or down the ceiling over its own width.
    error = widths @ (points["standard_error"].to_numpy() / shown / np.log(10)) + steps @ _leverage_error(points)
    return _normal(float(widths @ decades), float(error))


def standings(table: pd.DataFrame) -> list[Standing]:
    """Every named policy against the curve, interpolated between its points in the logarithm of the probability."""
    line, beaten = _line(curve(table)), dominated(table).to_numpy()
    rows = np.flatnonzero(table["label"] != "frontier").tolist()
    return [_standing(table.iloc[[row]], line, bool(beaten[row])) for row in rows]


class _Line(NamedTuple):
    """The curve as its points in order of leverage: with the logarithm of the probability, what liquidated users pay, and the
    standard errors of all three."""

    leverage: np.ndarray
    log_probability: np.ndarray
    user_cost: np.ndarray
    leverage_error: np.ndarray
    log_error: np.ndarray
    cost_error: np.ndarray


class _Place(NamedTuple):
    """A place on the curve: on which of its stretches, and which share of the way along it."""

    stretch: int
    along: float

    def of(self, ends: np.ndarray) -> float:
        return float((1 - self.along) * ends[self.stretch] + self.along * ends[self.stretch + 1])


def _line(points: pd.DataFrame) -> _Line:
    """An upper limit is nothing to interpolate from, so points without an insolvent path are left out."""
    seen = points[points["insolvency_probability"] > 0]
    leverage, probability, cost, error, cost_error = (
        seen[key].to_numpy()
        for key in (
            "max_leverage", "insolvency_probability", "user_cost", "standard_error", "user_cost_standard_error",
        )
    )  # fmt: skip
    return _Line(leverage, np.log(probability), cost, _leverage_error(seen), error / probability, cost_error)


def _leverage_error(points: pd.DataFrame) -> np.ndarray:
    """Leverage is the inverse of the margin; its error by the delta method."""
    return (points["margin_per_oi_standard_error"] * points["max_leverage"] ** 2).to_numpy()


def _standing(row: pd.DataFrame, line: _Line, beaten: bool) -> Standing:
    leverage = _normal(float(row["max_leverage"].item()), float(_leverage_error(row)[0]))
    cost = _normal(float(row["user_cost"].item()), float(row["user_cost_standard_error"].item()))
    value, error, low, high = (
        float(row[key].item()) for key in ("insolvency_probability", "standard_error", "low", "high")
    )
    probability = Estimate(value, error, (low, high))
    more = cost_there = times = None
    if value > 0:
        if place := _place(line.log_probability, np.log(value)):
            more = _more_leverage(leverage, probability, line, place)
            cost_there = _cost_there(leverage, probability, line, place)
        if place := _place(line.leverage, leverage.value):
            times = _times_safer(leverage, probability, line, place)
    return Standing(str(row["label"].item()), leverage, probability, cost, beaten, more, cost_there, times)


def _more_leverage(leverage: Estimate, probability: Estimate, line: _Line, place: _Place) -> Estimate:
    error = _log_error(leverage, probability, line, place) / _slope(line.log_probability, line, place)
    return _normal(place.of(line.leverage) - leverage.value, error)


def _cost_there(leverage: Estimate, probability: Estimate, line: _Line, place: _Place) -> Estimate:
    """What users pay on the curve where it is as likely insolvent; where that is, is itself uncertain."""
    shift = _log_error(leverage, probability, line, place) / _slope(line.log_probability, line, place)
    error = place.of(line.cost_error) + abs(_slope(line.user_cost, line, place)) * shift
    return _normal(place.of(line.user_cost), error)


def _times_safer(leverage: Estimate, probability: Estimate, line: _Line, place: _Place) -> Estimate:
    times = float(probability.value / np.exp(place.of(line.log_probability)))
    error = _log_error(leverage, probability, line, place)
    interval = (times * float(np.exp(-_HALF * error)), times * float(np.exp(_HALF * error)))
    return Estimate(times, times * error, interval)


def _place(ends: np.ndarray, value: float) -> _Place | None:
    """Where a value lies among rising numbers; None beyond the first or the last."""
    if len(ends) < 2 or not ends[0] <= value <= ends[-1]:
        return None
    stretch = min(int(np.searchsorted(ends, value, side="right")) - 1, len(ends) - 2)
    return _Place(stretch, float((value - ends[stretch]) / (ends[stretch + 1] - ends[stretch])))


def _slope(values: np.ndarray, line: _Line, place: _Place) -> float:
    """Of what rises or falls along the curve, in the leverage."""
    return float(np.diff(values)[place.stretch] / np.diff(line.leverage)[place.stretch])


def _log_error(leverage: Estimate, probability: Estimate, line: _Line, place: _Place) -> float:
    """Standard error of the logarithm by which a policy and a place on the curve differ."""
    slope = _slope(line.log_probability, line, place)
    own = probability.standard_error / probability.value + slope * leverage.standard_error
    return float(np.hypot(own, place.of(line.log_error + slope * line.leverage_error)))


def _normal(value: float, error: float) -> Estimate:
    return Estimate(value, error, (value - _HALF * error, value + _HALF * error))
