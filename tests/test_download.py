"""Downloads from a local exchange: every bar that there is, once, in order, whatever the exchange does in between."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import local_exchange
import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
from local_exchange import BANNED, BLOCKED, BROKEN, NONSENSE, RATE_LIMITED, Exchange, point_ccxt_at, served

from calibrate.data.candle_columns import NAMES
from calibrate.data.candles import read_candles
from calibrate.data.download import download, pages
from calibrate.data.exchange import Market
from calibrate.errors import UserError
from calibrate.progress import Silent

HOUR_MS = 3_600_000
START_MS = 1_704_067_200_000  # 2024-01-01
NOW_MS = START_MS + 4000 * HOUR_MS + 1_234_567
END_MS = START_MS + 4000 * HOUR_MS  # of the last whole bar


def history(bars: int = 4001, step_ms: int = HOUR_MS) -> np.ndarray:
    """Made-up bars, the last of which is still open at NOW_MS."""
    rng = np.random.default_rng(3)
    close = np.round(2000 * np.exp(np.cumsum(0.01 * rng.standard_normal(bars))), 2)
    opened = np.concatenate([[2000.0], close[:-1]])
    high, low = np.round(np.maximum(opened, close) * 1.002, 2), np.round(np.minimum(opened, close) * 0.998, 2)
    ts = START_MS + step_ms * np.arange(bars)
    return np.column_stack([ts, opened, high, low, close, np.round(rng.gamma(2, 50, bars), 4)])


def without(bars: np.ndarray, *spans: tuple[int, int]) -> np.ndarray:
    gone = np.concatenate([np.arange(*span) for span in spans])
    return np.delete(bars, gone, axis=0)


class Talk(Silent):
    """Remembers what was told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    made = Exchange(history(), NOW_MS)
    with served(made) as address, pytest.MonkeyPatch.context() as patch:
        point_ccxt_at(address, patch)
        yield made


def binance(talk: Talk | None = None, waits: list[float] | None = None) -> Market:
    note = (talk or Talk()).note
    sleep = (waits if waits is not None else []).append
    return Market("binance", "ETH/USDT", "1h", tell=note, sleep=sleep)


def fetched(
    folder: Path, market: Market | None = None, *, name: str = "eth.parquet", to_ms: float = NOW_MS
) -> np.ndarray:
    download(market or binance(), START_MS, to_ms, folder / name, Silent())
    table = pd.read_parquet(folder / name)
    assert list(table.columns) == list(NAMES)
    assert not list(folder.glob("*.part"))
    return table.to_numpy(float)


# --- what is downloaded ---------------------------------------------------------------------------------------------------


def test_binance_gives_every_whole_bar_and_never_the_open_one(exchange: Exchange, tmp_path: Path) -> None:
    np.testing.assert_array_equal(fetched(tmp_path), exchange.bars[:-1])
    assert len(exchange.asked) == 4
    candles = read_candles(tmp_path / "eth.parquet")
    assert (candles.bars, candles.gaps, candles.interval_s) == (4000, 0, 3600)


def test_coinbase_gives_the_newest_first_and_one_span_at_a_time(exchange: Exchange, tmp_path: Path) -> None:
    exchange.bars = without(exchange.bars, (500, 1500), (2000, 2010))
    market = Market("coinbaseexchange", "ETH/USD", "1h")
    np.testing.assert_array_equal(fetched(tmp_path, market), exchange.bars[:-1])


def test_pages_that_are_cut_short_are_no_end(exchange: Exchange, tmp_path: Path) -> None:
    exchange.page_bars = 137
    np.testing.assert_array_equal(fetched(tmp_path), exchange.bars[:-1])


def test_gaps_are_left_as_they_are_once_they_were_asked_for_twice(exchange: Exchange, tmp_path: Path) -> None:
    exchange.bars = without(exchange.bars, (1000, 1003), (2003, 3500))  # each begins where a page ends
    np.testing.assert_array_equal(fetched(tmp_path), exchange.bars[:-1])
    holes = [text for text in exchange.asked if "endTime" in text]
    assert len(holes) == 2


def test_an_empty_page_within_a_history_is_not_believed_at_once(exchange: Exchange, tmp_path: Path) -> None:
    exchange.next_answers = [None, local_exchange.Answer(200, "[]")]
    np.testing.assert_array_equal(fetched(tmp_path), exchange.bars[:-1])


