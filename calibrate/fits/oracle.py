"""Fits a push oracle to a round log: its deviation threshold, its heartbeat, and how late its reports are, also in storms.

Each is read off what it leaves in the log. The *deviation* is the edge in the sizes of moves between rounds, below which a round
has another reason; its position is known to one spacing of the data (Chernoff and Rubin 1956). The *heartbeat* is the time
between quiet rounds, those of smaller moves. Whether it is a clock or restarts with every report shows in the quiet rounds that
follow a deviation: one heartbeat after the last quiet round, or after the last report. *Lateness* is how far behind the
earliest of its neighbours a round on the heartbeat comes. The earliest cannot be had sooner than with the next block, which is
added; the log itself does not show it, so the error includes a block. Lateness is regressed on volatility, which is estimated
from the log too: squared moves between stopping times add up to the variance of a martingale. What the noise of that estimate
takes off the exponent is put back by its reliability (Fuller 1987, section 1.1), measured on the two halves of each window.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import least_squares

from calibrate.data.rounds import Rounds
from calibrate.errors import UserError
from calibrate.fits.blocks import blocks_of_time, bootstrap, standard_errors
from calibrate.units import SECONDS_PER_YEAR

EDGE_WINDOW = 0.1  # moves within this share of a candidate are counted on either side of it
# Log-likelihood by which an edge must beat none; by chance a given move has that less than once in 100,000 times (Wilks 1938).
EDGE_EVIDENCE = 10.0
QUIET = 0.96  # of the deviation: smaller moves have another reason than their size
CLUSTER = 0.05  # gaps this close to the heartbeat belong to it
NEIGHBOURS = 49  # quiet rounds among which the earliest is looked for
EARLIEST = 0.05  # quantile that stands for it
VOLATILITY_WINDOW_S = 6 * 3600.0
SHORTEST_LOOK_S = 10.0
BLOCKS = 40  # of time, for the bootstrap
SHORTEST_BLOCK_S = 86_400.0


class Beats(NamedTuple):
    """Rounds on the heartbeat: their number in the log, and how late each was beyond the earliest of its neighbours."""

    rounds: np.ndarray
    late_s: np.ndarray


class Heartbeat(NamedTuple):
    """Mean time between rounds on the heartbeat, which is what the engine's heartbeat is. `clock_share` is the share of telling
    rounds that say it is a clock; None where no round tells."""

    seconds: float
    standard_error: float
    clock_share: float | None
    clock_share_error: float | None

    @property
    def restarts(self) -> bool:
        return self.clock_share is None or self.clock_share < 0.5


class Lateness(NamedTuple):
    """Delay at median volatility (seconds, block included), its power of volatility, and their errors."""

    delay_s: float
    exponent: float
    delay_error: float
    exponent_error: float


def moves(rounds: Rounds) -> np.ndarray:
    """Size of the relative change that each round reports, NaN where it does not follow the one before."""
    change = np.abs(
        np.diff(rounds.answer, prepend=rounds.answer[0]) / np.concatenate([rounds.answer[:1], rounds.answer[:-1]])
    )
    return np.where(rounds.follows, change, np.nan)


def gaps(rounds: Rounds) -> np.ndarray:
    """Seconds since the round before, NaN where that is not in the log."""
    return np.where(rounds.follows, np.diff(rounds.seconds, prepend=rounds.seconds[0]), np.nan)


def deviation_of(sizes: np.ndarray) -> tuple[float, float]:
    """The threshold at which the density of move sizes jumps up most clearly, and its standard error."""
    sizes = np.sort(sizes[np.isfinite(sizes) & (sizes > 1e-5)])
    here = np.searchsorted(sizes, sizes)
    above = np.searchsorted(sizes, sizes * (1 + EDGE_WINDOW)) - here
    below = here - np.searchsorted(sizes, sizes * (1 - EDGE_WINDOW))
    both = above + below
    with np.errstate(divide="ignore", invalid="ignore"):
        evidence = above * np.log(2 * above / both) + np.where(below > 0, below * np.log(2 * below / both), 0.0)
    evidence = np.where(above > below, evidence, 0.0)
    best = int(np.argmax(evidence))
    if evidence[best] < EDGE_EVIDENCE:
        raise UserError(
            "the round log shows no threshold: sizes of moves between rounds have no edge, as those of a feed that reports on "
            "a deviation would. Use a longer log, or check that it is one feed's."
        )
    return _sharpened(sizes, sizes[best])


def _sharpened(sizes: np.ndarray, rough: float) -> tuple[float, float]:
    """The edge to within a spacing: an even density below it, an exponential one above, each move in turn as the edge."""
    low = rough * (1 - EDGE_WINDOW)
    near = sizes[(sizes > low) & (sizes < rough * (1 + 2 * EDGE_WINDOW))]
    candidates = np.flatnonzero(near < rough * (1 + EDGE_WINDOW))
    below, above = candidates, len(near) - candidates
    sums = np.cumsum(near[::-1])[::-1][candidates]
    scale = np.maximum(sums / above - near[candidates], 1e-12)
    likely = np.where(below > 0, below * np.log(np.maximum(below, 1) / (near[candidates] - low)), 0.0)
    likely = likely + above * (np.log(above / scale) - 1)
    best = int(np.argmax(likely))
    spacing = scale[best] / above[best]
    # The smallest of the moves above lies one spacing above the edge on average.
    return float(near[candidates[best]] - spacing), float(spacing)


def heartbeat_of(gap_s: np.ndarray, quiet: np.ndarray, seconds: np.ndarray, rng: np.random.Generator) -> Heartbeat:
    """The heartbeat, and whether it is a clock."""
    after_quiet = quiet & np.concatenate([[False], quiet[:-1]]) & np.isfinite(gap_s) & (gap_s > 0)
    if after_quiet.sum() < 20:
        raise UserError(
            f"the round log shows no heartbeat: only {int(after_quiet.sum())} rounds came without a move, after another such "
            "round. Use a longer log, or one of calmer times."
        )
    # The bin of gaps, 4 % wide, in which most time is spent.
    bins = np.round(np.log(gap_s[after_quiet]) / 0.04).astype(int)
    fullest = max(set(bins.tolist()), key=lambda b: float(gap_s[after_quiet][bins == b].sum()))
    rough = float(np.median(gap_s[after_quiet][bins == fullest]))

    since_quiet = np.full(len(seconds), np.nan)
    rows = np.flatnonzero(quiet)
    since_quiet[rows[1:]] = np.diff(seconds[rows])
    on = lambda span: np.abs(span / rough - 1) < CLUSTER  # noqa: E731
    follows_deviation = quiet & ~np.concatenate([[True], quiet[:-1]])
    clock, restart = follows_deviation & on(since_quiet), follows_deviation & on(gap_s)
    telling = np.flatnonzero(clock ^ restart)
    share = error = None
    if len(telling):
        share = float(clock[telling].mean())
        error = float(np.sqrt(max(share * (1 - share), 1 / len(telling)) / len(telling)))
    blocks = _time_blocks(seconds)
    if share is None or share < 0.5:
        beats = np.flatnonzero(quiet & on(gap_s))
        periods = [gap_s[block][np.isin(block, beats)].mean() for block in blocks if np.isin(block, beats).sum() >= 5]
    else:
        beats = _chain(seconds, quiet, rough)
        periods = [p for block in blocks if (p := _pace(seconds[np.intersect1d(block, beats)], rough)) is not None]
    middle = np.median(rng.choice(periods, (500, len(periods))), axis=1)
    return Heartbeat(float(np.median(periods)), float(middle.std(ddof=1)), share, error)


def _pace(times: np.ndarray, rough: float) -> float | None:
    """Period of a clock from its beats: the slope of time on the number of the beat."""
    if len(times) < 5:
        return None
    number = np.cumsum(np.round(np.diff(times, prepend=times[0]) / rough))
    return float(np.polyfit(number, times - times[0], 1)[0])


def _chain(seconds: np.ndarray, quiet: np.ndarray, period: float) -> np.ndarray:
    """Rounds on the clock: quiet, and a whole number of periods after the last of them."""
    rows, last = [], None
    for row in np.flatnonzero(quiet):
        since = np.inf if last is None else seconds[row] - seconds[last]
        off = since - period * np.round(since / period) if np.isfinite(since) else 0.0
        # After a long silence nothing is expected of the next round, so that a clock which was set anew is found again.
        if since > 6 * period or (since > period / 2 and abs(off) < CLUSTER * period):
            rows.append(row)
            last = row
    return np.array(rows, dtype=int)


def beats_of(rounds: Rounds, quiet: np.ndarray, heartbeat: Heartbeat) -> Beats:
    """Rounds on the heartbeat, and how late each came."""
    period = heartbeat.seconds
    if heartbeat.restarts:
        gap_s = gaps(rounds)
        rows = np.flatnonzero(quiet & (np.abs(gap_s / period - 1) < CLUSTER))
        time = pd.Series(gap_s[rows])
    else:
        rows = _chain(rounds.seconds, quiet, period)
        since = np.diff(rounds.seconds[rows], prepend=rounds.seconds[rows[0]])
        time = pd.Series(np.cumsum(since - period * np.round(since / period)))
    earliest = time.rolling(NEIGHBOURS, center=True, min_periods=1).quantile(EARLIEST)
    late = np.maximum((time - earliest).to_numpy(), 0.0)
    # Further from its neighbours than a beat may be, a round belongs to a clock that was set anew among them.
    settled = late < CLUSTER * period
    return Beats(rows[settled], late[settled])


def volatility_before(rounds: Rounds, at: np.ndarray, window_s: float = VOLATILITY_WINDOW_S) -> np.ndarray:
    """Annual volatility over the window before each time, from the moves between rounds."""
    return np.sqrt(variance_between(rounds, at - window_s, at) / window_s * SECONDS_PER_YEAR)


def variance_between(rounds: Rounds, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Sum of squared log-returns between two times, spread evenly between rounds."""
    squares = np.where(rounds.follows, np.diff(np.log(rounds.answer), prepend=np.log(rounds.answer[0])), 0.0) ** 2
    total = np.cumsum(squares)
    return np.interp(end, rounds.seconds, total) - np.interp(start, rounds.seconds, total)


