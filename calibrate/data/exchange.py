"""One market of an exchange, asked for its candles through ccxt: waits as long as the exchange wishes, asks again when it is
out of order, and says in one line what a person can mend.

ccxt comes with the extra `data`; it is imported when an exchange is opened.
"""

import difflib
import itertools
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from calibrate.errors import Problem, UserError

INSTALL = "python -m pip install 'calibrate[data]'"
DEFAULT_PAGE_BARS = 500
DAY_MS = 86_400_000
FIRST_WAIT_S = 1.0  # doubles with every attempt
ATTEMPTS = 7  # a minute of waiting in all
LONGEST_WAIT_S = 300.0
CANDLE_FIELDS = 6
# What an answer in another form than documented brings about inside ccxt.
MISUNDERSTOOD = (TypeError, ValueError, KeyError, IndexError, AttributeError)


class Refused(UserError):
    """The exchange does not take the question."""


class Unanswered(UserError):
    """The exchange does not answer now; the same command may succeed later."""


class Market:
    """A market of an exchange at one interval. `tell` hears of waits."""

    def __init__(
        self,
        venue: str,
        symbol: str,
        interval: str,
        *,
        tell: Callable[[str], None] = lambda text: None,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self._ccxt = _import_ccxt()
        self._tell, self._sleep = tell, sleep
        self.venue, self.interval = venue, interval
        self._exchange = self._open(venue)
        self.interval_ms = self._length(interval)
        self._ask(self._exchange.load_markets)
        self.symbol = self._find(symbol)
        self.page_bars = self._page_bars()

    def now_ms(self) -> float:
        """What time it is: the earlier of this computer's clock and the exchange's, so that no open bar is taken for whole."""
        here = time.time() * 1000
        if not self._exchange.has.get("fetchTime"):
            return here
        return min(here, float(self._ask(self._exchange.fetch_time) or here))

    def page(self, since_ms: float, until_ms: float | None = None) -> np.ndarray:
        """Bars that the exchange gives from `since_ms` on, in time order: rows of ts, open, high, low, close, volume. How
        many, and whether the first or the last of those there are, is the exchange's choice."""
        options = {} if until_ms is None else {"params": {"until": int(until_ms)}}
        rows = self._ask(self._bars, int(since_ms), options)
        return rows[np.unique(rows[:, 0], return_index=True)[1]]

    def _bars(self, since_ms: int, options: dict[str, Any]) -> np.ndarray:
        answer = self._exchange.fetch_ohlcv(self.symbol, self.interval, since_ms, self.page_bars, **options)
        if not answer and self._exchange.last_json_response is None:  # ccxt makes no candles of a web page
            raise self._ccxt.BadResponse(f"{self.venue} answered with something other than JSON")
        rows = np.array([row[:CANDLE_FIELDS] for row in answer], dtype=np.float64).reshape(-1, CANDLE_FIELDS)
        known = np.isfinite(rows).all(axis=1)
        if not known.all():
            self._tell(f"{self.venue}: {np.count_nonzero(~known)} bars without a price or volume were left out")
        return rows[known]

    def _open(self, venue: str) -> Any:
        if venue not in self._ccxt.exchanges:
            raise UserError([Problem("venue", f"found {venue!r}; expected {_like(venue, self._ccxt.exchanges)}")])
        # The proxies of the environment are used, as by other programs.
        wishes = {"enableRateLimit": True, "requests_trust_env": True, "enableLastJsonResponse": True}
        exchange = getattr(self._ccxt, venue)(wishes)
        if not exchange.has.get("fetchOHLCV"):
            raise UserError([Problem("venue", f"{venue} gives no candles; choose another exchange")])
        return exchange

    def _length(self, interval: str) -> float:
        known = {name: self._ccxt.Exchange.parse_timeframe(name) * 1000 for name in self._exchange.timeframes or {}}
        offered = [name for name, length in known.items() if DAY_MS % length == 0]
        if interval not in offered:
            listed = ", ".join(offered)
            raise UserError(
                [Problem("--interval", f"found {interval!r}; expected one that {self.venue} has: {listed}")]
            )
        return float(known[interval])

    def _find(self, symbol: str) -> str:
        try:
            return str(self._exchange.market(symbol)["symbol"])
        except self._ccxt.BaseError:
            offered = self._exchange.symbols
            found = f"found {symbol!r}, which {self.venue} does not have; expected {_like(symbol, offered)}"
            raise UserError([Problem("symbol", found)]) from None

    def _page_bars(self) -> int:
        """How many bars the exchange gives at once, where ccxt knows."""
        market = self._exchange.market(self.symbol)
        known = getattr(self._exchange, "features", None) or {}
        for key in (market["type"], "linear" if market.get("linear") else "inverse", "fetchOHLCV", "limit"):
            known = known.get(key, known) if isinstance(known, dict) else known
        return int(known) if isinstance(known, int | float) else DEFAULT_PAGE_BARS

    def _ask(self, method: Callable[..., Any], *arguments: Any) -> Any:
        """Ask, and ask again as long as the exchange is out of order or wants us to wait."""
        for attempt in itertools.count(1):
            self._exchange.last_response_headers = self._exchange.last_json_response = None
            try:
                return method(*arguments)
            except (self._ccxt.OperationFailed, *MISUNDERSTOOD) as error:
                wait_s = max(self._wished_wait_s(), FIRST_WAIT_S * 2 ** (attempt - 1))
                if attempt == ATTEMPTS or wait_s > LONGEST_WAIT_S:
                    raise self._gone(error, wait_s) from error
                self._tell(f"{self.venue}: {_brief(error)}; asking again in {wait_s:.0f} s")
                self._sleep(wait_s)
            except self._ccxt.BaseError as error:
                raise Refused([Problem(self.venue, f"refused the question ({_brief(error)})")]) from error
        raise AssertionError("the loop above only ends by returning or raising")

    def _wished_wait_s(self) -> float:
        """What the exchange's last answer says about when to come back (RFC 9110, 10.2.3), where it does in seconds."""
        headers = {key.lower(): value for key, value in (self._exchange.last_response_headers or {}).items()}
        wished = str(headers.get("retry-after", "")).strip()
        return float(wished) if wished.isdecimal() else 0.0

    def _gone(self, error: Exception, wait_s: float) -> Unanswered:
        when = f"it asks to wait {wait_s:.0f} s" if wait_s > LONGEST_WAIT_S else f"it was asked {ATTEMPTS} times"
        return Unanswered(
            [Problem(self.venue, f"does not answer ({_brief(error)}); {when}; run the same command later")]
        )


def _import_ccxt() -> Any:
    try:
        import ccxt
    except ImportError:
        raise UserError(
            f"calibrate data fetch needs ccxt, which is not installed; install it with: {INSTALL}"
        ) from None
    return ccxt


def _like(wish: str, offered: list[str]) -> str:
    near = difflib.get_close_matches(wish.upper(), [name.upper() for name in offered], n=4, cutoff=0.4)
    shown = [name for name in offered if name.upper() in near] or offered[:6]
    return f"for example {', '.join(shown)} (one of {len(offered)})" if len(offered) > len(shown) else ", ".join(shown)


def _brief(error: Exception) -> str:
    text = " ".join(str(error).split()) or "no reason given"
    shown = text if len(text) <= 160 else f"{text[:160]}..."
    return f"{type(error).__name__}: {shown}"
