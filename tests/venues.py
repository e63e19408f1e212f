"""Test venues: one description, from which both the engine's scenario and the brute-force rules are built.

`EVERYTHING_ON` has every mechanism at work at once, at strengths at which each of them matters on most stressed paths.
`switched_off` strips a venue down to what a closed form knows: constant volatility, unlimited keepers, no impact, no fund.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import brute_force
import jax
import jax.numpy as jnp
import numpy as np
from brute_force_pipe import Occurrence
from drawn import drawn
from markets import LOG_OU_KOU, constant_market, log_ou_kou

from calibrate.book import Book, Density
from calibrate.delay import delay_of
from calibrate.events import (
    Depeg,
    DepthCollapse,
    Event,
    GasSpike,
    KeeperOutage,
    Manipulation,
    OracleFreeze,
    When,
    event_uniform,
)
from calibrate.liquidity import Liquidity
from calibrate.market.market import Market
from calibrate.oracle import ContinuousOracle, ExactOracle, Oracle, PushOracle
from calibrate.oracle_pipe import Band, Exponential, OraclePipe, TimeWeighted
from calibrate.policy import MarginRule, Parameters, Policy, World
from calibrate.rise_windows import Window
from calibrate.shocks import path_ids, seed_words, shocks_of_steps, start_draws
from calibrate.simulate import Scenario
from calibrate.sources import Lag, Noise, Outages, Sources
from calibrate.units import SECONDS_PER_YEAR
from calibrate.venue import Venue
from calibrate.venue.auction import Auction
from calibrate.venue.backstop import Backstop, FundCap
from calibrate.venue.close import BufferClose, CloseCap, Dust, FractionClose, PartialClose, TargetClose
from calibrate.venue.guards import Guards, OwnAverage
from calibrate.venue.incentive import Congestion, HealthBonus, Incentive, KeeperReward, LimitOrder, Takeover
from calibrate.venue.mark import Mark
from calibrate.venue.schedule import SizeSchedule
from calibrate.venue.trigger import MarginCalls, Trigger

MINUTE = 60 / SECONDS_PER_YEAR
DAY = 1 / 365

EVERYTHING_ON = brute_force.Rules(
    step_years=2 * MINUTE,
    volatility=0.9,
    log_volatility_sd=0.5,
    reversion_per_year=365 * np.log(2) / 1.5,
    leverage_correlation=-0.3,
    jumps_per_year=600.0,
    jump_volatility_exponent=1.0,
    jump_up_probability=0.45,
    jump_up_mean=0.012,
    jump_down_mean=0.018,
    drift=0.1,
    depth=0.08,
    depth_exponent=1.0,
    crossover=0.02,
    flow_weights=(0.5, 0.3, 0.2),
    flow_times_years=(5 * MINUTE, 120 * MINUTE, np.inf),
    oracle="push",
    deviation=0.005,
    heartbeat_years=59.1 * MINUTE,
    oracle_delay_steps=1,
    memory_years=DAY,
    horizon_of_margin_years=DAY / 24,
    base=0.008,
    multiplier=1.0,
    floor=0.005,
    lowest=0.004,
    highest=0.2,
    allowance=0.5,
    initial_ratio=1.6,
    keeper_delay_steps=2,
    recheck=True,
    unlimited_keepers=False,
    penalty=0.012,
    keeper_share=0.6,
    gas=0.0005,
    half_spread=0.0004,
    fund=0.0004,
)


@dataclass(frozen=True)
class TestBook:
    """Cohorts of accounts spread evenly over bands of collateral: per cohort its side, weight and (low, high, share) bands,
    which must touch. With `responds` collateral scales with the initial requirement over `reference_margin`."""

    __test__ = False
    cohorts: tuple[tuple[int, float, tuple[tuple[float, float, float], ...]], ...]
    responds: bool = False
    reference_margin: float = 1.0
    # By cohort: factor, part of it that stays below the add-on, and add-on; references follow from them.
    sizes: tuple[tuple[float, float, float], ...] = ()
    opened: float = 0.0
    # Whether positions are spread evenly between half and one and a half of their mean size.
    many_sizes: bool = False

    def schedule(self, dtype: type = np.float64) -> SizeSchedule | None:
        if not self.sizes:
            return None
        columns = (jnp.asarray(np.asarray(column, dtype)) for column in zip(*self.sizes, strict=True))
        return SizeSchedule(*columns, jnp.asarray(self.opened, dtype))

    def references(self) -> np.ndarray:
        return self.reference_margin * np.array([factor for factor, _, _ in self.sizes or ((1.0, 1.0, 0.0),)])

    def continuum(self, dtype: type = np.float64) -> Book:
        knots = np.array([[bands[0][0], *(band[1] for band in bands)] for _, _, bands in self.cohorts])
        shares = np.array([np.cumsum([0.0, *(band[2] for band in bands)]) for _, _, bands in self.cohorts])
        as_array = lambda values: jnp.asarray(np.asarray(values, dtype))  # noqa: E731
        return Book(
            as_array([side for side, _, _ in self.cohorts]),
            as_array([weight for _, weight, _ in self.cohorts]),
            Density(as_array(knots), as_array(shares)),
            as_array(self.references()[:, None] if self.sizes else self.reference_margin),
            self.responds,
        )

    def accounts(self, number: int) -> brute_force.Accounts:
        """`number` accounts a cohort, each standing for an equal share: the midpoints of the quantiles."""
        shares = (np.arange(number) + 0.5) / number
        parts = []
        for cohort, (side, weight, bands) in enumerate(self.cohorts):
            levels = np.interp(shares, np.cumsum([0.0, *(b[2] for b in bands)]), [bands[0][0], *(b[1] for b in bands)])
            parts.append((np.full(number, side), levels, np.full(number, weight / number), np.full(number, cohort)))
        side, collateral, weight, cohort = (np.concatenate(column) for column in zip(*parts, strict=True))
        return brute_force.Accounts(
            side=side,
            collateral=collateral,
            weight=weight,
            cohort=cohort,
            responds=self.responds,
            reference_margin=self.references()[cohort] if self.sizes else self.reference_margin,
            # Multiples of the golden section fill an interval evenly, and have nothing to do with collateral.
            size=0.5 + np.arange(len(side)) * 0.6180339887498949 % 1.0 if self.many_sizes else 1.0,
            **self._sizes_of(cohort),
        )

    def _sizes_of(self, cohort: np.ndarray) -> dict[str, object]:
        if not self.sizes:
            return {}
        names = ("factor", "floor_part", "add_on")
        of_account = {
            name: np.array(column)[cohort] for name, column in zip(names, zip(*self.sizes, strict=True), strict=True)
        }
        return of_account | {"opened": self.opened}


LONGS_AND_SHORTS = TestBook(
    cohorts=(
        (1, 0.35, ((0.025, 0.035, 0.2), (0.035, 0.06, 0.4), (0.06, 0.15, 0.4))),
        (-1, 0.40, ((0.025, 0.035, 0.2), (0.035, 0.06, 0.4), (0.06, 0.15, 0.4))),
        (1, 0.25, ((0.02, 0.04, 0.5), (0.04, 0.1, 0.3), (0.1, 0.3, 0.2))),
    ),
    responds=True,
    reference_margin=0.03,
)


@dataclass(frozen=True)
class Case:
    """A venue, its accounts and a number of steps, ready for either simulator."""

    rules: brute_force.Rules
    book: TestBook
    steps: int
    dtype: type = np.float64
    changes: dict = field(default_factory=dict)

    def but(self, **changes: object) -> "Case":
        return replace(self, rules=replace(self.rules, **changes))

    def scenario(self) -> Scenario:
        r = self.rules
        with jax.enable_x64(self.dtype == np.float64):
            f = lambda value: jnp.asarray(value, self.dtype)  # noqa: E731
            liquidity = Liquidity(
                f(r.depth), f(r.depth_exponent), f(r.crossover), *(f(w) for w in r.flow_weights[:2]),
                *(f(t) for t in r.flow_times_years[:2]),
            )  # fmt: skip
            stressed = f(r.stressed_volatility) if r.stressed_volatility else None
            rule = MarginRule(f(r.lowest), f(r.highest), f(r.allowance), f(r.horizon_of_margin_years), stressed)
            venue = Venue(
                rule,
                f(r.gas),
                f(r.half_spread),
                f(r.fund),
                delay_of(r.keeper_delay_steps),
                r.recheck,
                r.unlimited_keepers,
                backstop=self._backstop(f),
                schedule=self.book.schedule(self.dtype),
                close=self._close(f),
                cap=None if r.close_cap == np.inf else CloseCap(f(r.close_cap), f(r.close_cap_refill_per_year)),
                incentive=self._incentive(f),
                trigger=self._trigger(f),
                calls=MarginCalls(f(r.warning), f(r.top_up), delay_of(r.response_steps)) if r.top_up else None,
                batch=jnp.asarray(r.batch_steps, jnp.int32) if r.batch_steps > 1 else None,
                auction=Auction(f(r.auction), None if r.auction_most == np.inf else f(r.auction_most))
                if r.auction
                else None,
                guards=self._guards(f),
            )
            book = self.book.continuum(self.dtype)
            windows = tuple(Window(*window) for window in r.rise_windows)
            market, oracle = self._market(f), self._oracle(f)
            events = tuple(of_rules(occurrence, f) for occurrence in r.events)
            return Scenario(market, oracle, liquidity, book, venue, f(r.step_years), self.steps, windows, events)

    def _backstop(self, f) -> Backstop | None:
        """Each layer only where the rules give it money, as a venue without it has none."""
        r = self.rules
        cap = None if r.fund_cap == np.inf else FundCap(f(r.fund_cap), f(r.fund_cap_refill_per_year))
        vault = f(r.vault) if r.vault else None
        if not (cap or r.vault or r.deleverages or r.gate_years):
            return None
        gate = f(r.gate_years) if r.gate_years else None
        return Backstop(cap, vault, r.deleverages, r.deleverages_by_rank, r.deleverages_at_mark, gate)

    def _close(self, f) -> PartialClose | None:
        r = self.rules
        if r.close == "full":
            return None
        # Touched accounts are there again at the next step, so one of no cooldown rests for none.
        cooldown = delay_of(r.cooldown_steps) if r.cooldown_steps else None
        common = {"full_below": f(r.full_below), "cooldown": cooldown, "dust": Dust(f([r.dust])) if r.dust else None}
        if r.close == "fraction":
            return FractionClose(fraction=f(r.close_fraction), **common)
        if r.close == "buffer":
            return BufferClose(
                buffer=f(r.close_buffer), initial=f(r.close_initial), ramp=f(r.close_ramp_steps), **common
            )
        return TargetClose(target=f(r.close_target), **common)

    def _trigger(self, f) -> Trigger | None:
        r = self.rules
        if not (r.trigger_extra or r.trigger_at_market or r.mark or r.band_end):
            return None
        mark = Mark(f(r.mark_weight), r.mark) if r.mark else None
        return Trigger(f(r.trigger_extra), r.trigger_at_market, mark, r.band_end)

    def _guards(self, f) -> Guards | None:
        r = self.rules
        stale = None if r.stale_after_steps is None else jnp.int32(r.stale_after_steps)
        widest = None if r.widest_gap == np.inf else f(r.widest_gap)
        average = None
        if r.widest_from_average < np.inf:
            average = OwnAverage(f(r.widest_from_average), f(r.average_weight))
        if all(part is None for part in (stale, widest, average)):
            return None
        return Guards(stale, widest, r.stale_falls_back, average)

    def _incentive(self, f) -> Incentive | None:
        """Each part only where the rules make something of it."""
        r = self.rules
        rewarded = r.reward_floor > 0 or r.reward_cap < np.inf
        found = Incentive(
            KeeperReward(f(r.reward_floor), f(min(r.reward_cap, 1.0))) if rewarded else None,
            Congestion(f(r.gas_exponent)) if r.gas_exponent else None,
            self._bonus(f),
            {"market": None, "oracle": Takeover(), "limit": LimitOrder(f(r.limit))}[r.fill],
        )
        parts = (found.reward, found.congestion, found.bonus, found.fill)
        return None if all(part is None for part in parts) else found

    def _bonus(self, f) -> HealthBonus | None:
        r = self.rules
        if not r.bonus_highest and r.bonus_lowest_part is None:
            return None
        given = lambda value: None if value is None else f(value)  # noqa: E731
        highest, ends = r.bonus_highest or None, r.bonus_to if r.bonus_per_health is None else None
        return HealthBonus(
            f(r.bonus_from),
            *(given(value) for value in (ends, r.bonus_per_health, highest, r.bonus_lowest_part)),
            r.bonus_lending,
        )

    def _market(self, f) -> Market:
        r = self.rules
        if r.log_volatility_sd == 0 and r.jumps_per_year == 0:
            return constant_market(f(r.volatility), f(r.drift))
        fields = {name: f(getattr(r, name)) for name in LOG_OU_KOU}
        start = None if r.initial_log_volatility is None else f(r.initial_log_volatility)
        return log_ou_kou(**fields, initial_log_volatility=start)

    def _oracle(self, f) -> Oracle:
        r, publication = self.rules, self._publication(f)
        sources, average = self._sources(f), None
        if r.twap_steps:
            average = TimeWeighted(delay_of(r.twap_steps))
        elif r.ema_weight:
            average = Exponential(f(r.ema_weight))
        band = None
        if r.band or r.band_of_sources:
            band = Band(f(r.band), f(r.band_exponent), f(r.band_of_sources) if r.band_of_sources else None)
        before = (sources, average, band)
        return publication if all(part is None for part in before) else OraclePipe(publication, *before)

    def _publication(self, f) -> Oracle:
        r = self.rules
        clamp, dated = None if r.clamp == np.inf else f(r.clamp), r.stale_after_steps is not None
        if r.oracle == "exact":
            return ExactOracle(delay_of(r.oracle_delay_steps), clamp, dated)
        if r.oracle == "push":
            growth = f(r.oracle_delay_exponent) if r.oracle_delay_exponent else None
            delay = delay_of(r.oracle_delay_steps, growth=growth, longest=r.longest_oracle_delay_steps or 0)
            return PushOracle(f(r.deviation), f(r.heartbeat_years), delay, r.heartbeat_restarts, clamp, dated)
        return ContinuousOracle(delay_of(0), dated)

    def _sources(self, f) -> Sources | None:
        r = self.rules
        if not r.sources:
            return None
        column = lambda name: f([getattr(source, name) for source in r.sources])  # noqa: E731
        return Sources(
            column("weight"),
            Noise(column("noise"), column("kept")) if any(s.noise for s in r.sources) else None,
            Outages(column("goes"), column("stays")) if any(s.goes for s in r.sources) else None,
            r.quorum,
            r.by_mean,
            Lag(jnp.asarray([s.lag for s in r.sources], jnp.int32), max(s.lag for s in r.sources))
            if any(s.lag for s in r.sources)
            else None,
            quartiles=bool(r.band_of_sources),
        )

    def parameters(self) -> Parameters:
        r = self.rules
        with jax.enable_x64(self.dtype == np.float64):
            values = (
                r.base, r.multiplier, r.floor, r.initial_ratio, r.penalty, r.keeper_share, r.memory_years, r.stress_weight,
            )  # fmt: skip
            f = lambda value: jnp.asarray(value, self.dtype)  # noqa: E731
            limits = (None if rate == np.inf else f(rate) for rate in (r.rise_per_year, r.fall_per_year))
            return Parameters(Policy(*(f(v) for v in values), *limits), World(f(r.scale), f(1.0)))

    def brute_force(self, *, seed: int, paths: np.ndarray, accounts: int) -> dict[str, np.ndarray]:
        """The same paths, account by account."""
        with jax.enable_x64(True):
            ids, key = path_ids(paths), seed_words(seed)
            steps = jnp.arange(self.steps, dtype=jnp.uint32)
            shocks = shocks_of_steps(key, ids, steps, np.dtype(np.float64), continuous=True)
            start = np.asarray(start_draws(key, ids, np.dtype(np.float64))[0])
            times = [event_uniform(key, ids, number) for number in range(len(self.rules.events))]
            made = self._oracle(lambda value: jnp.asarray(value, self.dtype)).shocks(
                key, ids, steps, np.dtype(np.float64)
            )
        of_sources = (None, None) if made is None else (None if a is None else np.asarray(a) for a in made)
        source_z, source_u = of_sources
        more = {"event_u": np.array(times) if times else None, "source_z": source_z, "source_u": source_u}
        return brute_force.simulate(self.rules, self.book.accounts(accounts), start, *drawn(shocks), **more)


def of_rules(occurrence: Occurrence, f) -> Event:
    o = occurrence
    when = When(None if o.begin is None else jnp.int32(o.begin), jnp.int32(o.steps), jnp.int32(o.places))
    if o.kind == "manipulation":
        return Manipulation(when, f(o.size), o.source)
    if o.kind == "depeg":
        return Depeg(when, f(o.size), jnp.int32(o.recovery))
    plain = {"keeper_outage": KeeperOutage, "oracle_freeze": OracleFreeze}
    return (
        plain[o.kind](when)
        if o.kind in plain
        else {"depth_collapse": DepthCollapse, "gas_spike": GasSpike}[o.kind](when, f(o.size))
    )


def switched_off(
    *, volatility: float, step_years: float, margin: float, keeper_delay_steps: int, half_spread: float = 0.0,
    oracle: str = "exact",
) -> brute_force.Rules:  # fmt: skip
    """A venue without anything that the closed forms leave out."""
    return replace(
        EVERYTHING_ON,
        step_years=step_years,
        volatility=volatility,
        log_volatility_sd=0.0,
        jumps_per_year=0.0,
        leverage_correlation=0.0,
        drift=0.0,
        depth=1e9,
        oracle=oracle,
        oracle_delay_steps=0,
        base=margin,
        multiplier=0.0,
        floor=0.0,
        lowest=0.0,
        highest=1.0,
        allowance=0.0,
        initial_ratio=1.0,
        keeper_delay_steps=keeper_delay_steps,
        recheck=False,
        unlimited_keepers=True,
        penalty=0.0,
        keeper_share=1.0,
        gas=0.0,
        half_spread=half_spread,
        fund=0.0,
    )


def assert_followed(
    case: Case,
    values: Mapping[str, np.ndarray],
    paths: np.ndarray,
    same: Mapping[str, str],
    *,
    accounts: tuple[int, int],
    within: float,
    halves: tuple[str, ...] = ("bad_debt",),
) -> dict[str, np.ndarray]:
    """The engine's `values` on these paths are those of accounts followed one by one, `within` a share of the largest: what they
    call `same[name]` is the accounts' `name`. From the smaller to the larger number of `accounts` a cohort the gaps in `halves`
    more than halve. The larger number's outcomes."""
    few, many = (case.brute_force(seed=3, paths=paths, accounts=number) for number in accounts)
    coarse, fine = ({name: np.abs(values[same[name]] - part[name]).max() for name in same} for part in (few, many))
    for name, gap in fine.items():
        scale = max(np.abs(values[same[name]]).max(), 1e-4)
        assert gap < within * scale, f"{name} is off by {gap:.2g}, of {scale:.2g}"
    for name in halves:
        assert fine[name] < coarse[name] / 2, f"{name} does not converge"
    return many
