"""Candle files as exchanges, vendors and spreadsheets write them hold the same candles; what cannot be told is refused."""

import bz2
import codecs
import gzip
import lzma
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_candles import HOUR_MS, START_MS, good_table

from calibrate.data import table_file
from calibrate.data.candle_writing import write_candles
from calibrate.data.candles import read_candles
from calibrate.data.dialect import NotATable, sniff
from calibrate.data.raw_candles import read_raw
from calibrate.errors import UserError

BARS = 60
TABLE = good_table(BARS).round(6)
DATES = pd.to_datetime(TABLE["ts"], unit="ms")
TEXT = TABLE.to_csv(index=False)
ROWS = TEXT.partition("\n")[2]


def dressed(dialect: str) -> str | bytes:
    """The same candles as others write them."""
    ts, newest = TABLE["ts"], TABLE.iloc[::-1]
    kline = TABLE.assign(end=ts + HOUR_MS - 1, quote=1.5, trades=7, taker=0.5, taker_quote=0.7, ignore=0)
    klines = "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore\n"
    market = newest.assign(
        ts=newest["ts"], date=DATES.iloc[::-1].dt.strftime("%Y-%m-%d %H:%M:%S"), symbol="ETH/USDT", usdt=9.0, n=3
    )
    order = ["ts", "date", "symbol", "open", "high", "low", "close", "volume", "usdt", "n"]
    desk = "https://www.CryptoDataDownload.com\n"
    old = market.assign(date=DATES.iloc[::-1].dt.strftime("%Y-%m-%d %I-%p"))
    comma = {"sep": ";", "decimal": ",", "index": False}
    return {
        "ccxt, no names": ROWS,
        "Binance klines with names": klines + kline.to_csv(index=False, header=False),
        "Binance klines without names": kline.to_csv(index=False, header=False),
        "Binance klines in microseconds": kline.assign(ts=ts * 1000).to_csv(index=False, header=False),
        "Binance names with spaces": TEXT.replace("ts,open", "Open time,Open", 1),
        "milliseconds, then microseconds": TABLE.assign(ts=ts * np.where(np.arange(BARS) < 30, 1, 1000)).to_csv(
            index=False
        ),
        "CryptoDataDownload": desk
        + "Unix,Date,Symbol,Open,High,Low,Close,Volume ETH,Volume USDT,tradecount\n"
        + market[order].to_csv(index=False, header=False),
        "CryptoDataDownload, quote volume first": desk
        + "unix,date,symbol,open,high,low,close,Volume USDT,Volume ETH\n"
        + market[[*order[:7], "usdt", "volume"]].to_csv(index=False, header=False),
        "CryptoDataDownload of old": desk
        + "Date,Symbol,Open,High,Low,Close,Volume ETH,Volume USD\n"
        + old[order[1:9]].to_csv(index=False, header=False),
        "Kaiko": TABLE.rename(columns={"ts": "timestamp"}).assign(price=1.0, count=3).to_csv(index=False),
        "CoinAPI": "time_period_start;time_period_end;price_open;price_high;price_low;price_close;volume_traded\n"
        + TABLE.assign(ts=DATES.dt.strftime("%Y-%m-%dT%H:%M:%S.0000000Z"), end="x")[
            ["ts", "end", "open", "high", "low", "close", "volume"]
        ].to_csv(index=False, header=False, sep=";"),
        "short names": TEXT.replace("ts,open,high,low,close,volume", "t,o,h,l,c,v", 1),
        "semicolons and decimal commas": TABLE.to_csv(**comma),
        "quoted decimal commas between commas": TABLE.to_csv(index=False, decimal=",", quoting=1),
        "thousands set apart": "ts;open;high;low;close;volume\n"
        + "".join(
            ";".join([str(row.ts), *(f"{value * 1000:,.6f}" for value in row[2:])]) + "\n" for row in TABLE.itertuples()
        ),
        "thousands set apart by points": "ts;open;high;low;close;volume\n"
        + "".join(
            ";".join([str(row.ts), *(f"{value * 1000:,.6f}".translate({44: 46, 46: 44}) for value in row[2:])]) + "\n"
            for row in TABLE.itertuples()
        ),
        "tabs": TABLE.to_csv(index=False, sep="\t"),
        "bars": TABLE.to_csv(index=False, sep="|"),
        "quoted": TABLE.to_csv(index=False, quoting=1),
        "single quotes": TABLE.to_csv(index=False, quoting=1, quotechar="'"),
        "Windows lines": TEXT.replace("\n", "\r\n"),
        "spaces after commas": TEXT.replace(",", ", "),
        "blank and comment lines above": f"\n# made by hand\n// twice\n\n{TEXT}",
        "a title above": f"Hourly candles of ETH\n\n{TEXT}",
        "Excel's hint": "sep=;\n" + TABLE.to_csv(index=False, sep=";"),
        "byte order mark": codecs.BOM_UTF8 + TEXT.encode(),
        "UTF-16": TEXT.encode("utf-16"),
        "umlauts of Windows": ("# Börse\n" + TEXT).encode("cp1252"),
        "dates with UTC behind": TABLE.assign(ts=DATES.dt.strftime("%Y-%m-%d %H:%M:%S UTC")).to_csv(index=False),
        "dates with slashes": TABLE.assign(ts=DATES.dt.strftime("%Y/%m/%d %H:%M")).to_csv(index=False),
        "seconds with a point": TABLE.assign(ts=ts / 1000).to_csv(index=False, float_format="%.6f"),
        "newest first": newest.to_csv(index=False),
        "an unnamed index column": TABLE.to_csv(),
    }[dialect]


