"""The two-cohort venue of docs/rules.md as one would write it without this package: NumPy, vectorised over paths.

What is simulated is stated once, in plain numbers, for this version and for the one in `baselines_numba.py`: log-OU volatility with
Kou's jumps, impact that fades, a push oracle, a margin that follows volatility, keepers who work for profit and look again, an
insurance fund. The numbers are read from the job's own keys and the model's file; of the package only the book is used, since how
a distribution is laid on knots is part of what is stated. `tests/test_baselines.py` holds both against the engine.
"""

import tomllib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from calibrate.assemble import assemble, model_path
from calibrate.job import LoadedJob

SECONDS_PER_YEAR = 365 * 86_400.0
BPS = 1e-4
# What is remembered of every path; `insolvent` is 1 where a loss exceeded the insurance fund.
OUTCOMES = ("bad_debt", "liquidated_share", "insolvent", "penalty", "slippage", "initial_margin")


class Setting(NamedTuple):
    """The world and the venue but for its policy. Years, shares of open interest, fractions of notional; delays in steps."""

    steps: int
    dt: float
    volatility: float
    log_volatility_sd: float
    reversion_per_year: float
    leverage_correlation: float
    jumps_per_year: float
    jump_volatility_exponent: float
    jump_up_probability: float
    jump_up_mean: float
    jump_down_mean: float
    drift: float
    depth: float
    depth_exponent: float
    crossover: float
    fast_weight: float
    slow_weight: float
    fast_time: float
    slow_time: float
    deviation: float
    heartbeat: float
    oracle_delay: int
    margin_horizon: float
    stressed_volatility: float
    allowance: float
    lowest: float
    highest: float
    keeper_delay: int
    gas: float
    half_spread: float
    fund: float
    reference_margin: float


class Candidate(NamedTuple):
    """A policy, and the level of volatility and depth in which it is tried."""

    base_margin: float
    volatility_multiplier: float
    penalty: float
    margin_floor: float
    initial_ratio: float
    keeper_share: float
    forecast_memory: float
    stress_weight: float = 0.0
    margin_rise: float = np.inf
    margin_fall: float = np.inf
    volatility_scale: float = 1.0
    depth_scale: float = 1.0


class Cohorts(NamedTuple):
    """Accounts by cohort: side, share of open interest, and on each cohort's knots of collateral the share of accounts below
    and the collateral that these put up."""

    side: np.ndarray  # cohort
    weight: np.ndarray  # cohort
    knots: np.ndarray  # cohort, knot
    shares: np.ndarray  # cohort, knot
    collateral: np.ndarray  # cohort, knot


class Stated(NamedTuple):
    """All that a job says."""

    setting: Setting
    cohorts: Cohorts
    incumbent: Candidate


def stated(loaded: LoadedJob) -> Stated:
    """What a job says, in the units of docs/rules.md."""
    job, book = loaded.job, assemble(loaded).scenario.book
    oracle, liquidity, venue, step_s = job.oracle, job.liquidity, job.venue, job.simulation.step_s
    if (oracle.kind, venue.keepers, venue.recheck, job.book.leverage) != ("push", "for-profit", True, "responds"):
        raise ValueError(
            f"{loaded.path}: the baselines know a push oracle, keepers for profit with re-check, and leverage that responds"
        )
    market = tomllib.loads(model_path(job.market.model, loaded).read_text(encoding="utf-8"))["parameters"]
    half_life_days = market.pop("reversion_half_life_days")
    oi = job.book.open_interest_usd
    setting = Setting(
        **market,
        steps=job.simulation.steps,
        dt=step_s / SECONDS_PER_YEAR,
        reversion_per_year=np.log(2) * 365 / half_life_days,
        depth=liquidity.depth_usd / oi,
        depth_exponent=liquidity.volatility_exponent,
        crossover=liquidity.crossover,
        fast_weight=liquidity.fast_share,
        slow_weight=liquidity.slow_share,
        fast_time=liquidity.fast_recovery_s / SECONDS_PER_YEAR,
        slow_time=liquidity.slow_recovery_s / SECONDS_PER_YEAR,
        deviation=oracle.deviation_bps * BPS,
        heartbeat=oracle.heartbeat_s / SECONDS_PER_YEAR,
        oracle_delay=round(oracle.delay_s / step_s),
        margin_horizon=venue.margin_horizon_minutes * 60 / SECONDS_PER_YEAR,
        stressed_volatility=venue.stressed_volatility or 0.0,
        allowance=venue.penalty_allowance,
        lowest=venue.lowest_margin_bps * BPS,
        highest=venue.highest_margin_bps * BPS,
        keeper_delay=round(venue.keeper_delay_s / step_s),
        gas=venue.gas_usd / job.book.position_usd,
        half_spread=liquidity.half_spread_bps * BPS,
        fund=venue.insurance_fund_usd / oi,
        reference_margin=float(book.reference_margin),
    )
    columns = (book.side, book.weight, book.density.knots, book.density.shares)
    return Stated(setting, cohorts_on(*(np.asarray(column, np.float64) for column in columns)), candidate_of(loaded))


