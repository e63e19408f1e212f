"""The venue of docs/rules.md, account by account, in plain NumPy: the second opinion that the engine is held against.

Nothing here is fast or clever. One path is followed at a time, one step at a time; every account keeps its own
collateral, its own record of when it was liquidatable and its own open share. There are no distribution functions and
no integrals over accounts, so an error in the engine's closed forms cannot be repeated here. The section numbers in
the comments are those of docs/rules.md.

    Rules, Accounts   what a caller sets
    simulate          all paths; one number per path for every outcome
    follow_path       one path, step by step: market, price, oracle, margin, trigger, keepers, settlement
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from brute_force_pipe import Feed, Now, Occurrence, SourceRule, events_at, mark_of

SUMS = (
    "liquidated",
    "insolvent_share",
    "collateral_closed",
    "pnl_closed",
    "slippage",
    "penalty",
    "keeper_income",
    "fund_income",
    "returned",
    "bad_debt",
    "open_deficit",
    "fund_draw",
    "vault_draw",
    "adl_loss",
    "adl_rate",
    "socialised_loss",
    "stopped_years",
)
NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Every number that docs/rules.md names: times in years, money as a share of open interest, rates of notional."""

    step_years: float
    # 1. Market
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
    scale: float = 1.0
    initial_log_volatility: float | None = None  # y_0 itself; None draws it from the stationary law
    # 2. Liquidity
    depth: float
    depth_exponent: float
    crossover: float
    flow_weights: tuple[float, float, float]
    flow_times_years: tuple[float, float, float]
    # 3. Oracle
    oracle: str  # "exact", "push" or "continuous"
    deviation: float
    heartbeat_years: float
    oracle_delay_steps: int
    heartbeat_restarts: bool = True
    oracle_delay_exponent: float = 0.0
    longest_oracle_delay_steps: int | None = None  # None: no limit
    # 4. Margin
    memory_years: float
    horizon_of_margin_years: float
    base: float
    multiplier: float
    floor: float
    lowest: float
    highest: float
    allowance: float
    initial_ratio: float
    stress_weight: float = 0.0
    stressed_volatility: float = 0.0
    rise_per_year: float = math.inf
    fall_per_year: float = math.inf
    # 6. Keepers
    keeper_delay_steps: int
    recheck: bool
    unlimited_keepers: bool
    # 7. Close
    penalty: float
    keeper_share: float
    gas: float
    half_spread: float
    fund: float
    # 5. Trigger: what is asked for beside the margin, at which price; margin calls
    trigger_extra: float = 0.0
    trigger_at_market: bool = False
    warning: float = 0.0
    top_up: float = 0.0
    response_steps: int = 0
    # 6. Close rule: "full", "fraction" (of what is left), "target" (health) or "buffer" (of notional, in parts that grow)
    close: str = "full"
    close_fraction: float = 1.0
    close_target: float = math.inf
    close_buffer: float = 0.0
    close_initial: float = 1.0
    close_ramp_steps: float = math.inf
    batch_steps: int = 1  # liquidations are done every so many steps
    dust: float = 0.0  # the least that may be left of a position, as a part of a mean one
    full_below: float = 0.0
    cooldown_steps: int = 0
    close_cap: float = math.inf  # what may be closed at once, of all accounts, and how fast that grows back
    close_cap_refill_per_year: float = 0.0
    # 6. Incentives: reward of keepers, gas under congestion, a penalty that grows as health falls, who fills at which price
    reward_floor: float = 0.0
    reward_cap: float = math.inf
    gas_exponent: float = 0.0
    bonus_highest: float = 0.0
    bonus_lowest_part: float | None = (
        None  # from which part of the penalty on it rises, in the place of `bonus_highest`
    )
    bonus_from: float = 1.0
    bonus_to: float = 0.0
    bonus_per_health: float | None = None  # by how much for each unit of health, in the place of `bonus_to`
    bonus_lending: bool = False  # health is the most debt over the debt
    fill: str = "market"  # "market", "oracle" (a takeover) or "limit" (the venue's own order)
    limit: float = 0.0
    # 9. Auction: log-price asked over the oracle's at the start of an offer, by its age in steps; what may be on offer at a time
    auction: tuple[float, ...] = ()
    auction_most: float = math.inf
    # 7. Backstop: what the fund pays at once and how fast that comes back, a vault, whether winners are deleveraged
    fund_cap: float = math.inf
    fund_cap_refill_per_year: float = 0.0
    vault: float = 0.0
    deleverages: bool = False
    deleverages_by_rank: bool = False
    deleverages_at_mark: bool = False
    gate_years: float = 0.0  # for how long nobody may withdraw after others had to bear a loss
    # 10. Events; sources, averages and clamps of the oracle; guards (None: none); parts of a mark price
    events: tuple[Occurrence, ...] = ()
    sources: tuple[SourceRule, ...] = ()
    quorum: int = 1
    by_mean: bool = False
    twap_steps: int = 0
    ema_weight: float = 0.0
    clamp: float = math.inf
    stale_after_steps: int | None = None
    stale_falls_back: bool = False
    widest_gap: float = math.inf
    mark: tuple[str, ...] = ()
    mark_weight: float = 0.0
    band: float = (
        0.0  # how far a band's ends are from the price, what of the sources' quartiles comes on top, which end counts
    )
    band_exponent: float = 0.0
    band_of_sources: float = 0.0
    band_end: str | None = None  # "worse" or "better"
    widest_from_average: float = math.inf  # of the oracle's own average, and what that takes over in a step
    average_weight: float = 0.0
    # 8. Windows within which rises of the margin are watched: their names and steps
    rise_windows: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Accounts:
    """One entry per account: side (+1 long, -1 short), c, share of open interest, cohort number.

    If the accounts respond, each path multiplies every c by its initial requirement at step 0 over `reference_margin`.
    """

    side: np.ndarray
    collateral: np.ndarray
    weight: np.ndarray
    cohort: np.ndarray
    responds: bool = False
    reference_margin: float | np.ndarray = 1.0
    # Size of the position as the margin sees it, account by account, and how far open interest raises what opening takes.
    factor: float | np.ndarray = 1.0
    floor_part: float | np.ndarray = 1.0
    add_on: float | np.ndarray = 0.0
    opened: float = 0.0
    # Each position's size over the mean one's.
    size: float | np.ndarray = 1.0

    def maintenance(self, margin: float) -> np.ndarray:
        by_tier = np.broadcast_to(self.factor * margin, self.side.shape)
        return np.maximum(by_tier, self.floor_part * by_tier + self.add_on)

    def initial(self, margin: float, ratio: float) -> np.ndarray:
        required = ratio * self.maintenance(margin)
        return required + self.opened * np.maximum(1.0 - required, 0.0)