DIALECTS = [
    *("ccxt, no names", "Binance klines with names", "Binance klines without names", "Binance klines in microseconds"),
    *("Binance names with spaces", "milliseconds, then microseconds", "CryptoDataDownload"),
    *("CryptoDataDownload, quote volume first", "CryptoDataDownload of old", "Kaiko", "CoinAPI", "short names"),
    *(
        "semicolons and decimal commas",
        "quoted decimal commas between commas",
        "tabs",
        "bars",
        "quoted",
        "single quotes",
    ),
    *("Windows lines", "spaces after commas", "blank and comment lines above", "a title above", "Excel's hint"),
    *("byte order mark", "UTF-16", "umlauts of Windows", "dates with UTC behind", "dates with slashes"),
    *("seconds with a point", "newest first", "an unnamed index column"),
]


def written(folder: Path, content: str | bytes, name: str = "candles.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def assert_same(path: Path, scale: float = 1.0) -> None:
    candles = read_candles(path)
    np.testing.assert_array_equal(candles.ts, TABLE["ts"])
    for name in ("open", "high", "low", "close", "volume"):
        np.testing.assert_allclose(getattr(candles, name), TABLE[name] * scale, rtol=1e-9, err_msg=name)
    assert (candles.interval_s, candles.gaps) == (3600, 0)


def message_of(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_candles(path)
    assert all(str(path) in line for line in str(caught.value).splitlines())
    return str(caught.value)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_candles_are_the_same_in_every_dress(tmp_path: Path, dialect: str) -> None:
    assert_same(written(tmp_path, dressed(dialect)))


@pytest.mark.parametrize("dialect", ["thousands set apart", "thousands set apart by points"])
def test_signs_between_thousands_are_no_decimals(tmp_path: Path, dialect: str) -> None:
    assert_same(written(tmp_path, dressed(dialect)), scale=1000)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress], ids=["gzip", "bzip2", "xz"])
def test_packed_files_are_unpacked_whatever_their_name(tmp_path: Path, pack: object) -> None:
    assert_same(written(tmp_path, pack(TEXT.encode())))  # type: ignore[operator]


