"""Candles: good files in every dress are read alike, bad ones are refused with everything that is wrong with them."""

import gzip

import numpy as np
import pandas as pd
import pytest

from calibrate.data.candles import Candles, log_returns, read_candles, window_returns
from calibrate.errors import UserError

START_MS = 1_609_459_200_000  # 2021-01-01
HOUR_MS = 3_600_000


def good_table(bars=100):
    rng = np.random.default_rng(0)
    close = 100 * np.exp(np.cumsum(0.01 * rng.standard_normal(bars)))
    opening = np.concatenate([[100.0], close[:-1]])
    return pd.DataFrame(
        {
            "ts": START_MS + HOUR_MS * np.arange(bars),
            "open": opening,
            "high": np.maximum(opening, close) * 1.001,
            "low": np.minimum(opening, close) * 0.999,
            "close": close,
            "volume": rng.random(bars),
        }
    )


def changed(row, column, value):
    """A spoiler: the good table with one cell replaced."""

    def spoil(table):
        table[column] = table[column].astype(object)
        table.loc[row, column] = value
        return table

    return spoil


def swapped_rows(table):
    order = list(range(len(table)))
    order[20], order[21] = order[21], order[20]
    return table.iloc[order]


def every_third_bar_late(table):
    table.loc[1::3, "ts"] += 17 * 60_000
    return table


def one_step_off(table):
    table.loc[50:, "ts"] += 1000
    return table


def without_columns(*names):
    return lambda table: table.drop(columns=list(names))


def without_rows(*rows):
    return lambda table: table.drop(index=list(rows))


def a_row_twice(table):
    return pd.concat([table.iloc[:31], table.iloc[30:]])


def seconds_as_row_numbers(table):
    table["ts"] = np.arange(len(table))
    return table


# name: what is done to the good table, and what the message must say
PROBLEMS = {
    "missing column": (without_columns("high"), ["columns", "missing high", "found ts, open, low, close, volume"]),
    "no time column": (without_columns("ts"), ["missing ts", "timestamp"]),
    "no number": (
        changed(7, "close", ""),
        ["column close, row 8 (2021-01-01T07:00:00Z)", "found nothing (an empty field", "a number in each row"],
    ),
    "text": (changed(7, "low", "n/a?"), ["column low, row 8", "'n/a?'"]),
    "infinite": (changed(7, "high", "inf"), ["column high, row 8", "inf"]),
    "zero price": (changed(3, "low", 0.0), ["column low, row 4", "a price of 0", "above zero"]),
    "negative price": (changed(3, "open", -5.0), ["column open, row 4", "a price of -5"]),
    "negative volume": (changed(3, "volume", -1.0), ["column volume, row 4", "a volume of -1"]),
    "high below low": (changed(9, "high", 1.0), ["column high, row 10", "high 1 below low", "swapped"]),
    "close outside": (changed(9, "close", 500.0), ["column close, row 10", "500 outside low"]),
    "unreadable time": (changed(4, "ts", "soon"), ["column ts, row 5", "'soon'", "Unix time or an ISO date"]),
    "row numbers as times": (seconds_as_row_numbers, ["column ts, row 1", "between 2000 and 2100"]),
    "unsorted": (swapped_rows, ["column ts, row 22 (2021-01-01T20:00:00Z)", "earlier", "sort the file"]),
    "duplicate": (a_row_twice, ["column ts, row 32", "another row has too", "one row a bar"]),
    "gaps": (without_rows(40, 41, 60), ["row 40 (2021-01-02T15:00:00Z)", "2 gaps with 3 missing bars", "--allow-gaps"]),
    "one odd step": (one_step_off, ["row 50", "1 steps that are no whole number of bars", "--allow-gaps"]),
    "irregular": (
        every_third_bar_late,
        ["43 min to 77 min", "66 that are no multiple", "one regular frequency", "resample"],
    ),
    "too few": (without_rows(*range(10, 100)), ["found 10 bars", "at least 50"]),
    "no rows": (without_rows(*range(100)), ["no rows"]),
}


def write(table, path):
    table.to_csv(path, index=False)
    return path


def message_of(path, **options):
    with pytest.raises(UserError) as caught:
        read_candles(path, **options)
    return str(caught.value)


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_wrong_file_is_refused_with_place_finding_and_advice(tmp_path, name):
    spoil, expected = PROBLEMS[name]
    path = write(spoil(good_table()), tmp_path / "candles.csv")
    message = message_of(path, minimum_bars=50)
    assert len(message.splitlines()) == 1
    assert message.startswith(str(path))
    for part in expected:
        assert part in message


def test_all_problems_of_a_file_come_in_one_message(tmp_path):
    table = good_table()
    for spoil in (
        changed(5, "close", ""),
        changed(6, "low", 0.0),
        changed(7, "high", 1.0),
        without_rows(40),
        swapped_rows,
    ):
        table = spoil(table)
    message = message_of(write(table, tmp_path / "candles.csv"), minimum_bars=1000)
    for part in (
        "found nothing (an empty field",
        "a price of 0",
        "high 1 below",
        "earlier",
        "1 gaps with 1 missing",
        "at least 1000",
    ):
        assert part in message
    assert len(message.splitlines()) == 6