def lateness_of(rounds: Rounds, beats: Beats, block_s: float, rng: np.random.Generator) -> Lateness:
    """Delay and how it grows with volatility: least squares of `delay * volatility ** exponent`, errors from a bootstrap of
    blocks of time, a block's uniform error added."""
    volatility = volatility_before(rounds, rounds.seconds[beats.rounds] - 1)
    y = np.log(np.maximum(volatility / np.median(volatility), 0.02))
    late = beats.late_s + block_s
    blocks = blocks_of_time(rounds.seconds[beats.rounds], _block_length(rounds.seconds))
    level, exponent = _power_law(y, late).tolist()
    errors = standard_errors(bootstrap(lambda rows: _power_law(y[rows], late[rows]), blocks, rng))
    trust = _reliability(rounds, rounds.seconds[beats.rounds] - 1)
    return Lateness(
        level, exponent / trust, float(np.hypot(errors[0], block_s / np.sqrt(12))), float(errors[1]) / trust
    )


def _reliability(rounds: Rounds, at: np.ndarray) -> float:
    """Share of the variance of estimated log-volatility that is volatility's own: from the correlation of halves of the window
    (Spearman 1910, Brown 1910)."""
    half = VOLATILITY_WINDOW_S / 2
    early, late = volatility_before(rounds, at - half, half), volatility_before(rounds, at, half)
    known = (early > 0) & (late > 0)
    alike = float(np.corrcoef(np.log(early[known]), np.log(late[known]))[0, 1])
    return 2 * alike / (1 + alike) if alike > 0.1 else 1.0