def test_a_market_that_is_younger_than_asked_for_begins_where_it_does(exchange: Exchange, tmp_path: Path) -> None:
    exchange.bars = exchange.bars[1234:]
    np.testing.assert_array_equal(fetched(tmp_path), exchange.bars[:-1])


def test_only_bars_of_the_span_are_written(exchange: Exchange, tmp_path: Path) -> None:
    market = binance()
    download(market, START_MS + 10.5 * HOUR_MS, START_MS + 20.5 * HOUR_MS, tmp_path / "eth.parquet", Silent())
    table = pd.read_parquet(tmp_path / "eth.parquet")
    np.testing.assert_array_equal(table["ts"], exchange.bars[11:20, 0])


def test_a_span_without_a_whole_bar_is_refused(exchange: Exchange, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no bar has begun and ended"):
        download(binance(), NOW_MS, NOW_MS + HOUR_MS, tmp_path / "eth.parquet", Silent())
    with pytest.raises(UserError, match=r"expected \.parquet"):
        download(binance(), START_MS, NOW_MS, tmp_path / "eth.csv", Silent())
    assert list(tmp_path.iterdir()) == []


def test_an_exchange_without_a_bar_in_the_span_leaves_no_file(exchange: Exchange, tmp_path: Path) -> None:
    exchange.bars = exchange.bars[3000:]
    with pytest.raises(UserError, match="has no bar of ETH/USDT from 2024-01-01T00:00:00Z to 2024-01-05T04:00:00Z"):
        fetched(tmp_path, to_ms=START_MS + 100 * HOUR_MS)
    assert list(tmp_path.iterdir()) == []


def test_a_span_shorter_than_thought_hides_nothing() -> None:
    """An exchange that takes five bars at a time and says ninety: after an empty answer the rest is asked for from its end."""
    bars = without(history(600), (100, 130))
    source = Made(bars, "span", 5, np.random.default_rng(0))
    source.page_bars, source.span_bars = 90, 5
    pieces = [piece for _, piece in pages(source, START_MS, START_MS + 600 * HOUR_MS)]
    np.testing.assert_array_equal(np.concatenate(pieces), bars)


class Made:
    """An exchange without a network, that answers `style`: "first" bars after, "span" after, or "newest" bars before."""

    venue, symbol, interval, interval_ms = "made", "A/B", "1h", float(HOUR_MS)

    def __init__(self, bars: np.ndarray, style: str, page_bars: int, rng: np.random.Generator):
        self.bars, self.style, self.page_bars, self.rng = bars, style, page_bars, rng
        self.span_bars = page_bars

    def now_ms(self) -> float:
        return NOW_MS

    def page(self, since_ms: float, until_ms: float | None = None) -> np.ndarray:
        end = np.inf if until_ms is None else until_ms
        if self.style == "span":
            since_ms = max(since_ms, end - (self.span_bars - 1) * HOUR_MS) if until_ms else since_ms
            end = min(end, since_ms + (self.span_bars - 1) * HOUR_MS)
        bars = self.bars[(self.bars[:, 0] >= since_ms) & (self.bars[:, 0] <= end)]
        given = int(self.rng.integers(1, self.page_bars + 1))  # pages are partial as it comes
        return bars[-given:] if self.style == "newest" else bars[:given]


@pytest.mark.parametrize("style", ["first", "span", "newest"])
@pytest.mark.parametrize("seed", range(8))
def test_all_bars_come_whichever_way_an_exchange_pages(style: str, seed: int) -> None:
    rng = np.random.default_rng([seed, 5])
    bars = history(600)
    spans = [(int(start), int(start + rng.integers(1, 60))) for start in rng.integers(0, 540, 4)]
    bars = without(bars, *spans)
    source = Made(bars, style, int(rng.integers(5, 90)), rng)
    end = START_MS + 580 * HOUR_MS
    untils, pieces = zip(*pages(source, START_MS, end), strict=True)
    np.testing.assert_array_equal(np.concatenate(pieces), bars[bars[:, 0] < end])
    assert list(untils) == sorted(untils)


# --- when the exchange is out of order -------------------------------------------------------------------------------------


def test_it_waits_as_long_as_the_exchange_wishes(exchange: Exchange, tmp_path: Path) -> None:
    talk, waits = Talk(), list[float]()
    exchange.next_answers = [None, RATE_LIMITED, BROKEN, NONSENSE]
    np.testing.assert_array_equal(fetched(tmp_path, binance(talk, waits)), exchange.bars[:-1])
    assert waits == [7.0, 2.0, 4.0]
    assert len(talk.notes) == 3
    assert "429" in talk.notes[0]
    assert talk.notes[0].endswith("asking again in 7 s")
    assert "502" in talk.notes[1]


def test_a_ban_ends_the_download_and_says_for_how_long(exchange: Exchange, tmp_path: Path) -> None:
    waits: list[float] = []
    exchange.next_answers = [None, None, BANNED]
    with pytest.raises(UserError, match=r"asks to wait 5400 s; run the same command later"):
        fetched(tmp_path, binance(waits=waits))
    assert waits == []
    assert [path.name for path in tmp_path.iterdir()] == ["eth.parquet.part"]


def test_an_exchange_that_stays_silent_is_given_up(exchange: Exchange, tmp_path: Path) -> None:
    waits: list[float] = []
    exchange.next_answers = [BROKEN] * 20
    with pytest.raises(UserError, match="it was asked 7 times"):
        fetched(tmp_path, binance(waits=waits))
    assert waits == [1, 2, 4, 8, 16, 32]


@pytest.mark.parametrize("answer", [local_exchange.UNKNOWN_SYMBOL, BLOCKED])
def test_a_refusal_is_not_asked_again(exchange: Exchange, tmp_path: Path, answer: local_exchange.Answer) -> None:
    waits: list[float] = []
    exchange.next_answers = [answer]
    with pytest.raises(UserError, match="refused the question") as caught:
        fetched(tmp_path, binance(waits=waits))
    assert json.loads(answer.body)["msg"] in str(caught.value)
    assert (len(exchange.asked), waits) == (1, [])


def test_bars_without_a_price_are_left_out_and_told(exchange: Exchange, tmp_path: Path) -> None:
    talk = Talk()
    rows = json.loads(exchange._klines({"symbol": "ETHUSDT", "interval": "1h", "limit": "500"}).body)
    rows[7][4] = None
    exchange.next_answers = [local_exchange.Answer(200, json.dumps(rows))]
    got = fetched(tmp_path, binance(talk))
    np.testing.assert_array_equal(got, np.delete(exchange.bars[:-1], 7, axis=0))
    assert "1 bars without a price or volume were left out" in talk.notes[0]


# --- going on -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("torn", [b"", b'{"until_ms": 17040', b'{"until_ms": 1.7e12, "bars": [[1'])
def test_an_interrupted_download_goes_on_and_ends_in_the_same_file(
    exchange: Exchange, tmp_path: Path, torn: bytes
) -> None:
    whole = fetched(tmp_path, name="whole.parquet")
    for pages_before in (2, 1):
        exchange.next_answers = [*[None] * pages_before, BANNED]
        with pytest.raises(UserError):
            fetched(tmp_path)
        with (tmp_path / "eth.parquet.part").open("ab") as file:
            file.write(torn)
    exchange.asked.clear()
    np.testing.assert_array_equal(fetched(tmp_path), whole)
    assert len(exchange.asked) == 1
    assert (tmp_path / "eth.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_a_part_torn_in_its_first_line_begins_again(exchange: Exchange, tmp_path: Path) -> None:
    (tmp_path / "eth.parquet.part").write_bytes(b'{"venue": "bin')
    np.testing.assert_array_equal(fetched(tmp_path), exchange.bars[:-1])


def test_a_later_end_asks_only_for_what_is_new(exchange: Exchange, tmp_path: Path) -> None:
    early = fetched(tmp_path, to_ms=START_MS + 3500 * HOUR_MS)
    assert len(early) == 3500
    exchange.asked.clear()
    np.testing.assert_array_equal(fetched(tmp_path), exchange.bars[:-1])
    assert len(exchange.asked) == 1
    again = (tmp_path / "eth.parquet").read_bytes()
    exchange.asked.clear()
    fetched(tmp_path)
    assert exchange.asked == []
    assert (tmp_path / "eth.parquet").read_bytes() == again


def test_files_of_something_else_are_left_alone(exchange: Exchange, tmp_path: Path) -> None:
    del exchange
    target = tmp_path / "eth.parquet"
    pd.DataFrame({"a": [1]}).to_parquet(target)
    before = target.read_bytes()
    with pytest.raises(UserError, match=r"another download .*; choose another --output"):
        fetched(tmp_path)
    assert target.read_bytes() == before
    target.write_text("no table")
    with pytest.raises(UserError, match="no Parquet table"):
        fetched(tmp_path)
    target.unlink()
    part = tmp_path / "eth.parquet.part"
    part.write_text("something\nelse\n")
    with pytest.raises(UserError, match="other than an interrupted download"):
        fetched(tmp_path)
    part.write_text('{"venue": "kraken", "symbol": "ETH/USDT", "interval": "1h", "from_ms": 1704067200000}\n')
    with pytest.raises(UserError, match="venue kraken in place of binance"):
        fetched(tmp_path)
    assert part.exists()


# --- the market and the command --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("binanse", "ETH/USDT", "1h"), "binance"),
        (("binance", "ETH/USD", "1h"), "ETH/USDT"),
        (("binance", "ETH/USDT", "7m"), "5m"),
        (("binance", "ETH/USDT", "1M"), "1d"),
    ],
)
def test_what_the_exchange_does_not_have_is_told_with_what_it_has(
    exchange: Exchange, arguments: tuple[str, str, str], expected: str
) -> None:
    del exchange
    with pytest.raises(UserError, match=expected) as caught:
        Market(*arguments)
    assert len(caught.value.problems) == 1


