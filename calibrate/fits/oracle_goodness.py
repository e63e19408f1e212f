"""Does the fitted feed make the log it was fitted to? Two questions, both answered by simulating rounds.

*Gaps*: a feed of the fitted parameters watches a random price of the log's own volatility, and the gaps between its rounds are
held against the log's by the distance of Kolmogorov and Smirnov. Volatility is that of the hour around, scaled once for the
whole log so that as many rounds are called for by deviations; the shape of the distribution is left to the feed. *The wildest
hour*: the feed watches a price that goes straight from each recorded answer to the next, and its rounds are counted.
"""

from typing import NamedTuple

import numpy as np
from scipy.stats import ks_2samp

from calibrate.data.candles import iso_time
from calibrate.data.rounds import Rounds
from calibrate.fits.feed import Feed, simulate_rounds
from calibrate.fits.oracle import variance_between

AROUND_S = 3600.0
DELAYS_TOGETHER = 24  # delays are drawn in runs, since neighbours are alike
REPLAYS = 200
OUTRUN = 2.0  # deviations: a round that reports more was outrun by the price


class Gaps(NamedTuple):
    """Gaps between rounds (seconds) recorded and made, their Kolmogorov-Smirnov distance, and the scale that volatility took."""

    recorded_s: np.ndarray
    made_s: np.ndarray
    distance: float
    volatility_scale: float


class Storm(NamedTuple):
    """A wild hour: rounds in it, their largest step (bps), and the median seconds between rounds that the price outran."""

    rounds: float
    largest_step_bps: float
    outrun_gap_s: float


def gaps_made(rounds: Rounds, feed: Feed, late_s: np.ndarray, moved: int, rng: np.random.Generator) -> Gaps:
    """`late_s` are the delays of rounds on the heartbeat in order, `moved` how many rounds a deviation called for."""
    looks = int((rounds.seconds[-1] - rounds.seconds[0]) // feed.look_s)
    at = rounds.seconds[0] + feed.look_s * np.arange(looks)
    low, high = (np.clip(at + side, *rounds.seconds[[0, -1]]) for side in (-AROUND_S / 2, AROUND_S / 2))
    spread = np.sqrt(variance_between(rounds, low, high) / (high - low) * feed.look_s)
    delays = _runs_of(feed, late_s, looks, rng)
    normals = rng.standard_normal(looks)
    scale = 1.0
    for _ in range(3):
        made = simulate_rounds(feed, np.cumsum(scale * spread * normals), delays, rng)
        # The number of deviations goes with the variance.
        scale *= float(np.sqrt(moved / max(made.on_deviation.sum(), 1)))
    made = simulate_rounds(feed, np.cumsum(scale * spread * normals), delays, rng)
    recorded = np.diff(rounds.seconds)[rounds.follows[1:]]
    made_s = np.diff(made.seconds)
    return Gaps(recorded, made_s, float(ks_2samp(recorded, made_s).statistic), scale)


def wildest_hour(rounds: Rounds) -> float:
    """Start (Unix seconds) of the hour of the log in which squared moves add up to most."""
    start = rounds.seconds[rounds.seconds <= rounds.seconds[-1] - AROUND_S]
    # From just after a round, so that the move which that round reports belongs to the hour before.
    return float(start[int(np.argmax(variance_between(rounds, start, start + AROUND_S)))])


def recorded_storm(rounds: Rounds, start: float, deviation: float) -> Storm:
    return _storm(rounds.seconds, np.log(rounds.answer), start, deviation)


def replayed_storm(
    rounds: Rounds, start: float, feed: Feed, late_s: np.ndarray, rng: np.random.Generator
) -> tuple[Storm, Storm]:
    """Mean and standard deviation over replays of the hour, each with delays and looks of its own."""
    begin = start - feed.heartbeat_s
    replays = []
    for _ in range(REPLAYS):
        at = begin + feed.look_s * (rng.random() + np.arange(int((AROUND_S + 2 * feed.heartbeat_s) // feed.look_s)))
        path = np.interp(at, rounds.seconds, np.log(rounds.answer))
        made = simulate_rounds(
            feed, path, _runs_of(feed, late_s, len(at), rng), rng, first_beat_s=rng.random() * feed.heartbeat_s
        )
        replays.append(_storm(at[0] + made.seconds, made.log_answer, start, feed.deviation))
    figures = np.array(replays)
    known = np.where(np.isfinite(figures).any(axis=0), figures, 0.0)
    return Storm(*np.nanmean(known, axis=0)), Storm(*np.nanstd(known, axis=0, ddof=1))


def _storm(seconds: np.ndarray, log_answer: np.ndarray, start: float, deviation: float) -> Storm:
    inside = (seconds[1:] > start) & (seconds[1:] <= start + AROUND_S)
    steps, gap_s = np.abs(np.expm1(np.diff(log_answer)))[inside], np.diff(seconds)[inside]
    outrun = steps >= OUTRUN * deviation
    middle = float(np.median(gap_s[outrun])) if outrun.any() else np.nan
    return Storm(float(inside.sum()), 1e4 * float(steps.max(initial=0.0)), middle)


def _runs_of(feed: Feed, late_s: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
    """Recorded delays, one for every look: neighbours on the heartbeat stay neighbours, each lasting until the next beat."""
    looks = max(round(feed.heartbeat_s / feed.look_s), 1)
    beats = number // looks + 1
    runs = rng.integers(max(len(late_s) - DELAYS_TOGETHER, 1), size=beats // DELAYS_TOGETHER + 1)
    rows = (runs[:, None] + np.arange(DELAYS_TOGETHER)).ravel()[:beats]
    return np.repeat(late_s[np.minimum(rows, len(late_s) - 1)], looks)[:number]


def hour_name(start: float) -> str:
    return iso_time(1000 * start)[:16].replace("T", " ")
