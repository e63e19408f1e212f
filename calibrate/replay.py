"""A policy put through a real history: metrics over the ways through its bars, and what happened when.

Paths differ only in what the bars leave open, so figures are conditional on the history: an insolvency probability of 1 says that
however prices moved inside the bars, the fund was not enough. They are no forecast.
"""

import datetime
import json
import os
import time
from pathlib import Path
from typing import Any

from calibrate.assemble import assemble
from calibrate.assemble_replay import history_of, notes_on_replay
from calibrate.course import course
from calibrate.data.history import History, moment_ms, read_market
from calibrate.data.times import duration, iso_time
from calibrate.drawing import save
from calibrate.errors import Problem, UserError, raise_all
from calibrate.job import LoadedJob
from calibrate.job_market import moment
from calibrate.pipeline import read_policy, record, simulate_job
from calibrate.progress import Listener
from calibrate.replay_figure import course_table, replay_chart
from calibrate.run_folder import new_folder, toml_text, write_json, write_table, write_text
from calibrate.together import place_of

# Ways through the bars, where nothing else is asked for: they differ far less than futures do.
PATHS = 4096
# Of these the course is followed.
PATHS_OF_COURSE = 512
PREFIX = "replay:"


def replay_overrides(market: str, first: str | None, end: str | None) -> list[str]:
    """What `--market replay:FILE[:SYMBOL]` with `--from` and `--to` changes in a job: its market and its horizon. An end that is
    not given is that of the file."""
    path, symbol = file_and_symbol(market)
    begins, closes = moments(first, end)
    if begins is None or closes is None:
        candles = read_market(path, symbol)
        begins = begins or _datetime(candles.ts[0])
        closes = closes or _datetime(candles.ts[-1] + round(candles.interval_s * 1000))
    days = (moment_ms(closes) - moment_ms(begins)) / 86_400_000
    if days <= 0:
        found = f"found a window from {begins.isoformat()} to {closes.isoformat()}"
        raise UserError([Problem("--to", f"{found}; expected an end after its beginning")])
    texts = {"from": begins.isoformat(), "to": closes.isoformat()}
    return [*of_history(path, symbol, texts), f"simulation.horizon_days={days!r}"]


def moments(first: str | None, end: str | None) -> tuple[datetime.datetime | None, datetime.datetime | None]:
    """What `--from` and `--to` say."""
    problems, ends = [], []
    for option, text in (("--from", first), ("--to", end)):
        try:
            ends.append(None if text is None else moment(text))
        except ValueError as error:
            problems.append(Problem(option, f"found {text!r}; {error}"))
    raise_all(problems)
    begins, closes = (value if isinstance(value, datetime.datetime) else None for value in ends)
    return begins, closes


def of_history(path: Path, symbol: str | None, others: dict[str, str]) -> list[str]:
    """Changes of a job's market to one that replays a file."""
    texts = {"replay": str(path.resolve())} | others | ({} if symbol is None else {"symbol": symbol})
    return [f"market.{key}={_quoted(value)}" for key, value in texts.items()]


def replay_job(loaded: LoadedJob, policy: Path | None, output: Path | None, listener: Listener) -> dict[str, Any]:
    """Metrics of a policy in the history that the job replays, written with its course and the picture of it as a folder.
    Of several processes, only the first one's folder is kept."""
    started, target = time.time(), output or usual_folder(loaded)
    with place_of(target) as (_, place), new_folder(place) as folder:
        loaded = with_fewer_paths(loaded, PATHS)
        listener.note("reading the history")
        history = history_of(loaded)
        for note in notes_on_replay(history, loaded):
            listener.note(f"note: {note}")
        result = simulate_job(loaded, policy, listener)

        assembled = assemble(loaded)
        parameters = assembled.incumbent if policy is None else read_policy(policy, loaded, assembled)
        paths = min(PATHS_OF_COURSE, loaded.job.simulation.paths)
        listener.note(f"following {paths:,} paths")
        seen = course(assembled.scenario, parameters, seed=result["seed"], paths=paths)
        window = history.window
        table = course_table(seen, int(window.ts[0]), history.days, float(window.open[0]))
        symbol = loaded.job.market.symbol
        result = result | {"history": _history_json(symbol, history)}
        write_json(folder / "metrics.json", result)
        write_table(folder / "course", table)
        save(replay_chart(table, loaded.job.name, _label(symbol, history), paths), folder / "replay")
        write_text(folder / "run.toml", toml_text(record(loaded, time.time() - started)))
    return result | {"folder": str(target)}


def usual_folder(loaded: LoadedJob) -> Path:
    return Path("replays") / f"{loaded.path.stem}-{datetime.datetime.now():%Y%m%d-%H%M%S}"


def with_fewer_paths(loaded: LoadedJob, most: int) -> LoadedJob:
    """A job's own number of paths is meant for futures; one that is asked for on the command line stays."""
    simulation = loaded.job.simulation
    if any(override.split("=")[0].strip() == "simulation.paths" for override in loaded.overrides):
        return loaded
    fewer = simulation.model_copy(update={"paths": min(simulation.paths, most)})
    return loaded.model_copy(update={"job": loaded.job.model_copy(update={"simulation": fewer})})


def file_and_symbol(market: str) -> tuple[Path, str | None]:
    if not market.startswith(PREFIX) or market == PREFIX:
        raise UserError([Problem("--market", f"found {market!r}; expected replay:FILE or replay:FILE:SYMBOL")])
    whole = market.removeprefix(PREFIX)
    file, colon, symbol = whole.rpartition(":")
    # Names of files may hold colons, as drives of Windows do.
    if not colon or os.path.isfile(whole) or not os.path.isfile(file):
        return Path(whole), None
    return Path(file), symbol or None


def _datetime(milliseconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(int(milliseconds) / 1000, datetime.UTC)


def _quoted(text: str) -> str:
    """A text as TOML has it, whatever is in it."""
    return json.dumps(text, ensure_ascii=False)


def _label(symbol: str | None, history: History) -> str:
    window = history.window
    end = iso_time(window.ts[-1] + round(window.interval_s * 1000))
    market = f" {symbol}" if symbol else ""
    return f"{window.source}{market}, {window.first} to {end}, bars of {duration(1000 * window.interval_s)}"


def _history_json(symbol: str | None, history: History) -> dict[str, Any]:
    window = history.window
    lowest, highest = float(window.low.min()), float(window.high.max())
    return {
        "file": window.source,
        "sha256": window.sha256,
        "symbol": symbol,
        "from": window.first,
        "to": iso_time(window.ts[-1] + round(window.interval_s * 1000)),
        "bars": window.bars,
        "bar_s": window.interval_s,
        "bars_before": 0 if history.earlier is None else history.earlier.bars,
        "first_price": float(window.open[0]),
        "lowest_price": lowest,
        "highest_price": highest,
        "last_price": float(window.close[-1]),
    }
