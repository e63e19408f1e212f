"""What may be wrong with candles although each row can be read: prints of an empty book, a last bar that was still open,
jumps into another token, a clock in local time.

Nobody can tell these for certain from the file, so they never keep it from being used; `repairs.py` removes what a person
asks it to. The thresholds were set on five years of hourly and on weeks of minute candles of Binance, KuCoin, Kraken and
FTX: they find the low of 0.0001 in LINK on 2020-03-12 and the highs of 323 in ETH and 4.4 in ATOM perpetuals a day later,
and leave the crashes of 2020-03, 2021-05 and 2022-11 alone.
"""

from collections.abc import Mapping

import numpy as np

from calibrate.data.findings import Finding, Findings, outside
from calibrate.data.raw_candles import RawCandles
from calibrate.data.times import EARLIEST_MS, LATEST_MS, duration, iso_time

Columns = Mapping[str, np.ndarray]

BARS_AROUND = 48  # in blocks, over which the usual range of a bar is taken
TIMES_USUAL = 8.0
LEAST_SPIKE = 0.2  # of a log-price: nothing below 20 % is called an outlier
JUMP = 0.2  # of a log-price, between a close and the next open
JUMP_OVER_GAP = np.log(2.0)
BARS_BEFORE_LAST = 100
PIECE_BARS = 1_000_000
LOCAL_SHIFT_MS = 3_600_000
HOUR_MS, DAY_MS = 3_600_000, 86_400_000


def find_suspicions(findings: Findings, *, now_ms: float) -> list[Finding]:
    """Suspicions and notes, the errors being known. `now_ms` is the time at which a bar must have ended to be whole."""
    raw, interval = findings.raw, findings.interval_ms
    rows = usable_rows(raw)
    as_they_stand = len(rows) == raw.rows and not raw.newest_first() and bool((np.diff(rows) > 0).all())
    bars = raw.columns if as_they_stand else {name: values[rows] for name, values in raw.columns.items()}
    found = Findings(raw, interval_ms=interval)
    if len(rows) > 1 and interval:
        _outliers(found, bars, rows)
        _jumps(found, bars, rows, interval)
        _last_bar(found, bars, rows, interval, now_ms)
        _local_time(found, findings, bars, interval)
    _notes(found, bars)
    return found.found


def usable_rows(raw: RawCandles) -> np.ndarray:
    """Rows that hold a candle, in time order, one for each time."""
    rows = np.flatnonzero(~invalid(raw.columns))
    if raw.newest_first():
        rows = rows[::-1]
    ts = raw.ts[rows]
    return rows if (np.diff(ts) > 0).all() else rows[np.unique(ts, return_index=True)[1]]


def invalid(columns: Columns) -> np.ndarray:
    """Rows that hold no candle: a value is missing or impossible."""
    ts, high, low = columns["ts"], columns["high"], columns["low"]
    wrong = ~((ts >= EARLIEST_MS) & (ts <= LATEST_MS)) | (high < low) | ~(columns["volume"] >= 0)
    for name in ("open", "high", "low", "close"):
        wrong |= ~(columns[name] > 0)
    for values in columns.values():
        wrong |= np.isinf(values)
    return wrong | outside(dict(columns), "open") | outside(dict(columns), "close")


