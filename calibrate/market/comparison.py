"""Families of market models ranked by what they say of data that they were not fitted to.

Every family is fitted to the bars before a date and follows its state through all bars with the parameters that it has; forecasts
from that date on are scored (`score.py`). Families that carry a state forecast from it, those that carry none always forecast
the same: that is what they are. Families are ranked by skill, the share of the constant model's score that is saved, averaged
over the horizons. Where two are closer than their error, coverage of the far quantiles should choose.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from calibrate.data.candles import MINIMUM_BARS_FOR_FIT, Candles
from calibrate.data.times import iso_time
from calibrate.errors import Problem, UserError
from calibrate.market.fit import FITS, check_candles
from calibrate.market.fits.estimate import Estimate, Task
from calibrate.market.score import MEMBERS, Forecasts, forecast

FEWEST_WEEKS = 8
BASE = "constant"


class ScoreRow(NamedTuple):
    """One family over one horizon. Scores are means in basis points of log-return; skill is relative to constant volatility.
    Coverage is the share of returns that are not worse than the forecast's 99 % (99.9 %) quantile for longs and for shorts; its
    standard error is that of a model that is right."""

    family: str
    hours: float
    dates: int
    crps_bps: float
    crps_bps_se: float
    skill: float
    skill_se: float
    long_99: float
    short_99: float
    coverage_99_se: float
    long_999: float
    short_999: float
    coverage_999_se: float


class Place(NamedTuple):
    """A family's place: mean skill over horizons, and how far it is behind the best, each with its standard error. `state` says
    whether forecasts start from a state that the model follows."""

    rank: int
    family: str
    state: str
    fitted_by: str
    skill: float
    skill_se: float
    behind: float
    behind_se: float


@dataclass(frozen=True)
class Comparison:
    """Families fitted on `train` and scored on what follows up to `last`; `ranking` has the best first."""

    train: Candles
    task: Task
    estimates: dict[str, Estimate]
    ranking: list[Place]
    scores: list[ScoreRow]
    until: str
    last: str
    notes: tuple[str, ...]

    def table(self) -> pd.DataFrame:
        """All scores, the best family first."""
        place = {row.family: row for row in self.ranking}
        ordered = sorted(self.scores, key=lambda row: (place[row.family].rank, row.hours))
        return pd.DataFrame(
            [{"rank": place[row.family].rank, **row._asdict(), "state": place[row.family].state} for row in ordered]
        )


def before(candles: Candles, until_ms: int) -> Candles:
    """The bars that close by then."""
    kept = candles.ts + round(candles.interval_s * 1000) <= until_ms
    columns = ("ts", "open", "high", "low", "close", "volume")
    return replace(candles, **{name: getattr(candles, name)[kept] for name in columns})


def compare_families(
    candles: Candles,
    families: Sequence[str] | None = None,
    *,
    until_ms: int,
    seed: int = 0,
    on_progress: Callable[[str], None] | None = None,
) -> Comparison:
    """Fit families (all by default) to the bars before a time (Unix milliseconds), score them on those after it."""
    tell = on_progress or (lambda text: None)
    names = list(dict.fromkeys([*(families or FITS), BASE]))
    train = before(candles, until_ms)
    _check(candles, train, names, until_ms)
    task = Task(train, seed, tell)
    estimates: dict[str, Estimate] = {}
    scored: dict[str, list[Forecasts]] = {}
    notes = []
    for number, name in enumerate(names, 1):
        tell(f"{name} ({number} of {len(names)}): fitting {train.bars:,} bars before {iso_time(until_ms)}")
        try:
            estimate = FITS[name].fit(task)
        except UserError as error:
            notes.append(f"{name} is left out: {error}")
            continue
        follow = FITS[name].follow
        known = None if follow is None else follow(estimate, candles)
        tell(f"{name} ({number} of {len(names)}): forecasting {candles.bars - train.bars:,} bars, {MEMBERS} paths each")
        estimates[name] = estimate
        scored[name] = forecast(FITS[name].file_of(estimate), known, candles, train.bars - 1, seed=seed)
        notes += [f"{name}: {note}" for note in estimate.notes]
    rows = [_row(name, own, base) for name in scored for own, base in zip(scored[name], scored[BASE], strict=True)]
    return Comparison(train, task, estimates, _ranking(scored), rows, iso_time(until_ms), candles.last, tuple(notes))


def _check(candles: Candles, train: Candles, names: Sequence[str], until_ms: int) -> None:
    if train.bars < MINIMUM_BARS_FOR_FIT:
        found = f"found {train.bars} bars of {candles.source} before {iso_time(until_ms)}"
        expected = f"expected at least {MINIMUM_BARS_FOR_FIT} to fit to"
        raise UserError([Problem("--until", f"{found}; {expected}; choose a later date or a longer file")])
    weeks = (candles.bars - train.bars) * candles.interval_s / (7 * 86_400)
    if weeks < FEWEST_WEEKS:
        found = f"found {max(weeks, 0):.1f} weeks of {candles.source} from {iso_time(until_ms)} on"
        raise UserError(
            [Problem("--until", f"{found}; expected at least {FEWEST_WEEKS} to score on; choose an earlier date")]
        )
    check_candles(train, names)


def _row(family: str, own: Forecasts, base: Forecasts) -> ScoreRow:
    mean, error = _by_week(own.score, own.week)
    saved, saved_error = _by_week(base.score - own.score, own.week)
    level = float(base.score.mean())
    independent = len(own.score) / own.overlap
    coverage: list[float] = []
    for percent in (0.01, 0.001):
        worst = round(percent * (MEMBERS + 1))
        longs, shorts = np.mean(own.below >= worst), np.mean(own.below <= MEMBERS - worst)
        coverage += [float(longs), float(shorts), math.sqrt(percent * (1 - percent) / independent)]
    score = (1e4 * mean, 1e4 * error, saved / level, saved_error / level)
    return ScoreRow(family, own.hours, len(own.score), *score, *coverage)


def _by_week(values: np.ndarray, week: np.ndarray) -> tuple[float, float]:
    """Mean over all dates, and its standard error from sums over weeks."""
    mean = float(values.mean())
    sums = np.bincount(week, weights=values - mean)
    number = np.count_nonzero(np.bincount(week))
    return mean, float(np.sqrt(number / (number - 1) * np.sum(sums**2)) / len(values))


def _ranking(scored: dict[str, list[Forecasts]]) -> list[Place]:
    """By the mean over horizons of each date's score relative to the constant model's mean, week by week."""
    skill = {name: _weekly_skill(own, scored[BASE]) for name, own in scored.items()}
    order = sorted(skill, key=lambda name: -skill[name].mean())
    places = []
    for rank, name in enumerate(order, 1):
        behind = skill[order[0]] - skill[name]
        state = "none" if FITS[name].follow is None else "followed"
        errors = [float(values.std(ddof=1) / math.sqrt(len(values))) for values in (skill[name], behind)]
        means = float(skill[name].mean()), float(behind.mean())
        places.append(Place(rank, name, state, FITS[name].says, means[0], errors[0], means[1], errors[1]))
    return places


def _weekly_skill(own: list[Forecasts], base: list[Forecasts]) -> np.ndarray:
    """For each week, the share of the constant model's mean score that is saved, averaged over horizons."""
    per_horizon = []
    for mine, theirs in zip(own, base, strict=True):
        saved = (theirs.score - mine.score) / theirs.score.mean()
        count = np.bincount(mine.week)
        per_horizon.append(np.bincount(mine.week, weights=saved) / np.maximum(count, 1))
    shortest = min(map(len, per_horizon))
    return np.mean([values[:shortest] for values in per_horizon], axis=0)