def zipped(folder: Path, members: dict[str, str]) -> Path:
    with zipfile.ZipFile(folder / "candles.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return folder / "candles.zip"


def test_an_archive_of_one_file_is_that_file(tmp_path: Path) -> None:
    assert_same(
        zipped(tmp_path, {"ETHUSDT-1h-2021-01.csv": str(dressed("Binance klines without names")), "__MACOSX/x": ""})
    )
    assert "archive of 2 files; expected one" in message_of(zipped(tmp_path, {"a.csv": TEXT, "b.csv": TEXT}))
    assert "Excel workbook; save the sheet as CSV" in message_of(
        zipped(tmp_path, {"[Content_Types].xml": "", "xl/x": ""})
    )


def test_parquet_in_other_types_is_the_same(tmp_path: Path) -> None:
    kinds = {"open": "float32", "high": "string", "low": "Float64", "volume": "category"}
    table = TABLE.astype(kinds).assign(ts=DATES.dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo"), symbol="ETH")
    table.to_parquet(tmp_path / "candles.parquet", index=False, row_group_size=7)
    candles = read_candles(tmp_path / "candles.parquet")
    np.testing.assert_array_equal(candles.ts, TABLE["ts"])
    np.testing.assert_allclose(candles.open, TABLE["open"], rtol=1e-6)
    np.testing.assert_allclose(candles.high, TABLE["high"], rtol=1e-12)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("<!DOCTYPE html><html>502</html>", "a web page, perhaps an error message"),
        ("[[1609459200000, 1, 1, 1, 1, 1]]", "found JSON"),
        ("# nothing\n# but comments\n", "found no rows"),
        (b"\x00\x01\x02\x03, and so on", "binary content"),
        (gzip.compress(TEXT.encode())[:200], "not a table"),
        ("1609459200000,1,1,1,1\n1609462800000,1,1,1,1\n", "found 5 columns and no line that names them"),
        (
            "ts;open;high;low;close;volume\n" + "1609459200000;1,234;1,234;1,234;1,234;5,000\n" * 3,
            "before decimals or between thousands",
        ),
        (
            "date,open,high,low,close,volume\n01/02/2021 00:00,1,1,1,1,1\n01/02/2021 01:00,1,1,1,1,1\n",
            "expected Unix time or an ISO date",
        ),
        (TEXT + ROWS.partition("\n")[0].replace(",", ";"), "column open, row 61"),
        (TEXT + "ts,open,high,low,close,volume\n", "column ts, row 61: found 'ts'"),
        (TEXT + "total,,,,,\n", "column ts, row 61: found 'total'"),
        (TEXT.replace("high", "hgih"), "missing high; found ts, open, hgih, low, close, volume"),
    ],
)
def test_what_is_no_candle_file_is_told_for_what_it_is(tmp_path: Path, content: str | bytes, expected: str) -> None:
    assert expected in message_of(written(tmp_path, content))


def test_a_number_with_the_other_sign_of_decimals_is_told(tmp_path: Path) -> None:
    path = written(tmp_path, TEXT.replace(",", ";") + "1609675200000;100,5;101.5;99.5;100.5;1.5\n")
    assert "column open, row 61 (2021-01-03T12:00:00Z): found '100,5'" in message_of(path)


def test_the_first_of_two_columns_of_a_name_is_taken(tmp_path: Path) -> None:
    table = TABLE.assign(other=7.0)
    table.columns = [*TABLE.columns, "close"]
    assert_same(written(tmp_path, table.to_csv(index=False)))


def test_rows_are_chosen_by_other_columns(tmp_path: Path) -> None:
    both = pd.concat([TABLE.assign(symbol="ETH"), TABLE.assign(symbol="BTC", close=TABLE["close"] * 1.0005)])
    path = written(tmp_path, both.to_csv(index=False))
    assert "a time that another row has too, with other prices (the first of 60 such rows)" in message_of(path)
    np.testing.assert_array_equal(read_raw(path, where={"Symbol": "ETH"}).columns["close"], TABLE["close"])
    with pytest.raises(UserError, match="found no rows with symbol=DOGE"):
        read_raw(path, where={"symbol": "DOGE"})
    with pytest.raises(UserError, match="there is no market; found ts"):
        read_raw(path, where={"market": "ETH"})


