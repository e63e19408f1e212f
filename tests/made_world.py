"""Round logs, quotes and accounts of made worlds whose parameters are known, for tests of what fits find in them."""

import numpy as np

from calibrate.data.borrowers import Holdings
from calibrate.data.quotes import Quotes
from calibrate.data.rounds import Rounds
from calibrate.fits.depth import cost
from calibrate.fits.feed import Feed, simulate_rounds

DAY_S = 86_400.0
YEAR_S = 365 * DAY_S
BATCHES, A_BATCH = 40, 20
PARTS = ((0.4, 0.5, 0.5), (0.6, 4.0, 0.6))  # of a made book: weight, median excess, spread


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


def made_quotes(seed: int, *, depth: float, crossover: float, half_spread: float, largest: float = 1e8) -> Quotes:
    """Quotes of a market that is known, off by 5 % each and by 1 bps that a whole batch shares."""
    draw = np.random.default_rng(seed)
    batch = np.repeat(np.arange(BATCHES), A_BATCH)
    size = np.exp(draw.uniform(np.log(1e3), np.log(largest), len(batch)))
    true = cost(size, depth, crossover, half_spread)
    quoted = true * np.exp(0.05 * draw.standard_normal(len(size))) + 1e-4 * draw.standard_normal(BATCHES)[batch]
    return Quotes(size, np.maximum(-np.expm1(-quoted), 0.0), batch, "A/USD", None, "made.csv", "0" * 64, ())


def made_book(seed: int, number: int = 4000, *, sides: tuple[int, ...] = (1,)) -> Holdings:
    """Accounts of lognormal size whose excess has two parts, whatever their size."""
    draw = np.random.default_rng(seed)
    second = draw.uniform(size=number) < PARTS[1][0]
    median, spread = (np.where(second, PARTS[1][k], PARTS[0][k]) for k in (1, 2))
    excess = median * np.exp(spread * draw.standard_normal(number))
    maintenance = np.where(draw.uniform(size=number) < 0.5, 0.02, 0.05)
    notional = np.exp(draw.normal(9, 0.8, number))
    side = draw.choice(sides, number)
    return Holdings(side, notional, maintenance * (1 + excess), maintenance, "made.csv", "0" * 64, ())