def test_an_exchange_s_own_name_of_a_market_is_understood(exchange: Exchange) -> None:
    del exchange
    assert Market("binance", "ETHUSDT", "1h").symbol == "ETH/USDT"


def test_without_ccxt_the_way_to_get_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ccxt", None)
    with pytest.raises(UserError, match=r"pip install 'calibrate\[data\]'"):
        Market("binance", "ETH/USDT", "1h")


def called(*arguments: Any) -> int:
    from calibrate import cli

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["calibrate", "data", *map(str, arguments)])
        try:
            cli.main()
        except SystemExit as stop:
            return int(stop.code or 0)
    return 0


def test_the_command_downloads_checks_and_says_so(
    exchange: Exchange, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exchange.bars = without(exchange.bars, (100, 103))
    target = tmp_path / "eth.parquet"
    wish = ["fetch", "binance", "ETH/USDT", "--from", "2024-01-01", "--to", "2024-03-01", "-o", target]
    assert called(*wish) == 0
    shown = capsys.readouterr()
    assert f"written: {target}: 1,437 bars, 1,437 of them new, up to 2024-03-01T00:00:00Z" in shown.out
    assert "1 gaps with 3 missing" in shown.out
    assert "ETH/USDT 1h (1,440)" in shown.err
    metadata = pyarrow.parquet.read_schema(target).metadata
    assert (metadata[b"venue"], metadata[b"symbol"]) == (b"binance", b"ETH/USDT")
    assert called(*wish, "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert (content["bars"], content["new_bars"], content["asked_until"]) == (1437, 0, "2024-03-01T00:00:00Z")


def test_an_interruption_keeps_what_is_there(
    exchange: Exchange, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    del exchange
    ask, count = Market.page, iter(range(100))

    def page(self: Market, *arguments: Any) -> np.ndarray:
        if next(count) == 2:
            os.kill(os.getpid(), 2)
        return ask(self, *arguments)

    monkeypatch.setattr(Market, "page", page)
    target = tmp_path / "eth.parquet"
    assert called("fetch", "binance", "ETH/USDT", "--from", "2024-01-01", "-o", target) == 130
    assert f"kept in {target}.part, and the same command goes on from there" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["eth.parquet.part"]
    assert called("fetch", "binance", "ETH/USDT", "--from", "2024-01-01", "-o", target) == 0
    assert read_candles(target).bars == 4000


@pytest.mark.parametrize("wish", [["--from", "yesterday"], ["--from", "2024-01-01", "--to", "2024-13-01"]])
def test_a_date_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], wish: list[str]) -> None:
    assert called("fetch", "binance", "ETH/USDT", *wish, "-o", tmp_path / "eth.parquet") == 2
    assert "expected a date or time such as 2021-01-01" in capsys.readouterr().err
