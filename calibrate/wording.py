"""How names and numbers read to people: on the page, in the figures and in a terminal.

Names are the keys of the run folder (`base_margin_bps`, `bad_debt_es_99`); here they become labels and units. Numbers
are rounded where their standard error says that digits stop to mean anything. Shares and probabilities are always
written in per cent, money in US dollars, and what is not known as "n/a".
"""

import math
import re
from collections.abc import Sequence

NOT_KNOWN = "n/a"
MINUS = "\N{MINUS SIGN}"
TIMES = "\N{MULTIPLICATION SIGN}"

ROLES = ("incumbent", "recommended", "best found")
UNITS = {"bps_per_hour": "bps per hour", "bps": "bps", "hours": "hours", "days": "days"}
PARAMETERS = {
    "penalty": "Liquidation penalty",
    "initial_ratio": "Initial / maintenance margin",
    "keeper_share": "Keepers' share of the penalty",
    "margin_floor": "Lowest maintenance margin",
    "forecast_memory": "Memory of the volatility forecast",
    "stress_weight": "Weight of stressed volatility",
    "margin_rise": "Fastest rise of the maintenance margin",
    "margin_fall": "Fastest fall of the maintenance margin",
    "volatility": "Usual volatility of the model",
    "log_volatility_sd": "Spread of log-volatility",
    "leverage_correlation": "Correlation of price and volatility",
    "oracle_deviation": "Oracle's deviation threshold",
}
METRICS = {
    "insolvency_probability": ("Insolvency probability", "Chance that losses exceed the insurance fund."),
    "account_insolvency_rate": (
        "Closed with negative equity",
        "Positions liquidated too late to cover their own loss.",
    ),
    "bad_debt": ("Bad debt", "Losses beyond the accounts' own collateral, on average."),
    "fund_draw": ("Paid by the insurance fund", "The part of bad debt that the fund covers, on average."),
    "socialised_loss": ("Loss shared by other users", "What remains once the fund is exhausted, on average."),
    "vault_draw": ("Paid by the backstop vault", "What the vault pays once the fund does not, on average."),
    "adl_loss": ("Lost by winners", "What users on the other side lose when they are deleveraged, on average."),
    "adl_rate": ("Auto-deleveraged", "Open interest of users on the other side that is closed for others' losses."),
    "withdrawals_stopped": ("Withdrawals stopped", "Share of the time that users cannot withdraw after a shared loss."),
    "topped_up": ("Topped up after a margin call", "Open interest whose owners add collateral when they are warned."),
    "open_deficit": ("Deficit still open at the end", "Bad debt of accounts that nobody had closed at the horizon."),
    "liquidated": ("Liquidated", "Open interest closed by liquidation, on average."),
    "liquidations": ("Liquidated", "Open interest closed by liquidation."),
    "user_cost": ("Cost to liquidated users", "Penalties and slippage paid by users who were liquidated."),
    "false_liquidation_rate": ("Liquidated needlessly", "Closed although they would have met maintenance at the end."),
    "margin_per_oi": ("Initial margin", "Average collateral that one dollar of open interest must post."),
    "max_leverage": ("Highest leverage", "Allowed at the initial margin, on average."),
    "margin_peak_to_trough": ("Margin, highest over lowest", "How much the requirement moves within the horizon."),
    "margin_rise": ("Largest rise of the margin", "Within the horizon: what a user may be asked to top up."),
    "margin_rise_1d": ("Largest rise within a day", "Of the initial margin, anywhere within the horizon."),
    "margin_rise_5d": ("Largest rise within 5 days", "Of the initial margin, anywhere within the horizon."),
    "margin_rise_30d": ("Largest rise within 30 days", "Of the initial margin, anywhere within the horizon."),
}
MULTIPLES = ("max_leverage", "margin_peak_to_trough")
NOT_OF_OPEN_INTEREST = ("insolvency_probability", "withdrawals_stopped", *MULTIPLES)
HAVE_TAILS = ("bad_debt", "fund_draw", "socialised_loss")
TAIL = re.compile(r"(?P<base>\w+?)_(?P<kind>var|es|at_risk)(_(?P<level>[\d.]+))?")


def parameter_name(key: str) -> str:
    """`base_margin_bps` -> `Base margin`, with or without the unit in the key. The name of an asset, in brackets, stays."""
    key, bracket, asset = key.partition(" [")
    stem = key.removesuffix(f"_{_unit_suffix(key)}")
    return PARAMETERS.get(stem, stem.replace("_", " ").capitalize()) + bracket + asset


def parameter_unit(key: str) -> str:
    """The unit that the key ends with, in words, or nothing."""
    return UNITS.get(_unit_suffix(key), "")


def _unit_suffix(key: str) -> str:
    return next((suffix for suffix in UNITS if key.endswith(f"_{suffix}")), "")


def role(label: str) -> str:
    """`Incumbent`; names that people gave stay as they were given."""
    return label.capitalize() if label in ROLES else label


def metric_name(key: str, *, short: bool = False) -> str:
    """`bad_debt_es_99` -> `Bad debt, mean of the worst 1 %`, or `Bad debt, worst 1 %` where room is short. The name
    of a scenario, in brackets, stays."""
    key, bracket, scenario = key.partition(" [")
    if bracket:
        return f"{metric_name(key, short=short)} [{scenario}"
    tail = TAIL.fullmatch(key)
    if not tail:
        name = METRICS[key][0] if key in METRICS else key.replace("_", " ").capitalize()
        return f"{name}, mean" if short and key in HAVE_TAILS else name
    name = metric_name(tail["base"])
    if tail["kind"] == "es":
        return f"{name}, {'' if short else 'mean of the '}{_worst(tail)}"
    return f"{name}, {tail['level']} % quantile" if tail["level"] else f"{name}, high quantile"