def outliers(bars: Columns) -> np.ndarray:
    """Bars that reach further beyond the prices around them than the market does: by more than `TIMES_USUAL` times the
    usual range of a bar, and by `LEAST_SPIKE` of the log-price.

    A high or low is held against open, close and the closes of both neighbours; a close against those of both neighbours.
    The usual range is the median of log(high / low) over blocks of bars, the largest of the bar's own block and those
    beside it, and no less than that of the whole file.
    """
    usual = _usual_range(bars)
    count = len(bars["close"])
    wrong = np.zeros(count, bool)
    for start in range(0, count, PIECE_BARS):  # in pieces, which bounds the memory
        piece = slice(max(start - 1, 0), min(start + PIECE_BARS + 1, count))
        reach = _reach({name: values[piece] for name, values in bars.items()})
        scale = usual[np.arange(piece.start, piece.stop) // BARS_AROUND]
        beyond = reach > np.maximum(LEAST_SPIKE, TIMES_USUAL * scale)
        inner = slice(start - piece.start, start - piece.start + PIECE_BARS)
        wrong[start : start + PIECE_BARS] = beyond[inner]
    return wrong


def _reach(bars: Columns) -> np.ndarray:
    """How far each bar reaches beyond the prices around it, in log-price."""
    close, before, after = bars["close"], _shifted(bars["close"], 1), _shifted(bars["close"], -1)
    top = np.maximum(np.maximum(bars["open"], close), np.maximum(before, after))
    bottom = np.minimum(np.minimum(bars["open"], close), np.minimum(before, after))
    beyond = np.maximum(np.log(bars["high"] / top), np.log(bottom / bars["low"]))
    aside = np.maximum(np.log(close / np.maximum(before, after)), np.log(np.minimum(before, after) / close))
    return np.maximum(beyond, aside)


def unfinished(bars: Columns, interval_ms: float, now_ms: float) -> str:
    """Why the last bar seems not to be whole, or nothing."""
    end = bars["ts"][-1] + interval_ms
    if end > now_ms:
        return f"a bar that ends at {iso_time(end)}, which is still to come"
    earlier = bars["volume"][-1 - BARS_BEFORE_LAST : -1]
    usual = np.quantile(earlier, 0.05) if len(earlier) == BARS_BEFORE_LAST else 0.0
    if bars["volume"][-1] < 0.1 * usual:
        return f"a volume of {bars['volume'][-1]:.3g}, where 95 % of the {BARS_BEFORE_LAST} bars before have {usual:.3g} or more"
    return ""


def _shifted(values: np.ndarray, by: int) -> np.ndarray:
    """The neighbour's value; at the ends the bar's own."""
    moved = np.roll(values, by)
    moved[0 if by > 0 else -1] = values[0 if by > 0 else -1]
    return moved


def _usual_range(bars: Columns) -> np.ndarray:
    """The usual log(high / low) around each block of bars."""
    wide = np.log(bars["high"] / bars["low"])
    moving = wide[wide > 0]
    overall = float(np.median(moving)) if len(moving) else 0.0
    whole = len(wide) // BARS_AROUND * BARS_AROUND
    medians = np.median(wide[:whole].reshape(-1, BARS_AROUND), axis=1)
    last = [np.median(np.append(wide[whole:], np.full(BARS_AROUND - len(wide) + whole, overall)))]
    medians = np.maximum(np.append(medians, last), overall)
    return np.maximum(medians, np.maximum(_shifted(medians, 1), _shifted(medians, -1)))


def _outliers(found: Findings, bars: Columns, rows: np.ndarray) -> None:
    found.rows(
        *(
            "outliers",
            _marked(found.raw, rows, outliers(bars)),
            "high",
            "high {:g}, low {:g} around open {:g}, close {:g}",
        ),
        [found.raw.columns[name] for name in ("high", "low", "open", "close")],
        expected=f"prices within {TIMES_USUAL:g} times the usual range of those around, or {LEAST_SPIKE:.0%} of them",
        todo="look whether they were traded or printed by an empty book",
        repair="drop-outliers",
        kind="suspicion",
    )


def _jumps(found: Findings, bars: Columns, rows: np.ndarray, interval_ms: float) -> None:
    step = np.diff(bars["ts"])
    jump = np.abs(np.log(bars["open"][1:] / bars["close"][:-1]))
    wrong = np.concatenate([[False], jump > np.where(step > interval_ms, JUMP_OVER_GAP, JUMP)])
    before = np.full(found.raw.rows, np.nan)
    before[rows[1:]] = bars["close"][:-1]
    found.rows(
        *("jumps", _marked(found.raw, rows, wrong), "open", "an open of {:g} after a close of {:g}"),
        [found.raw.columns["open"], before],
        expected="an open near the close before",
        todo="look for a split, a new denomination or another token under the same name",
        repair=None,
        kind="suspicion",
    )


def _last_bar(found: Findings, bars: Columns, rows: np.ndarray, interval_ms: float, now_ms: float) -> None:
    ahead = rows[bars["ts"] + interval_ms > now_ms]
    if len(ahead) > 1:
        place = found.place(int(ahead[0]), "ts")
        reason = f"{len(ahead)} bars that end after {iso_time(now_ms)}, now: only the last can be open"
        todo = "look whether times are those of a local clock (--timezone NAME), or this machine's clock is wrong"
        found.found.append(
            Finding("suspicion", "in the future", len(ahead), place, reason, "expected times in UTC", todo)
        )
        return
    reason = unfinished(bars, interval_ms, now_ms)
    if reason:
        place = found.place(int(rows[-1]), "ts")
        found.found.append(
            Finding("suspicion", "last bar open", 1, place, reason, "expected whole bars", "drop it", "drop-partial")
        )


def _local_time(found: Findings, known: Findings, bars: Columns, interval_ms: float) -> None:
    """Dates without a zone that skip an hour on one Sunday and repeat one on another follow a clock with summer time."""
    if "dates" not in found.raw.times:
        return
    found.found.append(
        Finding(
            "note", "no zone", found.raw.rows, "", "dates without a zone, taken as UTC", "", "else give --timezone NAME"
        )
    )
    step = np.diff(bars["ts"])
    skipped = bars["ts"][:-1][step == interval_ms + LOCAL_SHIFT_MS] + interval_ms
    sundays = int(np.count_nonzero((skipped // DAY_MS + 4) % 7 == 0))  # 1970-01-01 was a Thursday
    repeated = any(finding.what in ("twice", "contradicted", "not in order") for finding in known.found)
    if sundays and repeated:
        reason = f"{sundays} Sundays that skip an hour, and hours that come twice"
        todo = "if these are dates of a local clock, give --timezone NAME, for example Europe/Berlin"
        found.found.append(Finding("suspicion", "local time", sundays, "", reason, "expected UTC", todo))


def _notes(found: Findings, bars: Columns) -> None:
    idle = int(np.count_nonzero(bars["volume"] == 0))
    if idle:
        share = f"bars without a trade ({idle / len(bars['volume']):.2%}): their prices were filled in"
        found.found.append(Finding("note", "idle", idle, "", share))
    off = bars["ts"] % min(found.interval_ms or 1, DAY_MS)
    if len(off) and np.count_nonzero(off) > len(off) / 2:
        shift = duration(float(np.median(off)))
        found.found.append(
            Finding("note", "off midnight", len(off), "", f"bars that open {shift} after the round time in UTC")
        )
    if found.raw.newest_first():
        found.found.append(
            Finding("note", "newest first", found.raw.rows, "", "the newest row at the top; read from the bottom up")
        )


def _marked(raw: RawCandles, rows: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    marked = np.zeros(raw.rows, bool)
    marked[rows[wrong]] = True
    return marked
