"""Repairs of a candle file, each done only when asked for by name, and each saying what it changed.

Rows are dropped or put in order; no price is ever changed and no missing bar ever filled in.
"""

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import numpy as np

from calibrate.data.suspicions import invalid, outliers, unfinished
from calibrate.data.times import iso_time

Columns = Mapping[str, np.ndarray]


class Repair(NamedTuple):
    """What a repair changed: how many rows, and how to say so."""

    name: str
    rows: int
    said: str


class _Job(NamedTuple):
    columns: dict[str, np.ndarray]
    interval_ms: float
    now_ms: float


def repair(
    columns: Columns, names: Collection[str], *, interval_ms: float, now_ms: float
) -> tuple[dict[str, np.ndarray], list[Repair]]:
    """Columns after the named repairs, which are done in the order of `REPAIRS`, and what each of them changed."""
    job, done = _Job(dict(columns), interval_ms, now_ms), []
    for name, (method, said) in REPAIRS.items():
        if name in names:
            kept = method(job)
            rows = _changed(kept, len(job.columns["ts"]))
            places = _places(job.columns["ts"], kept) if name != "sort" else ""
            done.append(Repair(name, rows, said.format(rows=rows) + places if rows else "nothing to change"))
            job = job._replace(columns=_at(job, kept))
    return job.columns, done


def _changed(kept: np.ndarray, count: int) -> int:
    """Rows that are gone, or that stood below a later one."""
    return count - len(kept) or int(np.count_nonzero(np.diff(np.argsort(kept)) < 0))


def _places(ts: np.ndarray, kept: np.ndarray) -> str:
    dropped = np.delete(ts, kept)
    first, more = dropped[:3], len(dropped) - 3
    shown = ", ".join(iso_time(time) if np.isfinite(time) else "no time" for time in first)
    return f" ({shown}{f' and {more} more' if more > 0 else ''})"


# --- which rows are kept, in which order ---------------------------------------------------------------------------------


def _valid(job: _Job) -> np.ndarray:
    return np.flatnonzero(~invalid(job.columns))


def _sorted(job: _Job) -> np.ndarray:
    return np.argsort(job.columns["ts"], kind="stable")


def _without_copies(job: _Job) -> np.ndarray:
    """The first of rows that agree in all columns."""
    order = np.lexsort([*reversed(job.columns.values())])
    same = np.ones(max(len(order) - 1, 0), bool)
    for values in job.columns.values():
        same &= values[order[1:]] == values[order[:-1]]
    return np.sort(order[np.concatenate([[True], ~same])[: len(order)]])


def _fullest(job: _Job) -> np.ndarray:
    """Of rows with the same time the one with the largest volume: a bar that was still open has traded less."""
    ts, volume = job.columns["ts"], job.columns["volume"]
    order = np.lexsort([-volume, ts])
    first = np.concatenate([[True], np.diff(ts[order]) != 0])[: len(order)]
    unknown = np.isnan(ts[order])
    return np.sort(order[first | unknown])


def _without_open_bar(job: _Job) -> np.ndarray:
    rows = _in_time_order(job)
    open_bar = len(rows) > 1 and unfinished(_at(job, rows), job.interval_ms, job.now_ms)
    return np.delete(np.arange(len(job.columns["ts"])), rows[-1:] if open_bar else [])


def _without_outliers(job: _Job) -> np.ndarray:
    rows = _in_time_order(job)
    wrong = rows[outliers(_at(job, rows))] if len(rows) else rows
    return np.delete(np.arange(len(job.columns["ts"])), wrong)


def _in_time_order(job: _Job) -> np.ndarray:
    """The rows that hold a candle."""
    rows = _valid(job)
    return rows[np.argsort(job.columns["ts"][rows], kind="stable")]


def _at(job: _Job, rows: np.ndarray) -> dict[str, np.ndarray]:
    return {name: values[rows] for name, values in job.columns.items()}


REPAIRS: dict[str, tuple[Callable[[_Job], np.ndarray], str]] = {
    "drop-invalid": (_valid, "dropped {rows:,} rows that hold no candle"),
    "sort": (_sorted, "put rows into time order; {rows:,} stood below a later one"),
    "drop-duplicates": (_without_copies, "dropped {rows:,} rows that repeat another"),
    "keep-fullest": (_fullest, "dropped {rows:,} rows whose time another row has with at least the volume"),
    "drop-partial": (_without_open_bar, "dropped the last bar, which seems to have been open"),
    "drop-outliers": (_without_outliers, "dropped {rows:,} bars that reach far beyond those around; each leaves a gap"),
}
