"""Round logs of a made feed whose parameters are known, for tests of what a fit finds in them."""

import numpy as np

from calibrate.data.rounds import Rounds
from calibrate.fits.feed import Feed, simulate_rounds

DAY_S = 86_400.0
YEAR_S = 365 * DAY_S


def volatility_by_day(days: int, rng: np.random.Generator, *, sd: float = 0.5) -> np.ndarray:
    """Annual volatility of each day: an autoregression in logarithms around 40 %."""
    logs = np.zeros(days)
    for day in range(1, days):
        logs[day] = 0.8 * logs[day - 1] + 0.6 * sd * rng.standard_normal()
    return 0.4 * np.exp(logs)


def made_log(
    feed: Feed, days: int, seed: int, *, delay_s: float, exponent: float = 0.0, volatility: np.ndarray | None = None
) -> tuple[Rounds, np.ndarray]:
    """A log, and the delay of a report at each look; delays are exponential with mean `delay_s` at a volatility of 40 %, and
    end with a block."""
    rng = np.random.default_rng(seed)
    daily = volatility_by_day(days, rng) if volatility is None else volatility
    looks = int(days * DAY_S / feed.look_s)
    of_look = daily[np.minimum((np.arange(looks) * feed.look_s / DAY_S).astype(int), days - 1)]
    path = np.log(2000.0) + np.cumsum(of_look * np.sqrt(feed.look_s / YEAR_S) * rng.standard_normal(looks))
    delays = delay_s * (of_look / 0.4) ** exponent * rng.exponential(size=looks)
    made = simulate_rounds(feed, path, delays, rng)
    follows = np.ones(len(made.seconds), bool)
    follows[0] = False
    seconds = 1_700_000_400.0 - 1_700_000_400.0 % 3600 + made.seconds
    return Rounds(seconds, np.exp(made.log_answer), follows, "made.csv", "0" * 64, ()), delays
