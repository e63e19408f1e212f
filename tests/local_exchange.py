"""Exchanges on this computer: a server that speaks the formats of Binance's and Coinbase's public interfaces, with their
limits, their orders and their ways of failing, from a history that the test makes up.

Formats are those of the exchanges' public documentation: Binance "Kline/Candlestick Data" and "Error Codes" of the spot
interface, Coinbase Exchange "Get product candles".
"""

import http.server
import json
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NamedTuple

import ccxt
import numpy as np
import pytest

BINANCE_LIMIT, COINBASE_LIMIT = 1000, 300
INTERVALS = {"1m": 60_000, "1h": 3_600_000, "1d": 86_400_000}


class Answer(NamedTuple):
    status: int
    body: str
    headers: tuple[tuple[str, str], ...] = ()


RATE_LIMITED = Answer(429, '{"code":-1003,"msg":"Too many requests."}', (("Retry-After", "7"),))
BANNED = Answer(418, '{"code":-1003,"msg":"Way too many requests; IP banned."}', (("Retry-After", "5400"),))
BROKEN = Answer(502, "<html><body>502 Bad Gateway</body></html>")
NONSENSE = Answer(200, "<html>We will be back soon</html>")
UNKNOWN_SYMBOL = Answer(400, '{"code":-1121,"msg":"Invalid symbol."}')
BLOCKED = Answer(403, '{"code":-2015,"msg":"Invalid API-key, IP, or permissions for action."}')


class Exchange:
    """A history of bars (rows of ts, open, high, low, close, volume) and how the server is disposed. `next_answers` are given
    to the next questions for candles in place of the truth; None stands for the truth. `page_bars` cuts pages short."""

    def __init__(self, bars: np.ndarray, now_ms: float):
        self.bars, self.now_ms = bars, now_ms
        self.next_answers: list[Answer | None] = []
        self.page_bars: int | None = None
        self.asked: list[str] = []

    def answer(self, path: str, query: dict[str, str]) -> Answer:
        if path.endswith(("/klines", "/candles")):
            self.asked.append(urllib.parse.urlencode(query))
            planned = self.next_answers.pop(0) if self.next_answers else None
            return planned or (self._klines(query) if path.endswith("/klines") else self._candles(query))
        if path == "/api/v3/exchangeInfo":
            return _json({"symbols": [_binance_market("ETH", "USDT"), _binance_market("BTC", "USDT")]})
        if path.endswith("/exchangeInfo"):
            return _json({"symbols": []})
        if path == "/api/v3/time":
            return _json({"serverTime": int(self.now_ms)})
        if path == "/products":
            return _json([_coinbase_product("ETH", "USD")])
        if path == "/currencies":
            return _json([])
        if path == "/time":
            return _json({"iso": "", "epoch": self.now_ms / 1000})
        return Answer(404, "{}")

    def _known(self) -> np.ndarray:
        """Bars that have begun, with the one that is still open."""
        return self.bars[self.bars[:, 0] <= self.now_ms]

    def _klines(self, query: dict[str, str]) -> Answer:
        """Binance: the oldest bars from `startTime` on."""
        if query["symbol"] not in ("ETHUSDT", "BTCUSDT"):
            return UNKNOWN_SYMBOL
        bars = self._known()
        bars = bars[bars[:, 0] >= float(query.get("startTime", 0))]
        bars = bars[bars[:, 0] <= float(query.get("endTime", "inf"))]
        bars = bars[: min(int(query.get("limit", 500)), BINANCE_LIMIT, self.page_bars or BINANCE_LIMIT)]
        length = INTERVALS[query["interval"]]
        return _json(
            [
                [int(row[0]), *map(_text, row[1:]), int(row[0]) + length - 1, "0", 0, "0", "0", "0"]
                for row in bars.tolist()
            ]
        )

    def _candles(self, query: dict[str, str]) -> Answer:
        """Coinbase: the newest first, of one span, which may not hold more than 300."""
        start, end = (datetime.fromisoformat(query[name]).timestamp() for name in ("start", "end"))
        if (end - start) / int(query["granularity"]) > COINBASE_LIMIT:
            return Answer(400, '{"message":"granularity too small for the requested time range."}')
        bars = self._known()
        bars = bars[(bars[:, 0] >= start * 1000) & (bars[:, 0] <= end * 1000)][::-1]
        return _json(
            [
                [int(ts) // 1000, low, high, opened, close, volume]
                for ts, opened, high, low, close, volume in bars.tolist()
            ]
        )


def _json(content: Any) -> Answer:
    return Answer(200, json.dumps(content))


def _text(value: float) -> str:
    return f"{value:.8f}"


def _binance_market(base: str, quote: str) -> dict[str, Any]:
    filters = [
        {"filterType": "PRICE_FILTER", "minPrice": "0.01", "maxPrice": "1000000", "tickSize": "0.01"},
        {"filterType": "LOT_SIZE", "minQty": "0.0001", "maxQty": "9000", "stepSize": "0.0001"},
    ]
    return {
        **{"symbol": f"{base}{quote}", "status": "TRADING", "baseAsset": base, "quoteAsset": quote, "filters": filters},
        **{"baseAssetPrecision": 8, "quotePrecision": 8, "quoteAssetPrecision": 8, "orderTypes": ["LIMIT"]},
        **{
            "isSpotTradingAllowed": True,
            "isMarginTradingAllowed": False,
            "permissions": ["SPOT"],
            "permissionSets": [],
        },
    }


def _coinbase_product(base: str, quote: str) -> dict[str, Any]:
    return {
        **{"id": f"{base}-{quote}", "base_currency": base, "quote_currency": quote, "status": "online"},
        **{"base_increment": "0.00000001", "quote_increment": "0.01", "min_market_funds": "1"},
        **{"trading_disabled": False, "cancel_only": False, "post_only": False, "limit_only": False},
    }


@contextmanager
def served(exchange: Exchange) -> Iterator[str]:
    """The address at which the exchange answers."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urllib.parse.urlsplit(self.path)
            answer = exchange.answer(parts.path, dict(urllib.parse.parse_qsl(parts.query)))
            body = answer.body.encode()
            self.send_response(answer.status)
            kind = "text/html" if answer.body.startswith("<") else "application/json"
            for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **dict(answer.headers)}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None:
            del format, arguments

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def point_ccxt_at(address: str, patch: pytest.MonkeyPatch) -> None:
    """Let ccxt's classes for Binance and Coinbase talk to the local server, as fast as it answers."""

    class Binance(ccxt.binance):
        def describe(self) -> dict[str, Any]:
            urls = {"public": "/api/v3", "fapiPublic": "/fapi/v1", "dapiPublic": "/dapi/v1"}
            local = {"urls": {"api": {name: address + path for name, path in urls.items()}}, "rateLimit": 1}
            return self.deep_extend(super().describe(), local)

    class Coinbase(ccxt.coinbaseexchange):
        def describe(self) -> dict[str, Any]:
            return self.deep_extend(super().describe(), {"urls": {"api": {"public": address}}, "rateLimit": 1})

    patch.setattr(ccxt, "binance", Binance)
    patch.setattr(ccxt, "coinbaseexchange", Coinbase)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        patch.delenv(name, raising=False)
        patch.delenv(name.upper(), raising=False)
