"""From the rules under `[venue]` of a job to what the simulation takes: shares of open interest, years, fractions."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from calibrate.book import Cohort
from calibrate.data.positions import Positions
from calibrate.delay import Delay, delay_of
from calibrate.job import Job, VenueSection
from calibrate.job_rules import (
    AuctionSection,
    BackstopSection,
    BonusSection,
    CloseCapSection,
    IncentiveSection,
    MarginCallSection,
    TriggerSection,
)
from calibrate.units import BPS, SECONDS_PER_YEAR
from calibrate.venue.auction import Auction, line, stairs, until_reset
from calibrate.venue.backstop import Backstop, FundCap
from calibrate.venue.close import BufferClose, CloseCap, Dust, FractionClose, PartialClose, TargetClose
from calibrate.venue.incentive import Congestion, HealthBonus, Incentive, KeeperReward, LimitOrder, Takeover
from calibrate.venue.mark import Mark
from calibrate.venue.schedule import SizeSchedule, open_interest_share, tier_factor
from calibrate.venue.trigger import MarginCalls, Trigger


def backstop_of(section: BackstopSection | None, open_interest_usd: float, dtype: np.dtype) -> Backstop | None:
    if section is None:
        return None
    cap = None
    if section.fund_cap_usd is not None:
        most = section.fund_cap_usd / open_interest_usd
        window = section.fund_cap_window_s
        refill = 0.0 if window is None else most * SECONDS_PER_YEAR / window
        cap = FundCap(jnp.asarray(most, dtype), jnp.asarray(refill, dtype))
    vault = None if section.vault_usd is None else jnp.asarray(section.vault_usd / open_interest_usd, dtype)
    stops = section.withdrawals_stop_s
    return Backstop(
        cap,
        vault,
        section.auto_deleveraging,
        by_rank=section.deleveraging_order == "most-leveraged",
        at_mark=section.deleveraging_price == "mark",
        gate=None if stops is None else jnp.asarray(stops / SECONDS_PER_YEAR, dtype),
    )


def close_of(job: Job, dtype: np.dtype) -> PartialClose | None:
    section, step_s = job.venue.close, job.simulation.step_s
    if section is None:
        return None
    number = lambda value: jnp.asarray(value, dtype)  # noqa: E731
    full_below, cooldown = number(section.full_below_health), _cooldown(section.cooldown_s, step_s)
    dust = None if section.dust_usd is None else Dust(number(section.dust_usd / _mean_sizes(job)))
    if section.fraction is not None:
        return FractionClose(fraction=number(section.fraction), full_below=full_below, cooldown=cooldown, dust=dust)
    if section.target_health is not None:
        return TargetClose(target=number(section.target_health), full_below=full_below, cooldown=cooldown, dust=dust)
    assert section.buffer_bps is not None
    initial, ramp = (1.0, np.inf) if section.ramp_s is None else (section.initial_part, section.ramp_s / step_s)
    return BufferClose(
        buffer=number(section.buffer_bps * BPS),
        initial=number(initial),
        ramp=number(ramp),
        full_below=full_below,
        cooldown=cooldown,
        dust=dust,
    )


def _mean_sizes(job: Job) -> np.ndarray:
    """The mean size (USD) of each cohort's positions; one for all where a table lists them."""
    if job.book.cohorts is None:
        return np.array([job.book.position_usd])
    return np.array([sizes[0] for sizes, _ in sizes_of_cohorts(job)])


def cap_of(section: CloseCapSection | None, open_interest_usd: float, dtype: np.dtype) -> CloseCap | None:
    if section is None:
        return None
    most = section.most_usd / open_interest_usd
    return CloseCap(jnp.asarray(most, dtype), jnp.asarray(most * SECONDS_PER_YEAR / section.window_s, dtype))


def _cooldown(seconds: float, step_s: float) -> Delay | None:
    """Whoever is touched in a step may be touched again in the next one, so the first step of a cooldown is no rest."""
    steps = round(seconds / step_s) - 1
    return delay_of(steps) if steps > 0 else None


def incentive_of(section: IncentiveSection | None, position_usd: float, dtype: np.dtype) -> Incentive | None:
    if section is None:
        return None
    number = lambda value: jnp.asarray(value, dtype)  # noqa: E731
    reward, floor, cap = None, section.keeper_floor_usd, section.keeper_cap_usd
    if floor is not None or cap is not None:
        # A keeper never gets more than the position.
        reward = KeeperReward(number((floor or 0.0) / position_usd), number(min((cap or np.inf) / position_usd, 1.0)))
    exponent, bonus = section.gas_volatility_exponent, section.bonus
    return Incentive(
        reward,
        None if exponent is None else Congestion(number(exponent)),
        None if bonus is None else _bonus_of(bonus, dtype),
        Takeover()
        if section.fill == "oracle"
        else None
        if section.limit_bps is None
        else LimitOrder(number(section.limit_bps * BPS)),
    )


def _bonus_of(section: BonusSection, dtype: np.dtype) -> HealthBonus:
    given = lambda value: None if value is None else jnp.asarray(value, dtype)  # noqa: E731
    highest = None if section.highest_bps is None else section.highest_bps * BPS
    return HealthBonus(
        jnp.asarray(section.from_health, dtype),
        given(section.to_health),
        given(section.rise_per_health),
        given(highest),
        given(section.lowest_part),
        section.health == "lending",
    )