@pytest.mark.parametrize(
    ("head", "whole", "said"),
    [
        ("a;b;c\n1;2;3\n", True, "semicolon-separated"),
        ("a,b,c\n1,2,3\n1,2", False, "comma-separated"),
        ("x\ta\n1,5\t2,5\n", True, "tab-separated, decimal commas"),
        ("1,2,3\n4,5,6\n", True, "comma-separated, no line of names"),
        ("2021-01-01,2,3\n", True, "comma-separated, no line of names"),
        ("title\n\na|b\n1|2\n", True, "bar-separated, 2 lines before the table"),
        ("one\n1\n2\n", True, "comma-separated"),
    ],
)
def test_a_dialect_can_be_said(head: str, whole: bool, said: str) -> None:
    assert str(sniff(head.encode(), whole=whole)) == said


def test_rows_longer_than_the_names_are_told_from_the_first_lines() -> None:
    with pytest.raises(NotATable, match="found 4 fields in row 2, 3 in the first line"):
        sniff(b"a,b,c\n1,2,3\n1,2,3,4\n", whole=True)


def test_a_file_is_the_same_however_it_is_cut_into_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_file, "MOST_ROWS_PER_PIECE", 7)
    TABLE.to_parquet(tmp_path / "candles.parquet")
    assert_same(tmp_path / "candles.parquet")
    for dialect in ("CryptoDataDownload", "Binance klines without names", "UTF-16", "milliseconds, then microseconds"):
        assert_same(written(tmp_path, dressed(dialect)))
    table = TABLE.astype(object)
    table.loc[[9, 40], "close"] = ["n/a?", "later"]
    told = message_of(written(tmp_path, table.to_csv(index=False)))
    assert "row 10 (2021-01-01T09:00:00Z): found 'n/a?' (the first of 2 such rows)" in told


PEAK = """
import resource, sys
from calibrate.data.candles import read_candles
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak()
print(read_candles(sys.argv[1]).bars, peak() - before)
"""


def peak_mib(path: Path) -> tuple[int, int]:
    """Bars of a file, and by how much reading it in a process of its own raised that process's peak memory."""
    answer = subprocess.run([sys.executable, "-c", PEAK, str(path)], capture_output=True, text=True, check=True)
    bars, mib = map(int, answer.stdout.split())
    return bars, mib


def test_memory_does_not_grow_with_what_else_a_file_holds(tmp_path: Path) -> None:
    """The file has 150 MB of text in a column that nobody needs, and 7 MB of candles; read at once it would take more than
    its size."""
    bars = 150_000
    ts = START_MS + HOUR_MS // 60 * np.arange(bars)
    junk = "x" * 1000
    with (tmp_path / "wide.csv").open("w") as file:
        file.write("ts,open,high,low,close,volume,remark\n")
        file.writelines(f"{time},1,1,1,1,1,{junk}\n" for time in ts.tolist())
    read, mib = peak_mib(tmp_path / "wide.csv")
    assert read == bars
    assert mib < 130


@pytest.mark.slow
def test_ten_million_rows_are_read_in_bounded_memory(tmp_path: Path) -> None:
    bars = 10_000_000
    prices = dict.fromkeys(("open", "high", "low", "close", "volume"), np.full(bars, 1234.5678))
    write_candles(tmp_path / "long.csv", {"ts": START_MS - 6 * 10**11 + 60_000 * np.arange(bars), **prices})
    read, mib = peak_mib(tmp_path / "long.csv")
    assert read == bars
    assert mib < 1300  # the candles themselves take 458


def test_what_is_written_is_read_again_and_the_same_each_time(tmp_path: Path) -> None:
    columns = {name: TABLE[name].to_numpy() for name in TABLE.columns}
    for name in ("a.csv", "b.csv", "a.parquet", "b.parquet"):
        write_candles(tmp_path / name, columns, note={"made": "here"})
        assert_same(tmp_path / name)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert (
        (tmp_path / "a.csv").read_text().startswith("# made: here\nts,open,high,low,close,volume\n1609459200000,100,")
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "a.parquet", "b.csv", "b.parquet"]


@pytest.mark.parametrize(
    ("name", "expected"), [("candles.xlsx", "expected .parquet or .csv"), ("none/candles.csv", "there is no folder")]
)
def test_a_target_that_cannot_be_written_is_refused(tmp_path: Path, name: str, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        write_candles(tmp_path / name, {})