def candidate_of(loaded: LoadedJob) -> Candidate:
    """The job's incumbent policy."""
    human = {name: choice.value for name, choice in loaded.job.policy.choices().items()}
    units = {"bps_per_hour": BPS * 365 * 24, "bps": BPS, "hours": 1 / (365 * 24)}
    values = {}
    for name, value in human.items():
        unit = next((unit for unit in units if name.endswith(f"_{unit}")), None)
        values[name.removesuffix(f"_{unit}")] = value * units.get(unit, 1.0)
    return Candidate(**values)


def cohorts_on(side: np.ndarray, weight: np.ndarray, knots: np.ndarray, shares: np.ndarray) -> Cohorts:
    """Cohorts whose accounts are spread evenly between knots."""
    between = np.diff(shares) * (knots[:, 1:] + knots[:, :-1]) / 2
    return Cohorts(side, weight, knots, shares, np.insert(np.cumsum(between, axis=1), 0, 0.0, axis=1))


# --- shocks and market ----------------------------------------------------------------------------------------------------

Shocks = Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]]


def drawn(rng: np.random.Generator, steps: int, paths: int) -> Shocks:
    """Two normals and a uniform, step by step."""
    for _ in range(steps):
        yield rng.standard_normal(paths), rng.standard_normal(paths), rng.random(paths)


class Market:
    """Undisturbed log-price, and log-volatility around its median; the latter also as it was before the last step."""

    def __init__(self, s: Setting, scale: float, normal: np.ndarray):
        self.s, self.scale = s, scale
        self.log_price = np.zeros_like(normal)
        self.log_volatility = self.before = s.log_volatility_sd * normal
        up, down, p = scale * s.jump_up_mean, scale * s.jump_down_mean, s.jump_up_probability
        self.mean_relative_jump = p * up / (1 - up) - (1 - p) * down / (1 + down)
        self.mean_square = 2 * (p * up**2 + (1 - p) * down**2)

    def variance_rate(self) -> np.ndarray:
        s, y = self.s, self.log_volatility
        jumps = s.jumps_per_year * np.exp(s.jump_volatility_exponent * y)
        return (self.scale * s.volatility * np.exp(y)) ** 2 + jumps * self.mean_square

    def step(self, z1: np.ndarray, z2: np.ndarray, u: np.ndarray) -> None:
        s, y, rho = self.s, self.log_volatility, self.s.leverage_correlation
        sigma = self.scale * s.volatility * np.exp(y)
        q = np.minimum(s.jumps_per_year * s.dt * np.exp(s.jump_volatility_exponent * y), 1.0)
        self.log_price = self.log_price + (s.drift - sigma**2 / 2) * s.dt - q * self.mean_relative_jump
        self.log_price += sigma * np.sqrt(s.dt) * (rho * z2 + np.sqrt(1 - rho**2) * z1)
        hit = np.flatnonzero(u < q)
        self.log_price[hit] += self.jump(u[hit] / q[hit])
        self.before = y
        spread = s.log_volatility_sd * np.sqrt(1 - np.exp(-2 * s.reversion_per_year * s.dt))
        self.log_volatility = np.exp(-s.reversion_per_year * s.dt) * y + spread * z2

    def jump(self, w: np.ndarray) -> np.ndarray:
        s, p = self.s, self.s.jump_up_probability
        up = w < p
        down_share = np.where(up, 1.0, (w - p) / (1 - p))
        size = np.where(up, -s.jump_up_mean * np.log(np.where(up, w / p, 1.0)), s.jump_down_mean * np.log(down_share))
        return self.scale * size