def auction_of(
    section: AuctionSection | None, step_s: float, open_interest_usd: float, dtype: np.dtype
) -> Auction | None:
    if section is None:
        return None
    # Up to the first step at which an offer has lasted too long.
    seconds = step_s * np.arange(int(section.reset_after_s / step_s + 1e-9) + 2)
    start = 1 + section.start_bps * BPS
    if section.fall_bps is not None and section.fall_s is not None:
        multiples = stairs(seconds, start=start, fall=section.fall_bps * BPS, every_s=section.fall_s)
    else:
        multiples = line(seconds, start=start, zero_after_s=section.zero_after_s or np.inf)
    asked = until_reset(multiples, seconds, after_s=section.reset_after_s, below=section.reset_below or 0.0)
    most = None if section.most_usd is None else jnp.asarray(section.most_usd / open_interest_usd, dtype)
    return Auction(jnp.asarray(np.log(asked), dtype), most, -(-len(asked) // MOST_PLACES))


# Into how many places offers are sorted by when they started, at most: each costs most of a plain engine (benchmarks/README.md),
# and what more of them would change is in docs/rules.md, section 9.
MOST_PLACES = 4


def trigger_of(section: TriggerSection | None, step_s: float, dtype: np.dtype) -> Trigger | None:
    if section is None:
        return None
    mark = None
    if section.mark_of is not None:
        weight = -np.expm1(-step_s / section.mark_basis_s) if section.mark_basis_s else 0.0
        mark = Mark(jnp.asarray(weight, dtype), tuple(section.mark_of))
    return Trigger(jnp.asarray(section.extra_bps * BPS, dtype), section.price == "market", mark, section.band_end)


def calls_of(section: MarginCallSection | None, step_s: float, dtype: np.dtype) -> MarginCalls | None:
    if section is None:
        return None
    warning, top_up = (jnp.asarray(number, dtype) for number in (section.warning_health, section.top_up_share))
    return MarginCalls(warning, top_up, delay_of(round(section.response_s / step_s)))


# --- margin by size -------------------------------------------------------------------------------------------------------


class Sized(NamedTuple):
    """Factor, part of the margin below the add-on, and add-on of each cohort; how far open interest raises the initial margin."""

    factor: list[float]
    floor_part: list[float]
    add_on: list[float]
    opened: float

    def schedule(self, dtype: np.dtype) -> SizeSchedule:
        return SizeSchedule(*(jnp.asarray(field, dtype) for field in self))


def by_size(venue: VenueSection) -> bool:
    """Whether the margin depends on sizes at all."""
    return any(rule is not None for rule in (venue.tiers, venue.size_add_on, venue.open_interest_add_on))


def sized(venue: VenueSection, holdings: Sequence[tuple[np.ndarray, np.ndarray]], open_interest_usd: float) -> Sized:
    """What each cohort pays, given the sizes (USD) of its positions and their weights."""
    tiers, add_on, opened = venue.tiers, venue.size_add_on, 0.0
    if venue.open_interest_add_on is not None:
        caps = venue.open_interest_add_on
        opened = open_interest_share(open_interest_usd, caps.lower_usd, caps.upper_usd)
    factors, add_ons = [], []
    for sizes, weights in holdings:
        bounds, rates = zip(*((t.from_usd, t.factor) for t in tiers), strict=True) if tiers else ((0.0,), (1.0,))
        factors.append(float(np.average([tier_factor(size, bounds, rates) for size in sizes], weights=weights)))
        power = 0.0 if add_on is None else add_on.add_on_bps * BPS * (sizes / add_on.at_usd) ** add_on.exponent
        add_ons.append(float(np.average(np.broadcast_to(power, sizes.shape), weights=weights)))
    floor_part = 1.0 if add_on is None else add_on.floor_part
    return Sized(factors, [floor_part] * len(factors), add_ons, opened)


def sizes_of_cohorts(job: Job) -> list[tuple[np.ndarray, np.ndarray]]:
    """Sizes and weights of the positions of each cohort that the job describes."""
    one = np.ones(1)
    return [(one * (cohort.position_usd or job.book.position_usd), one) for cohort in job.book.cohorts or []]


# Positions of a table fall into as many groups of size, where no tiers say which belong together.
_GROUPS = 4


def split_by_size(positions: Positions, venue: VenueSection) -> list[tuple[Cohort, tuple[np.ndarray, np.ndarray]]]:
    """A table's positions as cohorts of one side and one tier of size each, with the sizes and weights in it."""
    size = positions.notional_usd
    if venue.tiers:
        edges = np.array([tier.from_usd for tier in venue.tiers[1:]])
    else:
        edges = np.quantile(size, np.arange(1, _GROUPS) / _GROUPS)
    group = np.searchsorted(edges, size, side="right")
    found = []
    for number in np.unique(group):
        held = group == number
        part = Positions(positions.side[held], size[held], positions.collateral_usd[held])
        for cohort in part.cohorts():
            of_side = part.notional_usd[part.side == cohort.side]
            found.append((cohort, (of_side, of_side)))
    return found