def metric_meaning(key: str) -> str:
    """One sentence for a reader who has not seen the metric before."""
    tail = TAIL.fullmatch(key)
    if not tail:
        return METRICS.get(key, ("", ""))[1]
    share = "average over" if tail["kind"] == "es" else "level exceeded only in"
    return f"The {share} the {_worst(tail)} of simulated outcomes."


def metric_family(key: str) -> str:
    """The key without the level of its tail: `bad_debt_es_99.9` -> `bad_debt_es`."""
    tail = TAIL.fullmatch(key)
    return f"{tail['base']}_{tail['kind']}" if tail else key


def _worst(tail: re.Match[str]) -> str:
    return f"worst {number(100 - float(tail['level']))} %" if tail["level"] else "worst part"


def metric_value(key: str, value: float, error: float = math.nan) -> str:
    """A metric in its own unit: nearly all are shares or probabilities, some are multiples."""
    return leverage(value, error) if key in MULTIPLES else percent(value, error)


def percent(share: float, error: float = math.nan) -> str:
    """A share or probability in per cent, with its standard error when there is one: `0.081 % ± 0.005 %`."""
    return _with_error(100 * share, 100 * error, "{} %")


def usd(amount: float, error: float = math.nan) -> str:
    """Dollars with thousands separators: `$16,200 ± $900`."""
    return _with_error(amount, error, "${}", most_places=2)


def number(value: float, error: float = math.nan) -> str:
    """A plain number to three significant digits, or as many as its error allows."""
    return _with_error(value, error, "{}")


def setting(value: float) -> str:
    """A parameter, to the four digits that a proposal has."""
    return _exact(value, 4, "{}") if math.isfinite(value) else NOT_KNOWN


def leverage(value: float, error: float = math.nan) -> str:
    return _with_error(value, error, "{}" + TIMES)


def count(value: float) -> str:
    return f"{value:,.0f}" if math.isfinite(value) else NOT_KNOWN


def signed(value: float) -> str:
    """The change of a setting, with a sign that is never lost: `+3.2`."""
    text = setting(value)
    return text if text == NOT_KNOWN or text == "0" or text.startswith(MINUS) else f"+{text}"


def relative_change(old: float, new: float) -> str:
    """From `old` to `new` in per cent, or as a multiple from twice upwards."""
    if not (math.isfinite(old) and math.isfinite(new)) or old <= 0:
        return "unchanged" if old == new else NOT_KNOWN
    ratio = new / old
    if ratio >= 2:
        return f"{number(ratio)}{TIMES} higher"
    change = 100 * (ratio - 1)
    if abs(change) < 0.05:
        return "unchanged"
    digits = 4 if -100 < change < -99 else 2  # -99.9 % is not -100 %
    sign = "+" if change > 0 else MINUS
    return f"{sign}{_fixed(abs(change), max(_places(change, digits), 0))} %"


def odds(probability: float) -> str:
    """`about 1 in 1,200`, for readers who do not think in per cent."""
    if not math.isfinite(probability) or probability <= 0:
        return NOT_KNOWN
    every = 1 / probability
    return f"about 1 in {float(f'{every:.2g}'):,.0f}"


def horizon(days: float) -> str:
    """`1 day`, `7 days`, `6 hours`."""
    amount, unit = (days, "day") if days >= 1 else (24 * days, "hour")
    return f"{number(amount)} {unit}" + ("" if amount == 1 else "s")


def lower(text: str) -> str:
    """To stand within a sentence."""
    return text[:1].lower() + text[1:]


def sentence(text: str) -> str:
    """With a capital letter and a full stop."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def together(parts: Sequence[str]) -> str:
    """`a, b and c`."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _with_error(value: float, error: float, pattern: str, *, most_places: int = 12) -> str:
    if not math.isfinite(value):
        return NOT_KNOWN
    if not (math.isfinite(error) and error > 0):
        return _exact(value, 3, pattern, most_places)
    sign = MINUS if value < 0 else ""
    places = min(_places(error, 1), most_places)
    return f"{sign}{pattern.format(_fixed(abs(value), places))} ± {pattern.format(_fixed(error, places))}"


def _exact(value: float, digits: int, pattern: str, most_places: int = 12) -> str:
    places = min(max(_places(value, digits), 0), most_places)
    return (MINUS if value < 0 else "") + pattern.format(_without_trailing_zeros(_fixed(abs(value), places)))


def _places(value: float, digits: int) -> int:
    """Decimals that show `digits` significant digits of `value`, one more for a lone leading 1; negative for tens."""
    if value == 0 or not math.isfinite(value):
        return 0
    exponent = math.floor(math.log10(abs(value)))
    lone_one = digits == 1 and abs(value) < 1.95 * 10.0**exponent
    return digits - 1 + lone_one - exponent


def _fixed(value: float, places: int) -> str:
    """`places` decimals with thousands separators; a power of ten where nobody would count the zeros."""
    if places > 9 and value > 0:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa} {TIMES} 10{_superscript(int(exponent))}"
    return f"{round(value, places):,.{max(places, 0)}f}"


def _without_trailing_zeros(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text and TIMES not in text else text


def _superscript(exponent: int) -> str:
    return str(exponent).translate(
        str.maketrans("-0123456789", "\u207b\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079")
    )