# --- the venue ------------------------------------------------------------------------------------------------------------


class Venue:
    """One candidate's venue along all paths of a market. Most steps close nothing: closes are worked out only for paths that
    have some."""

    def __init__(self, s: Setting, cohorts: Cohorts, candidate: Candidate, market: Market):
        self.s, self.c, self.book, self.market = s, candidate, cohorts, market
        zero = np.zeros_like(market.log_price)
        self.fast, self.slow, self.permanent = zero.copy(), zero.copy(), zero.copy()
        self.reports = [zero] * (s.oracle_delay + 1)
        self.age, self.seen = zero, zero
        self.variance = market.variance_rate()
        self.margin = self.formula()
        self.scale = candidate.initial_ratio * self.margin / s.reference_margin
        nobody = np.zeros((len(cohorts.side), zero.size))
        self.due = [nobody] * (s.keeper_delay + 1)
        self.level = cohorts.knots[:, :1] + nobody
        self.share = nobody.copy()
        self.fund = s.fund + zero
        self.sums = {name: zero.copy() for name in OUTCOMES}

    def formula(self) -> np.ndarray:
        s, c = self.s, self.c
        forecast = (1 - c.stress_weight) * np.sqrt(self.variance) + c.stress_weight * s.stressed_volatility
        margin = np.maximum(
            c.base_margin + c.volatility_multiplier * forecast * np.sqrt(s.margin_horizon), c.margin_floor
        )
        return np.clip(margin + s.allowance * c.penalty, s.lowest, s.highest)

    def step(self) -> None:
        s, c = self.s, self.c
        self.fast *= np.exp(-s.dt / s.fast_time)
        self.slow *= np.exp(-s.dt / s.slow_time)
        self.depth = c.depth_scale * s.depth * np.exp(-s.depth_exponent * self.market.before)
        self.flow = self.fast + self.slow + self.permanent
        log_price = self.market.log_price - displacement(s, self.flow, self.depth)
        self.price = np.exp(log_price)

        self.look(log_price)
        oracle = np.exp(self.seen)
        side = self.book.side[:, None]
        self.due = [*self.due[1:], (self.margin * oracle - side * (oracle - 1)) / self.scale]
        reach = np.maximum(self.level, np.minimum(self.due[0], self.due[-1]))
        some = np.flatnonzero((reach > self.level).any(axis=0))
        if some.size:
            self.close(some, reach[:, some])
        self.sums["initial_margin"] += c.initial_ratio * self.margin / s.steps

    def look(self, log_price: np.ndarray) -> None:
        """What the oracle shows, and the margin that follows from it."""
        s, c = self.s, self.c
        self.age = self.age + s.dt
        last = self.reports[-1]
        due = (np.abs(log_price - last) >= s.deviation) | (self.age >= s.heartbeat - s.dt / 2)
        self.age = np.where(due, 0.0, self.age)
        self.reports = [*self.reports[1:], np.where(due, log_price, last)]
        before, self.seen = self.seen, self.reports[0]
        weight = np.exp(-s.dt / c.forecast_memory)
        self.variance = weight * self.variance + (1 - weight) * (self.seen - before) ** 2 / s.dt
        fallen, risen = self.margin - c.margin_fall * s.dt, self.margin + c.margin_rise * s.dt
        self.margin = np.minimum(np.maximum(self.formula(), fallen), risen)

    def close(self, some: np.ndarray, reach: np.ndarray) -> None:
        """On some paths: close up to a level, as far as it pays, and book what that does."""
        s, c, book = self.s, self.c, self.book
        side, weight = book.side[:, None], book.weight[:, None]
        price, depth, flow, scale = self.price[some], self.depth[some], self.flow[some], self.scale[some]
        low, before = self.level[:, some], self.share[:, some]
        wanted = np.array([np.interp(*each) for each in zip(reach, book.knots, book.shares, strict=True)])
        asked = weight * (wanted - before) * price
        root, steepness = np.sqrt(s.crossover), steepness_of(s)
        profit = max(c.keeper_share * c.penalty - s.gas, 0.0)
        worthwhile = depth * ((profit / steepness + root) ** 2 - s.crossover)
        part = np.ones_like(wanted)
        for sign in (1.0, -1.0):
            room = np.maximum(worthwhile - sign * (self.fast + self.slow)[some], 0.0)
            volume = np.where(side == sign, asked, 0.0).sum(axis=0)
            with np.errstate(divide="ignore", invalid="ignore"):
                part[book.side == sign] = np.where(volume > room, room / volume, 1.0)
        share = np.where(part < 1, before + part * (wanted - before), wanted)
        held = np.array([np.interp(*each) for each in zip(share, book.shares, book.knots, strict=True)])
        level = np.where(part < 1, held, reach)
        newly = share - before

        net_share = (weight * side * newly).sum(axis=0)
        sold = net_share * price
        undisturbed = self.market.log_price[some]
        filled = np.exp(undisturbed - displacement(s, flow + sold / 2, depth)) * (1 - side * s.half_spread)
        cover, fee = -side * (filled - 1) / scale, c.penalty * filled / scale
        deficit = self.lacking(cover, low, level)
        penalty = (weight * scale * (fee * newly - self.lacking(cover + fee, low, level) + deficit)).sum(axis=0)
        bad_debt = (weight * scale * deficit).sum(axis=0)
        self.pay(some, bad_debt, (1 - c.keeper_share) * penalty)
        self.sums["penalty"][some] += penalty
        self.sums["liquidated_share"][some] += (weight * newly).sum(axis=0)
        pnl = (weight * side * (filled - 1) * newly).sum(axis=0)
        self.sums["slippage"][some] += net_share * (np.exp(undisturbed) - 1) - pnl

        self.level[:, some], self.share[:, some] = level, share
        self.fast[some] += s.fast_weight * sold
        self.slow[some] += s.slow_weight * sold
        self.permanent[some] += (1 - s.fast_weight - s.slow_weight) * sold

    def pay(self, some: np.ndarray, bad_debt: np.ndarray, income: np.ndarray | float) -> None:
        """The fund takes its income and pays what it can."""
        fund = self.fund[some] + income
        self.sums["insolvent"][some] = np.maximum(self.sums["insolvent"][some], bad_debt > fund)
        self.sums["bad_debt"][some] += bad_debt
        self.fund[some] = np.maximum(fund - bad_debt, 0.0)

    def lacking(self, strike: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """What the accounts between two levels lack to reach the strike, in all."""
        end = np.clip(strike, low, high)
        (share, collateral), (less_share, less_collateral) = self.below(end), self.below(low)
        return np.where(strike > low, strike * (share - less_share) - (collateral - less_collateral), 0.0)

    def below(self, level: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The share of each cohort's accounts below a level, and their collateral."""
        share, collateral = np.empty_like(level), np.empty_like(level)
        for k, (knots, shares, sums) in enumerate(zip(*self.book[2:], strict=True)):
            within = np.clip(level[k], knots[0], knots[-1])
            j = np.minimum(np.searchsorted(knots, within, side="right"), len(knots) - 1) - 1
            height = (shares[j + 1] - shares[j]) / (knots[j + 1] - knots[j])
            share[k] = shares[j] + height * (within - knots[j])
            collateral[k] = sums[j] + height * (within - knots[j]) * (within + knots[j]) / 2
        return share, collateral

    def finish(self) -> dict[str, np.ndarray]:
        """Open accounts are marked at the last price less the spread."""
        side, weight = self.book.side[:, None], self.book.weight[:, None]
        cover = -side * (self.price * (1 - side * self.s.half_spread) - 1) / self.scale
        deficit = self.lacking(cover, self.level, np.broadcast_to(self.book.knots[:, -1:], cover.shape))
        self.pay(np.arange(self.price.size), (weight * self.scale * deficit).sum(axis=0), 0.0)
        return self.sums


def displacement(s: Setting, flow: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """By how much the flow lowers the log-price."""
    return steepness_of(s) * np.sign(flow) * (np.sqrt(np.abs(flow) / depth + s.crossover) - np.sqrt(s.crossover))


def steepness_of(s: Setting) -> float:
    return 0.02 / (np.sqrt(1 + s.crossover) - np.sqrt(s.crossover))


# --- many paths -----------------------------------------------------------------------------------------------------------


def along(
    s: Setting, cohorts: Cohorts, candidates: list[Candidate], start: np.ndarray, shocks: Shocks
) -> list[dict[str, np.ndarray]]:
    """Every candidate along the same paths, from their shocks. Candidates in equally wild worlds share the market."""
    markets = {c.volatility_scale: Market(s, c.volatility_scale, start) for c in candidates}
    venues = [Venue(s, cohorts, c, markets[c.volatility_scale]) for c in candidates]
    for z1, z2, u in shocks:
        for market in markets.values():
            market.step(z1, z2, u)
        for venue in venues:
            venue.step()
    return [venue.finish() for venue in venues]


def simulate(
    said: Stated, candidates: list[Candidate], *, seed: int, paths: int, threads: int
) -> list[dict[str, np.ndarray]]:
    """The outcomes of every candidate, by name and path."""

    def run(rng: np.random.Generator, size: int) -> list[dict[str, np.ndarray]]:
        start, shocks = rng.standard_normal(size), drawn(rng, said.setting.steps, size)
        return along(said.setting, said.cohorts, candidates, start, shocks)

    pieces = in_chunks(run, seed, paths, threads)
    return [
        {name: np.concatenate([piece[k][name] for piece in pieces]) for name in OUTCOMES}
        for k in range(len(candidates))
    ]


def market_alone(s: Setting, *, seed: int, paths: int, threads: int) -> np.ndarray:
    """The last undisturbed log-price of every path."""

    def run(rng: np.random.Generator, size: int) -> np.ndarray:
        market = Market(s, 1.0, rng.standard_normal(size))
        for z1, z2, u in drawn(rng, s.steps, size):
            market.step(z1, z2, u)
        return market.log_price

    return np.concatenate(in_chunks(run, seed, paths, threads))


def shocks_alone(steps: int, *, seed: int, paths: int, threads: int) -> np.ndarray:
    """The sum of every path's shocks."""

    def run(rng: np.random.Generator, size: int) -> np.ndarray:
        return sum((z1 + z2 + u for z1, z2, u in drawn(rng, steps, size)), np.zeros(size))

    return np.concatenate(in_chunks(run, seed, paths, threads))


def in_chunks(run: Callable[[np.random.Generator, int], Any], seed: int, paths: int, threads: int) -> list[Any]:
    """Chunks small enough for the cache, each with its own stream of random numbers, spread over threads."""
    chunk = min(4096, -(-paths // threads))
    sizes = [min(chunk, paths - first) for first in range(0, paths, chunk)]
    rngs = [np.random.Generator(np.random.SFC64(child)) for child in np.random.SeedSequence(seed).spawn(len(sizes))]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(run, rngs, sizes))
