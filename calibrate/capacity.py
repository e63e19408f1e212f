"""How far keepers come when they close for profit: until the next close costs what it yields.

What they earn is a share of the penalty; what it costs is gas, and the displacement of the price that they leave behind. Where the
penalty grows as health falls they go from account to account, and it is the last one's penalty that counts.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool

from calibrate.bonus import BonusLevels, OfSides, bonus_levels, last_places
from calibrate.book import sum_of_rows, worst
from calibrate.closes import execution_at
from calibrate.compiled import computed_once
from calibrate.extremes import larger
from calibrate.front_state import ClosingNow
from calibrate.rationing import part_of
from calibrate.units import CohortPath, PerPath, Scalar
from calibrate.venue.incentive import Costs, room_for

Room = tuple[Scalar | PerPath, Scalar | PerPath]


class Worth(NamedTuple):
    """The level up to which closes pay, and by how much those of longs, and of shorts, may move the price there."""

    level: CohortPath
    room: Room


def worth_closing(
    bonus: BonusLevels | None,
    lowest: CohortPath,
    reach: CohortPath,
    asked: Callable[[CohortPath], CohortPath],
    now: ClosingNow,
) -> Worth:
    """Up to which account keepers come, of those between two levels; `asked` is what there is to close of each cohort up to one."""
    if bonus is None:
        return Worth(reach, room_now(now, (now.policy.penalty, now.policy.penalty)))
    longs, mid = now.book.side[:, None] > 0, now.market.mid
    level = lambda place: bonus.level(jnp.where(longs, place[0], place[1]))  # noqa: E731
    room = lambda place: room_now(now, (bonus.rate(place[0]), bonus.rate(place[1])))  # noqa: E731

    def excess(place: OfSides) -> OfSides:
        able, there = _able(room(place), now), now.book.of_sides(asked(level(place)))
        return able[0] - there[0] * mid, able[1] - there[1] * mid

    spare = lambda place: computed_once(lambda: excess(place), reach)  # noqa: E731

    last, first = bonus.place(reach), bonus.place(lowest)

    def found() -> Worth:
        place = last_places(
            spare, *zip(*(_outermost(of_side, last, first) for of_side in (longs, ~longs)), strict=True)
        )
        return Worth(level(place), room(place))

    return computed_once(found, reach)


def _outermost(of_side: Bool[Array, "cohort 1"], last: CohortPath, first: CohortPath) -> tuple[PerPath, PerPath]:
    """Of the cohorts of a side the smallest of their last places, and the largest of their first."""
    low = -worst(jnp.where(of_side, -last, -1.0))
    return low, worst(jnp.where(of_side, first, low))


def room_now(now: ClosingNow, penalty: Room) -> Room:
    """By how much closes of longs, and of shorts, may move the price, given the penalties that they yield."""
    venue, market = now.venue, now.market
    ahead = jnp.log(market.mid) - market.oracle
    costs = Costs(venue.gas, venue.half_spread)
    return room_for(venue.incentive, now.policy, penalty, costs, market.log_volatility, ahead)


def _able(room: Room, now: ClosingNow) -> tuple[PerPath, PerPath]:
    """What the closes of each side may sell at the market price without moving it further than that; negative where it has moved
    further already."""
    market = now.market
    able = lambda room: now.liquidity.flow_that_costs(larger(room, 0.0), market.depth)  # noqa: E731
    return able(room[0]) - market.fading, able(room[1]) + market.fading


def bonus_now(now: ClosingNow) -> BonusLevels | None:
    """What the venue asks of each account, at its health at the oracle price."""
    incentive = now.venue.incentive
    if incentive is None or incentive.bonus is None:
        return None
    seen = execution_at(now.book, jnp.exp(now.market.oracle), now.scale)
    return bonus_levels(incentive.bonus, now.policy.penalty, seen.cover, seen.price / now.scale, now.required)


def affordable_part(asked: CohortPath, room: Room, now: ClosingNow) -> CohortPath:
    """The part that keepers close of what there is to close in each cohort: the same for all of a side."""
    side, market = now.book.side[:, None], now.market
    volume = now.book.weights * asked * market.mid
    longs, shorts = (
        part_of(larger(able, 0.0), sum_of_rows(jnp.where(side == sign, volume, 0.0)))
        for able, sign in zip(_able(room, now), (1.0, -1.0), strict=True)
    )
    part = jnp.where(side > 0, longs, shorts)
    if market.allowance is None:
        return part
    return part * part_of(market.allowance, sum_of_rows(part * volume))