def _power_law(y: np.ndarray, late: np.ndarray) -> np.ndarray:
    """Level and exponent, by least squares on the mean."""
    found = least_squares(lambda p: np.exp(p[0] + p[1] * y) - late, [np.log(late.mean()), 0.0], method="lm").x
    return np.array([np.exp(found[0]), found[1]])


def block_time(seconds: np.ndarray) -> float:
    """The largest whole number of seconds that divides every gap: the time between blocks, where that is fixed."""
    return float(np.gcd.reduce(np.round(np.diff(seconds)).astype(np.int64)) or 1)


def look_interval(gap_s: np.ndarray, moved: np.ndarray, block_s: float) -> float:
    """How often the feed looks: the period that shows most clearly in short gaps before rounds on a deviation, above the two
    blocks below which a period cannot be told (Nyquist); with every block if none shows, but not without end."""
    short = gap_s[moved & (gap_s > 0) & (gap_s < 600)]
    periods = np.arange(2 * block_s + 1, max(20 * block_s, 120) + 1)
    clear = np.abs(np.exp(2j * np.pi * short[:, None] / periods).sum(axis=0)) ** 2 / max(len(short), 1)
    # Of gaps without a period this is exponential with mean one.
    found = len(short) and clear.max() > 20 + np.log(len(periods))
    return float(periods[int(np.argmax(clear))]) if found else max(block_s, SHORTEST_LOOK_S)


def _time_blocks(seconds: np.ndarray) -> list[np.ndarray]:
    return blocks_of_time(seconds, _block_length(seconds))


def _block_length(seconds: np.ndarray) -> float:
    return max((seconds[-1] - seconds[0]) / BLOCKS, SHORTEST_BLOCK_S)
