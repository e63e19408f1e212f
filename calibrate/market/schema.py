"""What a model file may say: the parts there are, and each part's parameters with the values that they may take.

Units are annual unless the name says otherwise; sizes of jumps are log-returns. `models/README.md` says what each number means.
"""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

MINUTES_PER_YEAR = 365 * 1440
# The engine draws at most one jump a step. At volatility three standard deviations above its median a minute must still
# see one rarely, or jumps would be lost.
MOST_JUMPS_PER_WILD_MINUTE = 0.1
# Variance that remembers longer has no long-run law that a path could start from.
MOST_PERSISTENT = 0.9995


class Range(NamedTuple):
    """The values that a parameter may take; the ends belong to it unless they are open."""

    low: float
    high: float
    open_low: bool = False
    open_high: bool = False

    def holds(self, value: float) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return above and below

    def __str__(self) -> str:
        low = "above" if self.open_low else "at least"
        high = "below" if self.open_high else "at most"
        return f"{low} {self.low:g} and {high} {self.high:g}"


Ranges = dict[str, Range]

POSITIVE_VOLATILITY = Range(0, 10, open_low=True)
SHARE = Range(0, 1)
CORRELATION = Range(-1, 1, open_low=True, open_high=True)
HALF_LIFE_DAYS = Range(1 / 24, 3650)
JUMPS_PER_YEAR = Range(0, 50_000)
MULTIPLIER = Range(0, 100, open_low=True)

VOLATILITIES: dict[str, Ranges] = {
    "constant": {"volatility": POSITIVE_VOLATILITY},
    "log-ou": {
        "volatility": POSITIVE_VOLATILITY,
        "log_volatility_sd": Range(0, 1.5),
        "reversion_half_life_days": HALF_LIFE_DAYS,
        "leverage_correlation": CORRELATION,
    },
    "log-ou-two-factor": {
        "volatility": POSITIVE_VOLATILITY,
        "fast_log_volatility_sd": Range(0, 1.5),
        "fast_half_life_days": HALF_LIFE_DAYS,
        "fast_leverage_correlation": CORRELATION,
        "slow_log_volatility_sd": Range(0, 1.5),
        "slow_half_life_days": HALF_LIFE_DAYS,
        "slow_leverage_correlation": CORRELATION,
    },
    "heston": {
        "volatility": POSITIVE_VOLATILITY,
        "reversion_half_life_days": HALF_LIFE_DAYS,
        "volatility_of_variance": Range(0, 100, open_low=True),
        "leverage_correlation": CORRELATION,
    },
    "garch": {
        "volatility": POSITIVE_VOLATILITY,
        "garch_alpha": SHARE,
        "garch_beta": SHARE,
        "degrees_of_freedom": Range(2, 1000, open_low=True),
        "bar_s": Range(1, 86_400),
    },
    "filtered-historical": {
        "volatility": POSITIVE_VOLATILITY,
        "garch_alpha": SHARE,
        "garch_gamma": SHARE,
        "garch_beta": SHARE,
        "bar_s": Range(1, 86_400),
        "block_bars": Range(1, 10_000),
    },
}
VOLATILITIES["gjr-garch"] = {"garch_gamma": SHARE} | VOLATILITIES["garch"]

# An upward mean of 1 has no expectation, and the engine's step loses accuracy well before, hence a half.
SIZES: dict[str, Ranges] = {
    "kou": {
        "jump_up_probability": SHARE,
        "jump_up_mean": Range(0, 0.5, open_high=True),
        "jump_down_mean": Range(0, 0.5, open_high=True),
    },
    "merton": {"jump_mean": Range(-1, 1), "jump_sd": Range(0, 1)},
}

ARRIVALS: dict[str, Ranges] = {
    "constant": {"jumps_per_year": JUMPS_PER_YEAR},
    "volatility-linked": {"jumps_per_year": JUMPS_PER_YEAR, "jump_volatility_exponent": Range(-5, 5)},
    "self-exciting": {
        "jumps_per_year": JUMPS_PER_YEAR,
        "jump_branching_ratio": Range(0, 0.95),
        "jump_memory_hours": Range(1 / 12, 8760),
    },
}

