"""What exchanges and vendors call the columns of a candle file, and which of them are ours.

Read as they stand: tables of ccxt, Binance's kline dumps with and without a line of names, CryptoDataDownload, Kaiko,
CoinAPI, CryptoCompare, and anything that uses the usual words.
"""

import re

from calibrate.data.table_file import TableFile
from calibrate.errors import Problem, UserError

PRICES = ("open", "high", "low", "close")
NAMES = ("ts", *PRICES, "volume")
TIME_NAMES = ("ts", "timestamp", "time", "open_time", "date", "datetime")
# The first that a file has is taken; numbers of Unix time stand before dates, which may lack a zone.
_ALIASES: dict[str, tuple[str, ...]] = {
    "ts": (
        *("ts", "unix", "unix_time", "unix_timestamp", "timestamp", "timestamp_ms", "time", "open_time", "opentime"),
        *("open_timestamp", "start", "start_time", "time_period_start", "candle_begin_time", "t"),
        *("datetime", "date_time", "datetime_utc", "timestamp_utc", "time_utc", "date_utc", "date"),
    ),
    **{name: (name, name[0], f"price_{name}", f"{name}_price") for name in PRICES},
    "volume": ("volume", "vol", "base_volume", "volume_base", "volume_traded", "volumefrom", "v"),
}
_QUOTES = {"usd", "usdt", "usdc", "busd", "tusd", "fdusd", "dai", "eur", "gbp", "jpy", "krw", "try", "quote"}
_CCXT = NAMES
_BINANCE = (
    *("ts", *PRICES, "volume", "close_time", "quote_volume", "trades"),
    *("taker_buy_volume", "taker_buy_quote_volume", "ignore"),
)
NAMELESS = {len(_CCXT): _CCXT, len(_BINANCE): _BINANCE}


def find_columns(file: TableFile) -> tuple[dict[str, str], list[str]]:
    """The file's own name of each column that we need, and what to call all that are to be read."""
    if file.dialect is not None and not file.dialect.has_names:
        if file.width not in NAMELESS:
            found = f"found {file.width} columns and no line that names them"
            expected = "expected names, or the 6 columns of ccxt or the 12 of Binance in their order"
            todo = f"name them in the first line of the file: {', '.join(NAMES)}"
            raise UserError([Problem(f"{file.path}: columns", f"{found}; {expected}; {todo}")])
        return {name: name for name in NAMES}, list(NAMELESS[file.width])
    own = {_plain(name): name for name in reversed(file.columns)}
    names = {name: own[alias] for name in NAMES for alias in reversed(_ALIASES[name]) if alias in own}
    if "volume" not in names and (volume := _named_by_currency(own)):
        names["volume"] = volume
    missing = [name for name in NAMES if name not in names]
    if missing:
        listed = ", ".join(file.columns[:12])
        expected = f"expected ts (or {', '.join(TIME_NAMES[1:])}), {', '.join(PRICES)}, volume"
        todo = "name them in the first line of the file"
        raise UserError(
            [Problem(f"{file.path}: columns", f"missing {', '.join(missing)}; found {listed}; {expected}; {todo}")]
        )
    return names, [names[name] for name in NAMES]


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def _named_by_currency(own: dict[str, str]) -> str | None:
    """`Volume BTC` and `Volume USDT` side by side: the volume in the base currency."""
    volumes = {
        plain.removeprefix("volume_"): name for plain, name in reversed(own.items()) if plain.startswith("volume_")
    }
    base = [name for currency, name in volumes.items() if currency not in _QUOTES]
    return next(iter([*base, *volumes.values()]), None)
