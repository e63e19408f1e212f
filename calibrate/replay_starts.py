"""A policy put through a real history from many starts: what became of it over starts, and the worst of them.

Windows are as long as the job's horizon. Figures are of this history: their errors say how far another stretch of the same
world might differ, as far as this one shows it (`over_starts.py`). They are no forecast.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from calibrate.assemble import assemble, policy_in_human_units
from calibrate.assemble_replay import history_of, notes_on_replay
from calibrate.data.candles import Candles
from calibrate.data.history import moment_ms, read_market
from calibrate.data.starts import Starts, starts_of
from calibrate.data.times import duration, iso_time
from calibrate.drawing import save
from calibrate.errors import Problem, UserError
from calibrate.job import LoadedJob
from calibrate.job_market import moment
from calibrate.metrics import USER_COST
from calibrate.over_starts import WINDOWS_PER_BLOCK, OverStarts, as_json
from calibrate.pipeline import read_policy, record
from calibrate.progress import Listener
from calibrate.replay import moments, usual_folder, with_fewer_paths
from calibrate.rolling import Rolling, outcomes_by_start
from calibrate.run_folder import new_folder, read_json, toml_text, write_json, write_table, write_text
from calibrate.shocks import derived_seed
from calibrate.starts_figure import starts_chart
from calibrate.together import place_of

# Ways through the bars of each window, where nothing else is asked for: they differ far less than windows do.
PATHS = 256
BAND = (0.05, 0.95)
LEVELS = (0.5, 0.9, 0.95, 0.99)
MOST_WORST = 10
FIGURES = ("insolvency_probability", "bad_debt", "fund_draw", "liquidated", "user_cost", "margin_per_oi")


def replay_starts_job(
    loaded: LoadedJob,
    policy: Path | None,
    every_hours: float,
    ends: tuple[str | None, str | None],
    output: Path | None,
    listener: Listener,
) -> dict[str, Any]:
    """What becomes of a policy in windows of the job's history that start every so many hours, between the `ends` that were
    asked for, written with a row for each start and a picture as a folder."""
    started, target = time.time(), output or usual_folder(loaded)
    with place_of(target) as (_, place), new_folder(place) as folder:
        loaded = with_fewer_paths(loaded, PATHS)
        listener.note("reading the history")
        candles, starts = _starts(loaded, every_hours, ends)
        loaded = _at(loaded, int(starts.ts[starts.whole][0]))
        for note in (*notes_on_replay(history_of(loaded), loaded), *_notes(starts)):
            listener.note(f"note: {note}")
        assembled = assemble(loaded)
        parameters = assembled.incumbent if policy is None else read_policy(policy, loaded, assembled)
        seed = _seed(loaded, policy)

        rolling, paths = Rolling(candles, starts, assembled.scenario), loaded.job.simulation.paths
        done, rows = listener.stage("starts", int(starts.whole.sum())), list[dict[str, float]]()
        for outcome in outcomes_by_start(rolling, parameters, seed=seed, paths=paths):
            rows.append(_row(outcome))
            done(1)
        table = pd.concat([_windows(candles, starts), pd.DataFrame(rows)], axis=1)
        result = _summary(table, starts) | {
            "paths": paths,
            "horizon_days": loaded.job.simulation.horizon_days,
            "every_hours": every_hours,
            "seed": seed,
            "open_interest_usd": assembled.open_interest_usd,
            "policy": policy_in_human_units(parameters.policy),
            "history": _history(loaded.job.market.symbol, candles, starts),
        }
        write_json(folder / "metrics.json", result)
        write_table(folder / "starts", table)
        save(starts_chart(table, loaded.job.name, _label(result), paths), folder / "starts")
        write_text(folder / "run.toml", toml_text(record(loaded, time.time() - started)))
    return result | {"folder": str(target)}


def _starts(loaded: LoadedJob, every_hours: float, ends: tuple[str | None, str | None]) -> tuple[Candles, Starts]:
    section = loaded.job.market
    assert section.replay is not None
    if not every_hours > 0:
        raise UserError([Problem("--every-hours", f"found {every_hours:g}; expected a number above 0")])
    first, end = moments(*ends)
    candles = read_market(loaded.folder / section.replay, section.symbol)
    starts = starts_of(
        candles,
        every_ms=round(every_hours * 3_600_000),
        length_ms=round(loaded.job.simulation.horizon_days * 86_400_000),
        first_ms=None if first is None else moment_ms(first),
        end_ms=None if end is None else moment_ms(end),
        place="--every-hours",
    )
    return candles, starts


def _at(loaded: LoadedJob, start_ms: int) -> LoadedJob:
    """The job that replays the window which starts there."""
    market = loaded.job.market.model_copy(update={"from_": moment(iso_time(start_ms)), "to": None})
    return loaded.model_copy(update={"job": loaded.job.model_copy(update={"market": market})})


def _seed(loaded: LoadedJob, policy: Path | None) -> int:
    """That of a replay of a single window."""
    certified = None if policy is None else (read_json(policy).get("certificate") or {}).get("seed")
    return derived_seed(loaded.job.simulation.seed, "certificate", 1) if certified is None else int(certified)


def _notes(starts: Starts) -> list[str]:
    lacking = np.flatnonzero(~starts.whole)
    if not len(lacking):
        return []
    first = iso_time(starts.ts[lacking[0]])
    return [
        f"{len(lacking):,} of {len(starts.ts):,} starts are left out, whose windows lack bars, the first that of {first}"
    ]


# --- each start -----------------------------------------------------------------------------------------------------------


def _row(outcome: dict[str, np.ndarray]) -> dict[str, float]:
    """Figures over the ways through one window."""
    values = {
        "insolvency_probability": outcome["distance"] > 0,
        "user_cost": np.sum([outcome[name].astype(np.float64) for name in USER_COST], axis=0),
        "margin_per_oi": outcome["initial_margin"],
    } | {name: outcome[name] for name in ("bad_debt", "fund_draw", "liquidated")}
    row = {}
    for name in FIGURES:
        of_ways = np.asarray(values[name], np.float64)
        row[name] = float(of_ways.mean())
        row[f"{name}_standard_error"] = float(of_ways.std(ddof=1) / np.sqrt(len(of_ways)))
    for name in ("bad_debt", "liquidated"):
        row[f"{name}_low"], row[f"{name}_high"] = (float(end) for end in np.quantile(values[name], BAND))
    return row


def _windows(candles: Candles, starts: Starts) -> pd.DataFrame:
    """When the windows start and end, and what the price did in them."""
    begins = starts.ts[starts.whole]
    at = np.searchsorted(candles.ts, begins)
    bars = round(starts.length_ms / (1000 * candles.interval_s))
    opened = candles.open[at]
    return pd.DataFrame(
        {
            "start": [iso_time(ts) for ts in begins],
            "end": [iso_time(ts + starts.length_ms) for ts in begins],
            "price_return": candles.close[at + bars - 1] / opened - 1,
            "lowest_return": [candles.low[k : k + bars].min() / candles.open[k] - 1 for k in at],
            "highest_return": [candles.high[k : k + bars].max() / candles.open[k] - 1 for k in at],
        }
    )


# --- all starts -----------------------------------------------------------------------------------------------------------


def _summary(table: pd.DataFrame, starts: Starts) -> dict[str, Any]:
    over = OverStarts(starts)
    figures = {name: table[name].to_numpy() for name in FIGURES}
    metrics = {name: as_json(over.mean(values)) for name, values in figures.items()}
    metrics["insolvency_probability"] = as_json(over.share(figures["insolvency_probability"]))
    levels = {f"{100 * level:g}": level for level in LEVELS}
    quantiles = {
        name: {said: as_json(over.quantile(figures[name], level)) for said, level in levels.items()}
        for name in ("bad_debt", "liquidated", "user_cost")
    }
    block_h = over.block * starts.every_ms / 3_600_000
    return {
        "starts": len(table),
        "left_out": int((~starts.whole).sum()),
        "windows_side_by_side": over.windows,
        "block_hours": block_h,
        "blocks_side_by_side": over.blocks,
        "error_method": f"overlapping blocks of {WINDOWS_PER_BLOCK} windows ({block_h:g} h) of neighbouring starts",
        "metrics": metrics,
        "quantiles": quantiles,
        "worst": _worst(table, starts),
    }


def _worst(table: pd.DataFrame, starts: Starts) -> list[dict[str, Any]]:
    """The starts with the most bad debt, and the most liquidated where there is none; of those whose windows overlap, the worst."""
    begins, kept = starts.ts[starts.whole], list[int]()
    for k in table.sort_values(["bad_debt", "liquidated"], ascending=False, kind="stable").index:
        if all(abs(begins[k] - begins[other]) >= starts.length_ms for other in kept):
            kept.append(int(k))
        if len(kept) == MOST_WORST:
            break
    names = ["start", "end", "lowest_return", "highest_return", *FIGURES]
    return [{str(name): value for name, value in row.items()} for row in table.loc[kept, names].to_dict("records")]


def _history(symbol: str | None, candles: Candles, starts: Starts) -> dict[str, Any]:
    begins = starts.ts[starts.whole]
    return {
        "file": candles.source,
        "sha256": candles.sha256,
        "symbol": symbol,
        "from": iso_time(begins[0]),
        "to": iso_time(begins[-1] + starts.length_ms),
        "bar_s": candles.interval_s,
    }


def _label(result: dict[str, Any]) -> str:
    history = result["history"]
    market = f" {history['symbol']}" if history["symbol"] else ""
    windows = f"{result['starts']:,} windows of {duration(result['horizon_days'] * 86_400_000)}"
    every = f"one every {duration(result['every_hours'] * 3_600_000)}"
    return f"{history['file']}{market}, {history['from']} to {history['to']}: {windows}, {every}"