REGIMES: dict[str, Ranges] = {
    "calm-crash": {
        "crashes_per_year": Range(0, 10_000, open_low=True),
        "crash_hours": Range(1 / 12, 8760),
        "crash_volatility_multiplier": MULTIPLIER,
        "crash_jump_multiplier": MULTIPLIER,
        "crash_depth_multiplier": MULTIPLIER,
        "crash_oracle_delay_s": Range(0, 86_400),
    }
}

# The keys of [model], with what each may name.
KINDS: dict[str, dict[str, Ranges]] = {
    "family": VOLATILITIES,
    "jumps": SIZES,
    "arrival": ARRIVALS,
    "regimes": REGIMES,
}


class Parts(NamedTuple):
    """The parts of a model by name; None for one that it does without."""

    family: str
    jumps: str | None = None
    arrival: str | None = None
    regimes: str | None = None

    def ranges(self) -> Ranges:
        """All parameters of the model."""
        arrival = {} if self.arrival is None else ARRIVALS[self.arrival]
        sizes = {} if self.jumps is None else SIZES[self.jumps]
        regimes = {} if self.regimes is None else REGIMES[self.regimes]
        return VOLATILITIES[self.family] | arrival | sizes | regimes | {"drift": Range(-5, 5)}


# Families that name all their parts at once, as fits do.
WHOLE = {"log-ou-kou": Parts("log-ou", "kou", "volatility-linked")}
# What a fit can make, with the parameters that it makes.
FAMILIES: dict[str, Ranges] = {"log-ou-kou": WHOLE["log-ou-kou"].ranges(), "constant": Parts("constant").ranges()}


def jumps_per_wild_minute(parameters: Mapping[str, float]) -> float:
    """Expected jumps in a minute when volatility is three standard deviations from its median, on the jumpier side, and in a
    crash where there are crashes."""
    names = ("log_volatility_sd", "fast_log_volatility_sd", "slow_log_volatility_sd")
    sd = math.hypot(*(parameters.get(name, 0.0) for name in names))
    stretch = 3 * abs(parameters.get("jump_volatility_exponent", 0.0)) * sd
    most = max(1.0, parameters.get("crash_jump_multiplier", 1.0))
    return most * parameters["jumps_per_year"] / MINUTES_PER_YEAR * math.exp(stretch)


def joint_problems(parameters: Mapping[str, float]) -> list[tuple[str, str]]:
    """What is wrong with parameters that are each within their range: the key, and what was found, expected and can be done."""
    checks = (_too_many_jumps, _no_stationary_variance, _no_room_for_returns)
    return [problem for check in checks for problem in check(parameters)]


def _too_many_jumps(parameters: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    if "jumps_per_year" not in parameters or jumps_per_wild_minute(parameters) <= MOST_JUMPS_PER_WILD_MINUTE:
        return
    found = f"found {jumps_per_wild_minute(parameters):.3g} jumps in a minute of very high volatility (three "
    found += f"standard deviations); expected at most {MOST_JUMPS_PER_WILD_MINUTE:g}"
    others = ("jump_volatility_exponent", "log_volatility_sd", "crash_jump_multiplier")
    yield "jumps_per_year", f"{found}; lower it, {', '.join(name for name in others if name in parameters)}"


def _no_stationary_variance(parameters: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    if "garch_beta" not in parameters:
        return
    kept = parameters["garch_alpha"] + parameters["garch_beta"] + parameters.get("garch_gamma", 0.0) / 2
    if kept > MOST_PERSISTENT:
        sum_of = "garch_alpha + garch_beta" + (" + garch_gamma / 2" if "garch_gamma" in parameters else "")
        yield (
            "garch_beta",
            f"found {sum_of} = {kept:g}; expected at most {MOST_PERSISTENT:g}, or variance has no long-run law",
        )


def _no_room_for_returns(parameters: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    both = [parameters.get(f"{factor}_leverage_correlation", 0.0) for factor in ("fast", "slow")]
    if math.hypot(*both) >= 1:
        found = f"found {both[0]:g} and, slow, {both[1]:g}; expected their squares to sum to less than 1"
        yield "fast_leverage_correlation", f"{found}; move either towards 0"
