"""`fit_oracle`: from a round log to a job's `[oracle]`, with errors, goodness of fit and what a reader must know."""

from collections.abc import Callable
from importlib.metadata import version

import numpy as np

from calibrate.data.rounds import Rounds
from calibrate.errors import UserError
from calibrate.fits.feed import Feed
from calibrate.fits.oracle import (
    NEIGHBOURS,
    QUIET,
    Beats,
    beats_of,
    block_time,
    deviation_of,
    gaps,
    heartbeat_of,
    lateness_of,
    look_interval,
    moves,
    volatility_before,
)
from calibrate.fits.oracle_goodness import (
    AROUND_S,
    Gaps,
    Storm,
    gaps_made,
    hour_name,
    recorded_storm,
    replayed_storm,
    wildest_hour,
)
from calibrate.fits.result import Figure, Goodness, WorldFit, rounded
from calibrate.units import BPS

CERTAIN = 2.0  # standard errors: a growth of the delay that is less certain is left out of the section
BINS = 6  # of volatility, in the figure of lateness


def fit_oracle(
    rounds: Rounds,
    *,
    seed: int = 0,
    storm_start: float | None = None,
    on_progress: Callable[[str], None] = lambda text: None,
) -> WorldFit:
    """Fit a push oracle to a round log. `storm_start` (Unix seconds) is the hour that is replayed, by default the wildest. The
    same log and seed give the same fit; ten months of hourly rounds take a few seconds."""
    rng = np.random.default_rng([seed, 11])
    on_progress(f"measuring {len(rounds.seconds):,} rounds")
    sizes, gap_s = moves(rounds), gaps(rounds)
    deviation, deviation_error = deviation_of(sizes)
    quiet, moved = sizes < QUIET * deviation, sizes >= deviation
    heartbeat = heartbeat_of(gap_s, quiet, rounds.seconds, rng)
    beats = beats_of(rounds, quiet, heartbeat)
    if len(beats.rounds) < NEIGHBOURS:
        found = f"the round log shows {len(beats.rounds)} rounds on the heartbeat; expected at least {NEIGHBOURS} to tell how late"
        raise UserError(f"{found} they are. Use a longer log.")
    block_s = block_time(rounds.seconds)
    late = lateness_of(rounds, beats, block_s, rng)
    share, after_s = _repeats(quiet, gap_s, beats, heartbeat.seconds)
    look_s = look_interval(gap_s, moved, block_s)
    feed = Feed(deviation, heartbeat.seconds, heartbeat.restarts, block_s, look_s, share, after_s)

    on_progress("simulating the fitted feed")
    late_s = beats.late_s + block_s
    made = gaps_made(rounds, feed, late_s, int(moved.sum()), rng)
    start = wildest_hour(rounds) if storm_start is None else storm_start
    if not rounds.seconds[0] <= start <= rounds.seconds[-1] - AROUND_S:
        raise UserError(
            f"--storm: {hour_name(start)} is not in the log, which runs from {rounds.window[0]} to {rounds.window[1]}"
        )
    replays = replayed_storm(rounds, start, feed, late_s, rng)

    grows = late.exponent > CERTAIN * late.exponent_error
    table = {
        "kind": "push",
        "deviation_bps": rounded(deviation / BPS, deviation_error / BPS),
        "heartbeat_s": rounded(heartbeat.seconds, heartbeat.standard_error),
        "heartbeat_restarts": heartbeat.restarts,
        "delay_s": rounded(late.delay_s, late.delay_error),
    }
    if grows:
        table |= {
            "delay_volatility_exponent": rounded(late.exponent, late.exponent_error),
            "longest_delay_s": max(float(late_s.max()), 2 * late.delay_s),
        }
    figures = [
        Figure("deviation_bps", deviation / BPS, deviation_error / BPS, "move that calls for a report"),
        Figure("heartbeat_s", heartbeat.seconds, heartbeat.standard_error, "longest time without a report"),
        Figure("delay_s", late.delay_s, late.delay_error, "from look to inclusion, at median volatility"),
        Figure(
            "delay_volatility_exponent",
            late.exponent,
            late.exponent_error,
            "power of volatility by which the delay grows",
        ),
        Figure("delay_99_s", float(np.quantile(late_s, 0.99)), None, "delay exceeded once in a hundred reports"),
        Figure("look_s", look_s, None, "time between looks at the price, from the rhythm of short gaps"),
        Figure("block_s", block_s, None, "time between blocks, which divides all gaps"),
        Figure("repeat_share", share, None, f"heartbeats followed by one more report, {after_s:.0f} s later (median)"),
    ]
    if heartbeat.clock_share is not None:
        meaning = "rounds that say the heartbeat is a clock, of those that tell"
        figures.insert(2, Figure("clock_share", heartbeat.clock_share, heartbeat.clock_share_error, meaning))
    return WorldFit(
        section="oracle",
        title=f"push oracle, {len(rounds.seconds):,} rounds",
        table=table,
        figures=figures,
        errors_from="spacing of moves at the edge (deviation), bootstrap of weeks (heartbeat) and of blocks of time (delay)",
        goodness=_goodness(made, recorded_storm(rounds, start, deviation), replays, start),
        origin={
            "source": rounds.source,
            "sha256": rounds.sha256,
            "first": rounds.window[0],
            "last": rounds.window[1],
            "rounds": len(rounds.seconds),
            "seed": seed,
            "calibrate_version": version("calibrate"),
        },
        notes=(*rounds.notes, *_notes(grows, late.exponent, late.exponent_error)),
        curves={"gaps": _steps(made), "lateness": _by_volatility(rounds, beats, late_s)},
    )