def simulate(
    rules: Rules,
    accounts: Accounts,
    z0: np.ndarray,
    z1: np.ndarray,
    z2: np.ndarray,
    u: np.ndarray,
    u_low: np.ndarray | None = None,
    u_high: np.ndarray | None = None,
    *,
    event_u: np.ndarray | None = None,
    source_z: np.ndarray | None = None,
    source_u: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Outcomes by name, one entry per path. `z0` is [path]; the other random numbers are [step, path], of events [event, path] and
    of sources [step, source, path]."""
    if rules.oracle not in ("exact", "push", "continuous"):
        raise ValueError(f"oracle is {rules.oracle!r}; expected 'exact', 'push' or 'continuous'")
    if rules.oracle == "continuous" and (u_low is None or u_high is None):
        raise ValueError("a continuous oracle needs u_low and u_high")
    steps = {"z1": z1, "z2": z2, "u": u, "u_low": u_low, "u_high": u_high}
    steps |= {"event_u": event_u, "source_z": source_z, "source_u": source_u}
    outcomes = []
    for path in range(len(z0)):
        of_path = {name: None if array is None else array[..., path] for name, array in steps.items()}
        outcomes.append(follow_path(rules, accounts, Draws(z0=float(z0[path]), **of_path)))
    return {name: np.array([outcome[name] for outcome in outcomes]) for name in outcomes[0]}


class Draws(NamedTuple):
    """The random numbers of one path: `z0` for the start, the others one per step."""

    z0: float
    z1: np.ndarray
    z2: np.ndarray
    u: np.ndarray
    u_low: np.ndarray | None
    u_high: np.ndarray | None
    event_u: np.ndarray | None
    source_z: np.ndarray | None
    source_u: np.ndarray | None

    def of_sources(self, t: int) -> tuple[np.ndarray | None, np.ndarray | None]:
        normals, uniforms = (None if drawn is None else drawn[t - 1] for drawn in (self.source_z, self.source_u))
        return normals, uniforms


def follow_path(rules: Rules, accounts: Accounts, draws: Draws) -> dict[str, float | bool]:
    """One path from start to horizon, in the order of docs/rules.md."""
    market = Market(rules, draws.z0)
    liquidity = Liquidity(rules)
    oracle = Oracle(rules)
    margin = Margin(rules, market.log_volatility, accounts)
    book = Book(accounts, steps=len(draws.z1), requirement=accounts.initial(margin.maintenance, rules.initial_ratio))
    ledger = Ledger(rules)
    allowance, basis = rules.close_cap, 0.0
    for t in range(1, len(draws.z1) + 1):
        now = events_at(rules.events, draws.event_u, t)
        log_volatility = market.log_volatility
        depth = rules.depth * math.exp(-rules.depth_exponent * log_volatility) * now.depth
        market.move(draws.z1[t - 1], draws.z2[t - 1], draws.u[t - 1], now.jump)
        liquidity.decay()
        displacement = liquidity.displacement(depth)
        log_price = market.log_price - displacement

        oracle.look(log_price, log_volatility, now, *draws.of_sources(t))
        ledger.mark_price = math.exp(oracle.seen)
        margin.update(oracle.seen - oracle.seen_before)
        low = high = oracle.seen
        if rules.oracle == "continuous":
            low, high = extremes(market, displacement, draws.u_low[t - 1], draws.u_high[t - 1])
            low, high = (oracle.seen,) * 2 if now.frozen else (low + now.displaced, high + now.displaced)
        low, high, basis, paused = judged(rules, oracle, log_price, basis, low, high)
        required = book.maintenance(margin.maintenance)
        if rules.trigger_at_market:
            low = high = log_price
        book.call(t, rules, required, low=low, high=high)
        book.mark_liquidatable(t, required + rules.trigger_extra, low=low, high=high)

        price = math.exp(log_price)
        eligible = book.may_be_closed(t, rules.keeper_delay_steps, rules.recheck) & (t % rules.batch_steps == 0)
        eligible &= not (paused or now.away)
        if rules.auction:
            book.offer(t, rules, eligible, price, oracle.seen)
            asked = book.top + book.side * np.array(rules.auction)[np.where(book.offered, t - book.offered_at, 0)]
            worth = {
                side: side * (market.log_price - asked) - rules.half_spread - now.gas * gas_at(rules, log_volatility)
                for side in (1, -1)
            }
            takers = () if paused or now.away else (1, -1)
            closed = sum(
                (taken(book, side, liquidity.sold_at(side, depth, worth[side]), price) for side in takers),
                np.zeros_like(book.open_share),
            )
            whole = np.ones_like(closed)
            net_sold = float(np.sum(book.side * closed)) * price
            taken_over = ledger.settle(
                book, closed, np.exp(asked), whole * rules.penalty, whole, undisturbed=math.exp(market.log_price)
            )
            liquidity.absorb(net_sold - taken_over * price)
            ledger.pass_time(t)
            continue
        taken_at = math.exp(oracle.seen) if rules.fill == "oracle" else None
        before = closing_prices(rules, book, price, taken_at)
        rates = penalty_rates(rules, book, math.exp(oracle.seen), required)
        allowed = np.zeros_like(rates)
        for side, rate in {(side, rate) for side, rate in zip(book.side[eligible], rates[eligible], strict=True)}:
            worth = worth_while(rules, rate, log_volatility, side * (log_price - oracle.seen), now.gas)
            allowed[(book.side == side) & (rates == rate)] = liquidity.allowed(side, depth, worth)
        parts = parts_to_close(rules, book, before, required, rates, t)
        allowance = min(allowance + rules.close_cap_refill_per_year * rules.step_years, rules.close_cap)
        closed = book.choose(eligible, price, rates, allowed, parts, allowance)
        allowance -= float(closed.sum()) * price
        net_sold = float(np.sum(book.side * closed)) * price
        filled = price * math.exp(displacement - liquidity.displacement(depth, added=net_sold / 2))
        settled = closing_prices(rules, book, filled, taken_at)
        taken_over = ledger.settle(book, closed, settled, rates, parts, undisturbed=math.exp(market.log_price))
        freed = settled * (required + rules.close_buffer - rates)
        book.touched(closed, parts, freed, t, rules.cooldown_steps)
        liquidity.absorb(net_sold - taken_over * price)
        ledger.pass_time(t)
    ledger.mark_open(book, price)
    return ledger.outcome() | margin.outcome() | fate(book, margin, oracle) | {"final_log_price": log_price}


def taken(book: Book, side: int, room: np.ndarray, price: float) -> np.ndarray:
    """9. What is taken of each account on offer. The market sinks from offer to offer, the least worth taking first; whoever can
    still be sold there shares in the flow."""
    there = book.offered & (book.side == side) & (book.open_share > 0.0)
    part, flow = 0.0, 0.0
    closed = np.zeros_like(book.open_share)
    for start in sorted(set(book.offered_at[there]), key=lambda start: room[there & (book.offered_at == start)][0]):
        offer = there & (book.offered_at == start)
        worth_more = there & (room >= room[offer][0])
        part += (room[offer][0] - flow) / (float(book.open_share[worth_more].sum()) * price)
        flow = room[offer][0]
        closed[offer] = min(part, 1.0) * book.open_share[offer]
    book.open_share -= closed
    book.closed += closed
    book.closed_of_all += closed / np.maximum(book.left, 1e-300)
    return closed


def gas_at(rules: Rules, log_volatility: float) -> float:
    return rules.gas * math.exp(rules.gas_exponent * max(log_volatility, 0.0))


def judged(
    rules: Rules, oracle: Oracle, market: float, basis: float, low: float, high: float
) -> tuple[float, float, float, bool]:
    """10. The log-prices at which longs and shorts are judged, the average basis, and whether nobody may be closed."""
    stale = rules.stale_after_steps is not None and oracle.report_age_steps() > rules.stale_after_steps
    shown, off = oracle.seen, abs(math.exp(oracle.seen) / math.exp(oracle.was) - 1.0) >= rules.widest_from_average
    if rules.band_end is not None:
        outward = oracle.half_band if rules.band_end == "worse" else -oracle.half_band
        low, high = low - outward, high + outward
    if stale and rules.stale_falls_back:
        low = high = shown = market
        off = False
    paused = (stale and not rules.stale_falls_back) or off
    paused |= abs(shown - market) > rules.widest_gap
    if rules.mark:
        basis += rules.mark_weight * (market - shown - basis)
        low = high = mark_of(rules.mark, shown, basis, market, oracle.feed.price)
    return low, high, basis, paused


def fate(book: Book, margin: Margin, oracle: Oracle) -> dict[str, float]:
    """8. What became of the closed accounts, and which of them would have met maintenance at the end."""
    price = math.exp(oracle.seen)
    sound = book.first_collateral + book.side * (price - 1.0) >= book.maintenance(margin.maintenance) * price
    # As if nobody had been deleveraged or had topped up.
    shares = {"liquidated_share": float(book.closed.sum()), "topped_up": book.topped_up}
    return shares | {"false_liquidation": float(book.closed_of_all[sound].sum())}


def closing_prices(rules: Rules, book: Book, price: float, taken_at: float | None) -> np.ndarray:
    """7. At which price each account is closed: the market's less the spread, or that at which it is taken over."""
    if taken_at is not None:
        return np.full(book.side.size, taken_at)
    return price * (1.0 - book.side * rules.half_spread)


def penalty_rates(rules: Rules, book: Book, seen: float, required: np.ndarray) -> np.ndarray:
    """7. The penalty of each account per unit of notional: it may grow as health falls, at the oracle price."""
    lowest, highest = rules.penalty, max(rules.bonus_highest, rules.penalty)
    if rules.bonus_lowest_part is not None:
        lowest, highest = rules.bonus_lowest_part * rules.penalty, rules.penalty
    starts, ends = rules.bonus_from, rules.bonus_to
    if rules.bonus_per_health is not None:
        ends = starts - (highest - lowest) / rules.bonus_per_health
    equity = (book.collateral + book.side * (seen - 1.0)) / seen
    if rules.bonus_lending:
        # A debt of T / h against collateral worth 1, whose threshold is T.
        starts, ends = ((1.0 - (1.0 - required) / health) for health in (starts, ends))
    else:
        starts, ends = starts * required, ends * required
    return lowest + (highest - lowest) * np.clip((starts - equity) / (starts - ends), 0.0, 1.0)


def worth_while(rules: Rules, penalty: float, log_volatility: float, ahead: float, gas: float) -> float:
    """6. By how much closes may move the price; `ahead` is how much better the market is for the close than the oracle."""
    if rules.fill == "limit":
        return rules.limit + ahead
    reward = min(max(rules.keeper_share * penalty, rules.reward_floor), rules.reward_cap)
    profit = reward - gas * gas_at(rules, log_volatility)
    return profit - rules.half_spread + ahead if rules.fill == "oracle" else profit


def parts_to_close(
    rules: Rules, book: Book, closing_price: np.ndarray, required: np.ndarray, rates: np.ndarray, t: int
) -> np.ndarray:
    """6. Which part of what is left of each account keepers close, at the price before their closes."""
    parts = parts_by_health(rules, book, closing_price, required, rates, t)
    left = book.size * book.open_share / book.weight * (1.0 - parts) * closing_price
    return np.where(left < rules.dust, 1.0, parts)


def parts_by_health(
    rules: Rules, book: Book, closing_price: np.ndarray, required: np.ndarray, rates: np.ndarray, t: int
) -> np.ndarray:
    """6. The same, however little is left."""
    if rules.close == "full":
        return np.ones_like(book.side)
    health = (book.collateral + book.side * (closing_price - 1.0)) / closing_price
    in_full = health < np.maximum(rates, rules.full_below * required)
    if rules.close == "fraction":
        return np.where(in_full, 1.0, rules.close_fraction)
    if rules.close == "buffer":
        aim = required + rules.close_buffer
        part = np.minimum(rules.close_initial + (t - np.minimum(book.first_touched, t)) / rules.close_ramp_steps, 1.0)
        freed = book.freed / np.maximum(book.open_share, 1e-300) / closing_price
        asked = part * (aim - health + freed) - freed
        return np.where(in_full, 1.0, np.clip(asked / (aim - rates), 0.0, 1.0))
    aim = rules.close_target * required
    return np.where(in_full, 1.0, np.clip((aim - health) / np.where(in_full, 1.0, aim - rates), 0.0, 1.0))


class Market:
    """1. The undisturbed market. After a step, `sigma`, `jump` and `log_price_before` describe that step."""

    def __init__(self, rules: Rules, z0: float):
        self.rules = rules
        stationary = rules.initial_log_volatility is None
        self.log_volatility = rules.log_volatility_sd * z0 if stationary else rules.initial_log_volatility
        self.log_price = 0.0
        self.log_price_before = 0.0
        self.sigma = 0.0
        self.jump = 0.0

    def move(self, z1: float, z2: float, u: float, jump: float = 0.0) -> None:
        rules, dt, y = self.rules, self.rules.step_years, self.log_volatility
        self.sigma = rules.scale * rules.volatility * math.exp(y)
        jump_probability = min(rules.jumps_per_year * math.exp(rules.jump_volatility_exponent * y) * dt, 1.0)
        self.jump = self.jump_size(u, jump_probability)
        rho = rules.leverage_correlation
        diffusion = self.sigma * math.sqrt(dt) * (rho * z2 + math.sqrt(1.0 - rho**2) * z1)
        compensated_drift = (rules.drift - self.sigma**2 / 2.0) * dt - jump_probability * self.mean_relative_jump()
        self.log_price_before = self.log_price
        self.jump += jump
        self.log_price += compensated_drift + diffusion + self.jump
        k = rules.reversion_per_year
        self.log_volatility = (
            math.exp(-k * dt) * y + rules.log_volatility_sd * math.sqrt(1.0 - math.exp(-2.0 * k * dt)) * z2
        )

    def jump_size(self, u: float, probability: float) -> float:
        rules = self.rules
        if u >= probability:
            return 0.0
        w, p_up = u / probability, rules.jump_up_probability
        if w < p_up:
            return -rules.scale * rules.jump_up_mean * math.log(w / p_up)
        return rules.scale * rules.jump_down_mean * math.log((w - p_up) / (1.0 - p_up))

    def mean_relative_jump(self) -> float:
        rules = self.rules
        a, b, p_up = rules.scale * rules.jump_up_mean, rules.scale * rules.jump_down_mean, rules.jump_up_probability
        return p_up * a / (1.0 - a) - (1.0 - p_up) * b / (1.0 + b)


class Liquidity:
    """2. Liquidation flow not yet absorbed, what it does to the price, and what it leaves keepers room for (6)."""

    def __init__(self, rules: Rules):
        self.rules = rules
        self.parts = [0.0, 0.0, 0.0]
        self.root = math.sqrt(rules.crossover)
        self.prefactor = 0.02 / (math.sqrt(1.0 + rules.crossover) - self.root)

    def decay(self) -> None:
        dt, times = self.rules.step_years, self.rules.flow_times_years
        self.parts = [part * math.exp(-dt / tau) for part, tau in zip(self.parts, times, strict=True)]

    def displacement(self, depth: float, added: float = 0.0) -> float:
        """By how much the flow, and what is added to it, lowers the log-price."""
        flow = sum(self.parts) + added
        impact = self.prefactor * (math.sqrt(abs(flow) / depth + self.rules.crossover) - self.root)
        return math.copysign(impact, flow)

    def allowed(self, side: int, depth: float, profit: float) -> float:
        """What a side may close this step, as a share of open interest at the market price."""
        rules = self.rules
        if rules.unlimited_keepers:
            return math.inf
        worthwhile = depth * ((max(profit, 0.0) / self.prefactor + self.root) ** 2 - rules.crossover)
        fast, slow, _ = self.parts
        return max(worthwhile - side * (fast + slow), 0.0)

    def sold_at(self, side: int, depth: float, worth: np.ndarray) -> np.ndarray:
        """9. What a side may sell until the market's price, less its displacement, is worth no more; by account."""
        moved = np.abs(worth) / self.prefactor + self.root
        flow = np.copysign(depth * (moved**2 - self.rules.crossover), worth)
        return np.maximum(flow - side * sum(self.parts), 0.0)

    def absorb(self, net_sold: float) -> None:
        self.parts = [part + f * net_sold for part, f in zip(self.parts, self.rules.flow_weights, strict=True)]


class Oracle:
    """3. What the venue sees, `seen` at this step and `seen_before` at the one before."""

    def __init__(self, rules: Rules):
        self.rules = rules
        self.reports = [0.0]
        self.age_steps = 0
        self.beats = 0
        self.newest = 0
        self.seen = 0.0
        self.seen_before = 0.0
        self.feed = Feed(
            rules.sources, quorum=rules.quorum, by_mean=rules.by_mean, twap=rules.twap_steps, ema=rules.ema_weight
        )
        self.made = [0]
        self.half_band = 0.0
        self.average = 0.0
        self.was = 0.0

    def look(
        self,
        log_price: float,
        log_volatility: float,
        now: Now,
        normals: np.ndarray | None = None,
        uniforms: np.ndarray | None = None,
    ) -> None:
        self.seen_before = self.seen
        shown, fresh = self.feed.look(log_price, now, normals, uniforms)
        fresh = fresh and not now.frozen
        last, self.fresh = self.reports[-1], fresh
        report, most = self.next_report(shown), self.rules.clamp
        self.made.append(len(self.reports) if self.fresh else self.made[-1])
        self.reports.append(report if abs(report - last) <= most else last + math.copysign(most, report - last))
        arrived = len(self.reports) - 1 - self.delay_steps(log_volatility)
        self.newest = max(self.newest, arrived)
        self.seen = self.reports[self.newest]
        self.half_band = self.rules.band * math.exp(self.rules.band_exponent * log_volatility)
        self.half_band += self.rules.band_of_sources * self.feed.apart
        self.was = self.average
        self.average += self.rules.average_weight * (self.seen - self.average)

    def delay_steps(self, log_volatility: float) -> int:
        rules = self.rules
        if rules.oracle == "continuous":
            return 0
        grown = math.floor(rules.oracle_delay_steps * math.exp(rules.oracle_delay_exponent * log_volatility) + 0.5)
        longest = rules.longest_oracle_delay_steps
        return grown if longest is None else min(grown, longest)

    def report_age_steps(self) -> int:
        """How many steps ago the report was made that is seen now."""
        return len(self.reports) - 1 - self.made[self.newest]

    def next_report(self, log_price: float) -> float:
        """What is reported; `fresh` says before whether there may be a report, and after whether there was one."""
        rules = self.rules
        if rules.oracle != "push":
            return log_price if self.fresh else self.reports[-1]
        self.age_steps += 1
        self.fresh &= self.beat() | (abs(log_price - self.reports[-1]) >= rules.deviation)
        if not self.fresh:
            return self.reports[-1]
        if rules.heartbeat_restarts:
            self.age_steps = 0
        return log_price

    def beat(self) -> bool:
        """Whether the heartbeat has run out. A clock counts its beats from the start, to the nearest step."""
        steps = self.rules.heartbeat_years / self.rules.step_years
        if self.rules.heartbeat_restarts:
            # A heartbeat of a whole number of steps must not be missed by a rounding error in step_years.
            return self.age_steps >= steps * (1.0 - 1e-9)
        if self.age_steps + 0.5 < (self.beats + 1) * steps:
            return False
        self.beats += 1
        return True


def extremes(market: Market, displacement: float, u_low: float, u_high: float) -> tuple[float, float]:
    """3. Lowest and highest log-price within the step: of the Brownian bridge before the jump, or at the step's end."""
    start = market.log_price_before - displacement
    end = market.log_price - market.jump - displacement
    after_jump = market.log_price - displacement
    twice_variance = 2.0 * market.sigma**2 * market.rules.step_years
    low = (start + end - math.sqrt((end - start) ** 2 - twice_variance * math.log(u_low))) / 2.0
    high = (start + end + math.sqrt((end - start) ** 2 - twice_variance * math.log(u_high))) / 2.0
    return min(low, after_jump), max(high, after_jump)


class Margin:
    """4. The margin formula: `maintenance` is m_t, `requirements` holds the average initial requirement from step 1 on."""

    def __init__(self, rules: Rules, log_volatility: float, accounts: Accounts):
        self.rules = rules
        self.accounts = accounts
        a, b, p_up = rules.scale * rules.jump_up_mean, rules.scale * rules.jump_down_mean, rules.jump_up_probability
        jumps_per_year = rules.jumps_per_year * math.exp(rules.jump_volatility_exponent * log_volatility)
        jump_variance = jumps_per_year * 2.0 * (p_up * a**2 + (1.0 - p_up) * b**2)
        self.variance = (rules.scale * rules.volatility * math.exp(log_volatility)) ** 2 + jump_variance
        self.maintenance = self.formula()
        self.requirements: list[float] = []

    def update(self, oracle_return: float) -> None:
        dt = self.rules.step_years
        w = math.exp(-dt / self.rules.memory_years)
        self.variance = w * self.variance + (1.0 - w) * oracle_return**2 / dt
        change = self.formula() - self.maintenance
        self.maintenance += min(max(change, -self.rules.fall_per_year * dt), self.rules.rise_per_year * dt)
        required = self.accounts.initial(self.maintenance, self.rules.initial_ratio)
        self.requirements.append(float(np.average(required, weights=self.accounts.weight)))

    def formula(self) -> float:
        rules = self.rules
        calm, stressed = math.sqrt(self.variance), rules.stressed_volatility
        forecast = calm + rules.stress_weight * (stressed - calm)
        by_volatility = rules.base + rules.multiplier * forecast * math.sqrt(rules.horizon_of_margin_years)
        margin = max(rules.floor, by_volatility) + rules.allowance * rules.penalty
        return min(max(margin, rules.lowest), rules.highest)

    def outcome(self) -> dict[str, float]:
        """Over steps 1 to N; the start is what accounts were opened at, not something the venue charged later."""
        charged = np.array(self.requirements)
        return {
            "margin_mean": float(charged.mean()),
            "margin_peak_to_trough": float(charged.max() / charged.min()),
            "margin_rise": float(np.max(charged - np.minimum.accumulate(charged))),
            **{name: rise_within(charged, steps) for name, steps in self.rules.rise_windows},
        }


def rise_within(charged: np.ndarray, window: int) -> float:
    """8. The largest rise above any earlier value that the window, laid out in blocks of steps, reaches back to."""
    block = math.ceil(window / 24)
    rises = []
    for t, value in enumerate(charged, start=1):
        first = max((t - 1) // block - math.ceil(window / block), 0) * block + 1
        rises.append(value - charged[first - 1 : t].min())
    return max(rises)


class Book:
    """The accounts of one path, in increasing order of c: what is still open, who was liquidatable when (5, 6)."""

    def __init__(self, accounts: Accounts, *, steps: int, requirement: np.ndarray):
        order = np.argsort(accounts.collateral, kind="stable")
        response = (requirement / accounts.reference_margin)[order] if accounts.responds else 1.0
        self.maintenance = lambda margin: accounts.maintenance(margin)[order]
        self.side = np.asarray(accounts.side, dtype=float)[order]
        self.collateral = np.asarray(accounts.collateral, dtype=float)[order] * response
        self.first_collateral = self.collateral.copy()
        self.weight = np.asarray(accounts.weight, dtype=float)[order]
        self.cohort = np.asarray(accounts.cohort)[order]
        self.open_share = self.weight.copy()
        self.closed = np.zeros_like(self.weight)
        self.closed_of_all = np.zeros_like(self.weight)
        self.left = np.ones_like(self.weight)
        self.first_warned = np.full(self.side.size, NEVER)
        self.answered = np.zeros(self.side.size, dtype=bool)
        self.topped_up = 0.0
        self.seen: list[tuple[np.ndarray, np.ndarray]] = []
        self.rests_until = np.zeros(self.side.size)
        self.size = np.broadcast_to(accounts.size, order.shape)[order]
        self.first_touched = np.full(self.side.size, NEVER)
        self.freed = np.zeros(self.side.size)
        self.offered = np.zeros(self.side.size, dtype=bool)
        self.offered_at = np.zeros(self.side.size, dtype=int)
        self.top = np.zeros(self.side.size)
        self.first_liquidatable = np.full(self.side.size, NEVER)

    def mark_liquidatable(self, t: int, maintenance: np.ndarray, *, low: float, high: float) -> None:
        """Longs are judged at the lowest log-price the venue sees in the step, shorts at the highest."""
        price = np.where(self.side > 0, math.exp(low), math.exp(high))
        self.seen.append((price, maintenance))
        self.first_liquidatable[self.is_liquidatable(t) & (self.first_liquidatable == NEVER)] = t

    def call(self, t: int, rules: Rules, required: np.ndarray, *, low: float, high: float) -> None:
        """Warn accounts; of those warned long enough ago a part has topped up and is out of reach."""
        price = np.where(self.side > 0, math.exp(low), math.exp(high))
        warned = self.collateral + self.side * (price - 1.0) < rules.warning * required * price
        self.first_warned[warned & (self.first_warned == NEVER)] = t
        answers = (self.first_warned <= t - rules.response_steps) & ~self.answered
        self.topped_up += rules.top_up * float(self.open_share[answers].sum())
        self.open_share[answers] *= 1.0 - rules.top_up
        self.left[answers] *= 1.0 - rules.top_up
        self.answered |= answers

    def is_liquidatable(self, t: int) -> np.ndarray:
        """With what each account holds now, at what the venue saw at step t."""
        price, maintenance = self.seen[t - 1]
        return self.collateral + self.side * (price - 1.0) < maintenance * price

    def may_be_closed(self, t: int, delay: int, recheck: bool) -> np.ndarray:
        if t <= delay:
            return np.zeros(self.side.size, dtype=bool)
        called = (
            self.is_liquidatable(t - delay) & self.is_liquidatable(t)
            if recheck
            else self.first_liquidatable <= t - delay
        )
        return called & (self.open_share > 0.0) & (t > self.rests_until)

    def choose(
        self,
        eligible: np.ndarray,
        price: float,
        rates: np.ndarray,
        allowed: np.ndarray,
        parts: np.ndarray,
        allowance: float,
    ) -> np.ndarray:
        """Close accounts of each side as long as what has been sold is `allowed` for the next, whoever pays the highest of `rates`
        first, and all together up to an allowance; return the initial notional closed, account by account."""
        candidates = np.where(eligible, self.open_share * parts, 0.0)
        closed = np.zeros_like(candidates)
        for side in (1, -1):
            sold = 0.0
            for rate in sorted(set(rates[(candidates > 0.0) & (self.side == side)]), reverse=True):
                alike = np.where((self.side == side) & (rates == rate), candidates, 0.0)
                volume, limit = float(alike.sum()) * price, float(allowed[alike > 0.0][0])
                if sold >= limit:
                    break
                # Of those who pay the same the same fraction of every cohort.
                part = min((limit - sold) / volume, 1.0)
                closed += self.of_each_cohort(alike, part)
                sold += part * volume
        together = float(closed.sum()) * price
        if together > allowance:
            closed = self.of_each_cohort(closed, allowance / together)
        self.open_share -= closed
        self.closed += closed
        self.closed_of_all += closed / np.maximum(self.left, 1e-300)
        return closed

    def of_each_cohort(self, notional: np.ndarray, fraction: float) -> np.ndarray:
        """The first in line of each, up to a fraction of what it has."""
        taken = np.zeros_like(notional)
        for number in np.unique(self.cohort[notional > 0.0]):
            members = self.cohort == number
            taken[members] = notional[members] if fraction >= 1.0 else first_in_line(notional[members], fraction)
        return taken

    def offer(self, t: int, rules: Rules, eligible: np.ndarray, price: float, oracle: float) -> None:
        """9. Offer accounts as far as there is room, the riskiest of each cohort first; offers that have lasted start anew."""
        new = np.where(eligible & ~self.offered, self.open_share, 0.0)
        room = max(rules.auction_most / price - float(self.open_share[self.offered].sum()), 0.0)
        if new.sum() > room:
            part = room / float(new.sum())
            for number in np.unique(self.cohort):
                of_cohort = self.cohort == number
                within = first_in_line(new[of_cohort], part)
                # An account is offered whole or not at all.
                new[of_cohort] = np.where(within > new[of_cohort] / 2, new[of_cohort], 0.0)
        anew = (new > 0.0) | (self.offered & (t - self.offered_at == len(rules.auction)))
        self.offered |= new > 0.0
        self.offered_at[anew] = t
        self.top[anew] = oracle

    def touched(self, closed: np.ndarray, parts: np.ndarray, freed: np.ndarray, t: int, rests_for: int) -> None:
        """Who lost a part of its position rests for a while; `freed` is the margin that each unit closed has freed."""
        in_part = (closed > 0.0) & (parts < 1.0)
        self.rests_until[in_part] = t + rests_for
        self.first_touched[in_part] = np.minimum(self.first_touched[in_part], t)
        self.freed[in_part] += (closed * freed)[in_part]

    def open_of(self, side: int) -> float:
        return float(self.open_share[self.side == side].sum())

    def deleverage(self, side: int, amount: float, by_rank: bool) -> None:
        """Close `amount` of a side: the same part of every account, or of every cohort, the most leveraged first."""
        if amount > 0.0 and by_rank:
            of_all = amount / self.open_of(side)
            for number in np.unique(self.cohort[self.side == side]):
                members = (self.side == side) & (self.cohort == number)
                self.open_share[members] -= first_in_line(self.open_share[members], of_all)
        elif amount > 0.0:
            part = 1.0 - amount / self.open_of(side)
            self.open_share[self.side == side] *= part
            self.left[self.side == side] *= part


def first_in_line(notional: np.ndarray, fraction: float) -> np.ndarray:
    """From the front of the line, `fraction` of the whole; the last account reached is taken in part."""
    ahead = np.cumsum(notional) - notional
    return np.clip(fraction * notional.sum() - ahead, 0.0, notional)


class Ledger:
    """7 and 8. Where the money of closed accounts went, and what the insurance fund could pay."""

    def __init__(self, rules: Rules):
        self.rules = rules
        self.fund = rules.fund
        self.vault = rules.vault
        self.allowance = rules.fund_cap
        self.insolvent = False
        self.mark_price = 1.0
        self.left_to_others = 0.0
        self.gate_opens = 0.0
        self.sums = dict.fromkeys(SUMS, 0.0)

    def settle(
        self,
        book: Book,
        closed: np.ndarray,
        closing_price: np.ndarray,
        rates: np.ndarray,
        parts: np.ndarray,
        *,
        undisturbed: float,
    ) -> float:
        """Book the closes of one step; `closed` is the initial notional closed of each account. Returns the net share (longs less
        shorts) that winners took over."""
        equity = book.collateral + book.side * (closing_price - 1.0)
        paid = np.minimum(rates * closing_price, np.maximum(equity, 0.0))
        in_part = parts < 1.0
        paid[in_part] = (rates * closing_price)[in_part]
        penalty = float(np.sum(closed * paid))
        self.add("liquidated", np.sum(closed * closing_price))
        self.add("insolvent_share", np.sum(closed[(equity < 0.0) & ~in_part]))
        # What keeps a part of its position pays the loss and the penalty of the other part from its collateral.
        spent = np.where(in_part, paid - book.side * (closing_price - 1.0), book.collateral)
        self.add("collateral_closed", np.sum(closed * spent))
        kept = in_part & (book.open_share > 0.0)
        before = book.collateral[kept] * (book.open_share + closed)[kept]
        book.collateral[kept] = (before - (closed * spent)[kept]) / book.open_share[kept]
        equity = np.where(in_part, paid, equity)
        self.add("pnl_closed", np.sum(closed * book.side * (closing_price - 1.0)))
        self.add("slippage", np.sum(closed * book.side * (undisturbed - closing_price)))
        self.add("penalty", penalty)
        keepers = self.rules.keeper_share * penalty
        notional = float(np.sum(closed * closing_price))
        keepers = min(max(keepers, self.rules.reward_floor * notional), self.rules.reward_cap * notional)
        keepers = min(keepers, penalty + self.fund)
        self.add("keeper_income", keepers)
        self.add("returned", np.sum(closed * (np.maximum(equity, 0.0) - paid)))

        income = penalty - keepers
        self.add("fund_income", income)
        self.fund += income
        refilled = self.allowance + self.rules.fund_cap_refill_per_year * self.rules.step_years
        self.allowance = min(refilled, self.rules.fund_cap)
        return self.lose(book, closed, equity)

    def mark_open(self, book: Book, price: float) -> None:
        """Mark what is still open after the last step at that step's closing price."""
        _, equity = self.mark(book, price)
        self.add("open_deficit", np.sum(book.open_share * np.maximum(-equity, 0.0)))
        self.lose(book, book.open_share.copy(), equity)

    def mark(self, book: Book, price: float) -> tuple[np.ndarray, np.ndarray]:
        """Closing price and equity, per unit of initial notional, of each account."""
        closing_price = price * (1.0 - book.side * self.rules.half_spread)
        return closing_price, book.collateral + book.side * (closing_price - 1.0)

    def lose(self, book: Book, notional: np.ndarray, equity: np.ndarray) -> float:
        """Meet the deficits of `notional`, layer by layer; returns the net share that winners took over."""
        bad_debt = float(np.sum(notional * np.maximum(-equity, 0.0)))
        draw = min(self.fund, self.allowance, bad_debt)
        self.fund -= draw
        self.allowance -= draw
        self.insolvent = self.insolvent or bad_debt > draw
        from_vault = min(self.vault, bad_debt - draw)
        self.vault -= from_vault
        left = bad_debt - draw - from_vault
        taken = {1: 0.0, -1: 0.0}
        from_winners = 0.0
        if self.rules.deleverages and left > 0.0:
            for side in taken:
                losers = (book.side == side) & (equity < 0.0)
                asked = left / bad_debt * float(notional[losers].sum())
                taken[side] = min(asked, book.open_of(-side))
                if asked > 0.0:
                    lost = float(np.sum(notional[losers] * self.borne(book, equity)[losers]))
                    from_winners += left / bad_debt * lost * taken[side] / asked
            for side, amount in taken.items():
                book.deleverage(-side, amount, self.rules.deleverages_by_rank)
        self.add("bad_debt", bad_debt)
        self.add("fund_draw", draw)
        self.add("vault_draw", from_vault)
        self.add("adl_loss", from_winners)
        self.add("adl_rate", taken[1] + taken[-1])
        self.add("socialised_loss", left - from_winners)
        self.left_to_others = left - from_winners
        return taken[1] - taken[-1]

    def borne(self, book: Book, equity: np.ndarray) -> np.ndarray:
        """What the winners bear of each account's deficit: no more than it is better off at the mark price, where they take over at
        that."""
        deficit = np.maximum(-equity, 0.0)
        if not self.rules.deleverages_at_mark:
            return deficit
        at_mark = book.collateral + book.side * (self.mark_price - 1.0)
        return deficit - np.minimum(deficit, np.maximum(-at_mark, 0.0))

    def pass_time(self, t: int) -> None:
        """Nobody may withdraw for a while after others had to bear a loss at step t."""
        if self.left_to_others > 0.0:
            self.gate_opens = t * self.rules.step_years + self.rules.gate_years
        self.add("stopped_years", np.clip(self.gate_opens - t * self.rules.step_years, 0.0, self.rules.step_years))

    def add(self, name: str, amount: float) -> None:
        self.sums[name] += float(amount)

    def outcome(self) -> dict[str, float | bool]:
        return self.sums | {"insolvent": self.insolvent}