def test_the_first_of_many_rows_is_shown_with_their_number(tmp_path):
    table = good_table()
    table.loc[10:19, "open"] = -1.0
    message = message_of(write(table, tmp_path / "candles.csv"))
    assert "row 11" in message
    assert "the first of 10 such rows" in message


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "empty file"),
        (b"PAR1 and then nothing", "not a table"),
        (b"\x1f\x8b broken", "not a table"),
        (b"\xff\xfe\x00\x01,\x80\n", "not a table"),
        (b"ts,open\n1,2,3\n", "not a table"),
        (b"a,b\n1,2\n1,2,3,4\n", "not a table"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path, content, expected):
    path = tmp_path / "candles.csv"
    path.write_bytes(content)
    assert expected in message_of(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    assert "cannot read the file (No such file or directory)" in message_of(tmp_path / "none.csv")
    assert "cannot read the file (Is a directory)" in message_of(tmp_path)


def assert_equal(candles, table):
    assert candles.ts.dtype == np.int64
    np.testing.assert_array_equal(candles.ts, table["ts"])
    for name in ("open", "high", "low", "close", "volume"):
        np.testing.assert_allclose(getattr(candles, name), table[name], rtol=1e-12)
    assert candles.interval_s == 3600
    assert (candles.bars, candles.gaps) == (len(table), 0)
    assert (candles.first, candles.last) == ("2021-01-01T00:00:00Z", "2021-01-05T03:00:00Z")


def test_csv_gzip_and_parquet_are_read_alike_whatever_the_name(tmp_path):
    table = good_table()
    plain = write(table, tmp_path / "candles.csv")
    packed = tmp_path / "candles.csv.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    table.to_parquet(tmp_path / "candles.data", index=False)
    for path in (plain, packed, tmp_path / "candles.data"):
        candles = read_candles(path)
        assert_equal(candles, table)
        assert candles.source == path.name
        assert len(candles.sha256) == 64


@pytest.mark.parametrize("column", ["ts", "time", "timestamp", "Date", "open_time"])
@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns", "iso", "iso with zone", "datetime"])
def test_times_are_read_in_every_usual_form(tmp_path, column, unit):
    table = good_table()
    dates = pd.to_datetime(table["ts"], unit="ms")
    factors = {"s": 1e-3, "ms": 1, "us": 1000, "ns": 1_000_000}
    if unit in factors:
        times = (table["ts"] * factors[unit]).astype("int64")
    elif unit == "iso with zone":
        times = dates.dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo").map(lambda date: date.isoformat())
    else:
        times = dates if unit == "datetime" else dates.dt.strftime("%Y-%m-%d %H:%M:%S")
    dressed = table.drop(columns="ts").assign(**{column: times})
    dressed.to_parquet(tmp_path / "candles.parquet", index=False)
    assert_equal(read_candles(tmp_path / "candles.parquet"), table)
    if unit != "datetime":
        assert_equal(read_candles(write(dressed, tmp_path / "candles.csv")), table)


def test_a_parquet_file_may_have_its_times_in_the_index(tmp_path):
    table = good_table()
    indexed = table.assign(date=pd.to_datetime(table["ts"], unit="ms")).drop(columns="ts").set_index("date")
    indexed.to_parquet(tmp_path / "candles.parquet")
    assert_equal(read_candles(tmp_path / "candles.parquet"), table)


def test_gaps_are_kept_out_of_returns_when_they_are_allowed(tmp_path):
    table = good_table()
    path = write(table.drop(index=[40, 41, 60]), tmp_path / "candles.csv")
    candles = read_candles(path, allow_gaps=True)
    assert (candles.bars, candles.gaps) == (97, 2)
    log_price = np.log(table["close"].to_numpy())
    for bars in (1, 5):
        starts = [i for i in range(100 - bars) if not {40, 41, 60} & set(range(i, i + bars + 1))]
        expected = [log_price[i + bars] - log_price[i] for i in starts]
        np.testing.assert_allclose(log_returns(candles, bars), expected, rtol=1e-12)
        assert len(window_returns(candles, bars)) == 97 - bars


def test_returns_without_gaps_are_differences_of_log_closes(tmp_path):
    candles = read_candles(write(good_table(), tmp_path / "candles.csv"))
    np.testing.assert_array_equal(log_returns(candles, 1), np.diff(np.log(candles.close)))
    with pytest.raises(ValueError, match="expected 1 to 99"):
        log_returns(candles, 100)


def test_a_clock_that_is_off_for_a_while_counts_as_two_gaps(tmp_path):
    table = good_table()
    table.loc[50:59, "ts"] += 1_694_800
    candles = read_candles(write(table, tmp_path / "candles.csv"), allow_gaps=True)
    assert candles.gaps == 2
    assert len(log_returns(candles, 1)) == 97


def test_candles_cannot_be_changed(tmp_path):
    candles = read_candles(write(good_table(), tmp_path / "candles.csv"))
    assert isinstance(candles, Candles)
    with pytest.raises(AttributeError):
        candles.interval_s = 60.0