def _repeats(quiet: np.ndarray, gap_s: np.ndarray, beats: Beats, heartbeat_s: float) -> tuple[float, float]:
    """Share of beats that a further quiet round follows before half the heartbeat is over, and how long after."""
    on_beat = np.zeros(len(quiet), bool)
    on_beat[beats.rounds] = True
    again = quiet & ~on_beat & np.concatenate([[False], on_beat[:-1]]) & (gap_s < heartbeat_s / 2)
    return float(again.sum() / on_beat.sum()), float(np.median(gap_s[again])) if again.any() else 0.0


def _goodness(made: Gaps, recorded: Storm, replays: tuple[Storm, Storm], start: float) -> list[Goodness]:
    mean, spread = replays
    hour = f"hour from {hour_name(start)}"
    quantiles = (0.05, 0.25, 0.5, 0.75, 0.99)
    rows = [
        Goodness(
            f"gap, {100 * q:g} % quantile (s)", *(float(np.quantile(g, q)) for g in (made.recorded_s, made.made_s))
        )
        for q in quantiles
    ]
    known = None if np.isnan(recorded.outrun_gap_s) else recorded.outrun_gap_s
    return [
        Goodness("gaps, Kolmogorov-Smirnov distance", None, made.distance),
        *rows,
        Goodness("volatility that the gaps need, over the log's own", 1.0, made.volatility_scale),
        Goodness(f"{hour}: rounds", recorded.rounds, mean.rounds, spread.rounds),
        Goodness(
            f"{hour}: largest step (bps)", recorded.largest_step_bps, mean.largest_step_bps, spread.largest_step_bps
        ),
        Goodness(f"{hour}: lag, s between outrun rounds", known, mean.outrun_gap_s, spread.outrun_gap_s),
    ]


def _notes(grows: bool, exponent: float, error: float) -> tuple[str, ...]:
    notes = ["what comes before the earliest inclusion is not in a log; one block was taken for it"]
    if not grows:
        found = f"the delay was not seen to grow with volatility (exponent {exponent:.2g}, standard error {error:.1g})"
        notes.append(f"{found}, so the section leaves that out")
    return tuple(notes)


def _steps(made: Gaps) -> dict[str, np.ndarray]:
    """Both distribution functions of gaps on one grid."""
    grid = np.unique(np.concatenate([np.geomspace(10, 2 * max(made.recorded_s.max(), 20), 160), made.recorded_s]))
    below = lambda gap_s: np.searchsorted(np.sort(gap_s), grid, side="right") / len(gap_s)  # noqa: E731
    return {"gap_s": grid, "recorded": below(made.recorded_s), "made": below(made.made_s)}


def _by_volatility(rounds: Rounds, beats: Beats, late_s: np.ndarray) -> dict[str, np.ndarray]:
    """Mean delay and its standard error in bins of volatility."""
    volatility = volatility_before(rounds, rounds.seconds[beats.rounds] - 1)
    parts = np.array_split(np.argsort(volatility), BINS)
    return {
        "volatility": np.array([np.median(volatility[part]) for part in parts]),
        "delay_s": np.array([late_s[part].mean() for part in parts]),
        "error": np.array([late_s[part].std(ddof=1) / np.sqrt(len(part)) for part in parts]),
    }
