"""From a job that replays a history to the market that does: the file's window, in whole steps, at the job's usual volatility."""

import jax.numpy as jnp
import numpy as np

from calibrate.data.history import History, moment_ms, read_market, window_of
from calibrate.errors import Problem, UserError
from calibrate.job import LoadedJob
from calibrate.market.intrabar import bars_of, known_variance, lead_bars
from calibrate.market.market import Market
from calibrate.market.replay import LEAST_STEPS, Replay, replay_of


def history_of(loaded: LoadedJob) -> History:
    """The window that a job replays: from `from`, or the file's first bar, as long as the horizon."""
    section, horizon_days = loaded.job.market, loaded.job.simulation.horizon_days
    assert section.replay is not None
    candles = read_market(loaded.folder / section.replay, section.symbol)
    first = int(candles.ts[0]) if section.from_ is None else moment_ms(section.from_)
    end = first + round(horizon_days * 86_400_000)
    return window_of(candles, first, end, lead_bars(candles.interval_s), f"{loaded.path}: market.replay")


def replaying(law: Market, loaded: LoadedJob, dtype: np.dtype) -> Market:
    """The market that replays the job's history. Usual volatility is that of `law`, the market that the job has otherwise, jumps
    included: depth and accounts refer to it."""
    history = history_of(loaded)
    zero, one = jnp.zeros((1,), dtype), jnp.ones((), dtype)
    usual = float(law.variance_rate(law.usual(zero), one)[0])
    return Market(replay_in(history, usual, steps_per_bar(history, loaded), dtype), jnp.zeros((), dtype))


def replay_in(history: History, usual_variance: float, steps: int, dtype: np.dtype) -> Replay:
    """A window at this usual variance, each of its bars in so many steps."""
    known = known_variance(history.earlier, history.window, usual_variance)
    return replay_of(bars_of(history.window), known, usual_variance, steps, dtype)


def steps_per_bar(history: History, loaded: LoadedJob) -> int:
    bar_s, step_s = history.window.interval_s, loaded.job.simulation.step_s
    steps = round(bar_s / step_s)
    if steps < 1 or abs(steps * step_s - bar_s) > 1e-6 * bar_s:
        found = f"found {step_s:g} s; {history.window.source} has bars of {bar_s:g} s"
        wanted = bar_s / max(steps, LEAST_STEPS)
        message = f"{found}, expected a whole part of that, such as {wanted:g}"
        raise UserError([Problem(f"{loaded.path}: simulation.step_s", message)])
    return steps


def notes_on_replay(history: History, loaded: LoadedJob) -> list[str]:
    """What a reader of a replay's figures has to know."""
    steps, notes = steps_per_bar(history, loaded), []
    if steps < LEAST_STEPS:
        wanted = history.window.interval_s / LEAST_STEPS
        seen = f"bars of {history.window.interval_s:g} s in steps of {loaded.job.simulation.step_s:g} s: only closes are met"
        notes.append(f"{seen}; with simulation.step_s={wanted:g} or less, highs and lows are too")
    if history.earlier is None or history.earlier.bars < lead_bars(history.window.interval_s) / 10:
        notes.append("few bars before the window or none: volatility starts at the model's usual level")
    return notes
