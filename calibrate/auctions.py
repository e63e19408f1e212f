"""One step of the auctions: what of the accounts on offer is taken, at which price.

Buyers sell what they take in the market, and take on until it has sunk, or risen, to the price asked, spread and gas counted in.
Offers that are worth taking are taken at the same pace: the market's first movement is shared by all of them, its last part by
those that are worth most. All of a place is taken in the same part, since its price is one. What is taken of a cohort in a step
is then accounted for at once: of what its accounts are worth at their own prices the first two moments are exact.
"""

from typing import NamedTuple

import jax.numpy as jnp

from calibrate.book import Book, Closed, level_holding, riskiest, share_below, sum_of_rows, worst
from calibrate.closes import Closes, Execution, account_for, execution_at, losses_by_side, sold_at
from calibrate.compiled import computed_once
from calibrate.extremes import larger, smaller
from calibrate.front_state import ClosingNow, FrontState, MarketNow, accounts_between
from calibrate.liquidity import Liquidity
from calibrate.offers import LEAST_WIDTH, Offers, PlaceSidePath, asked, moments_between, offered, signs
from calibrate.rationing import part_of
from calibrate.touched import Moments, band_of
from calibrate.units import CohortPath, PerPath, Scalar
from calibrate.venue.auction import Auction
from calibrate.venue.incentive import gas_now


def auction_off(
    state: FrontState, target: CohortPath, reach: CohortPath, now: ClosingNow
) -> tuple[Closed, Closes, Offers]:
    """Accounts that are reached are offered, as far as there is room for them, and offers that are worth taking are taken."""
    del target
    book, venue, market, scale = now.book, now.venue, now.market, now.scale
    auction, offers = venue.auction, state.touched
    assert auction is not None
    assert isinstance(offers, Offers)
    wanted = share_below(book.density, reach)
    share, level = wanted, reach
    if auction.most is not None:
        room = larger(auction.most - book.over_cohorts(offers.share) * market.mid, 0.0)
        part = part_of(room, book.over_cohorts(wanted - state.closed.share) * market.mid)
        share = state.closed.share + part * (wanted - state.closed.share)
        level = jnp.where(part < 1, level_holding(book.density, share), reach)
    moved = Closed(state.closed_level, state.closed, level, riskiest(book.density, share, level))
    arriving = moments_between(accounts_between(book, state, venue, moved), moved.low, moved.high)
    offers, closes = _taken(auction, offered(auction, offers, arriving, now.step, market.oracle, book), now)
    waiting = worst(sold_at(book, venue, market.mid, scale).cover - level)
    return moved, closes._replace(distance=larger(closes.distance, smaller(waiting, 0.0))), offers


class _Takers(NamedTuple):
    """What taking an offer costs beside its price, per unit of notional: gas and half the spread; and the market sold into."""

    cost: Scalar | PerPath
    market: MarketNow
    liquidity: Liquidity

    def worth(self, asked: PlaceSidePath) -> PlaceSidePath:
        """How far the market could move against the undisturbed price before the offers stop being worth taking, in logs."""
        return signs(asked) * (self.market.undisturbed - asked) - self.cost

    def room(self, worth: PlaceSidePath) -> PlaceSidePath:
        """The volume that moves it so far, beyond the flow that there is."""
        size = self.liquidity.flow_that_costs(jnp.abs(worth), self.market.depth)
        return larger(jnp.where(worth > 0, size, -size) - signs(worth) * self.market.flow, 0.0)

    def nearest(self, worth: PlaceSidePath) -> PlaceSidePath:
        """How far offers are from being taken: positive where some of them is."""
        return worth - signs(worth) * self.liquidity.displacement(self.market.flow, self.market.depth)


def at_one_pace(room: PlaceSidePath, volume: PlaceSidePath) -> PlaceSidePath:
    """The part of each place's volume that is taken, when in all there may be sold what each has `room` for: at a flow `f` all
    places with more room than that are taken at the same rate, so the part is the integral of `df / S(f)` up to the room, `S(f)`
    being the volume in places with room for more than `f`; and at most 1.

    Each place is held against each other one: of a dozen places that takes a tenth of the time of sorting them."""
    rooms, volumes = list(room), list(volume)
    rates = []
    for j, (own, _) in enumerate(zip(rooms, volumes, strict=True)):
        reached, behind = jnp.zeros_like(own), jnp.zeros_like(own)
        for i, (other, there) in enumerate(zip(rooms, volumes, strict=True)):
            # Of places with the same room the first counts as the lesser.
            less = other < own if i >= j else other <= own
            reached = larger(reached, jnp.where(less, other, 0.0))
            behind = behind + jnp.where(less, 0.0, there)
        rates.append((own - reached) / larger(behind, _NOTHING))
    parts = [sum(jnp.where(other <= own, rate, 0.0) for other, rate in zip(rooms, rates, strict=True)) for own in rooms]
    return smaller(jnp.stack(parts), 1.0)


# Of open interest, a share that shows in no figure.
_NOTHING = 1e-9


def _taken(auction: Auction, offers: Offers, now: ClosingNow) -> tuple[Offers, Closes]:
    """Take what is worth its price. What is left, and what was closed."""
    book, market, scale = now.book, now.market, now.scale
    gas = gas_now(now.venue.incentive, now.venue.gas, market.log_volatility)
    takers = _Takers(gas + now.venue.half_spread, market, now.liquidity)
    longs = book.side[:, None] > 0
    of_cohort = lambda by_side: jnp.where(longs, by_side[:, :1], by_side[:, 1:])  # noqa: E731
    prices_asked = asked(auction, offers, now.step)
    worth = takers.worth(prices_asked)
    volume = offers.of_sides(book) * market.mid
    part = computed_once(lambda: of_cohort(at_one_pace(takers.room(worth), volume)), market.mid)
    if market.paused is not None:
        part = jnp.where(market.paused, 0.0, part)

    taken, left = (Moments(*(some * moment for moment in offers.accounts[:3])) for some in (part, 1 - part))
    least_width = LEAST_WIDTH * now.required * market.mid / scale
    prices = computed_once(lambda: execution_at(book, of_cohort(jnp.exp(prices_asked)), scale), market.mid)
    execution, together = computed_once(lambda: at_one_price(book, taken, prices, scale), market.mid)
    band = band_of(together, least_width)
    by_side = losses_by_side(book, now.venue, market.oracle, scale)
    closes = account_for(book, now.policy, execution, band.slice(), scale, by_side=by_side)
    sold = book.over_cohorts(book.side[:, None] * together.share) * market.mid

    # Offers that are not taken are as far from a deficit as the market is from what is asked, or as their worst account is.
    near = of_cohort(takers.nearest(worth)) / scale
    waiting = band_of(offers.accounts, least_width)
    untaken = smaller(smaller(near, prices.cover - waiting.low), 0.0)
    of_place = worst(jnp.where(waiting.height > 0, untaken, _NOBODYS))
    of_taken = jnp.where(band.height > 0, smaller(worst(near), execution.cover - band.low), _NOBODYS)
    distance = worst(larger(of_place, of_taken))
    return offers._replace(accounts=left), closes._replace(sold=sold, distance=distance)


# The distance from a deficit where there is nobody to have one.
_NOBODYS = -1e9


def at_one_price(book: Book, taken: Moments, at: Execution, scale: PerPath | CohortPath) -> tuple[Execution, Moments]:
    """What was taken in all places as if at one price, the mean of what was paid for it. Accounts keep what they are worth at their
    own price: their levels move by as much as the level moves that just covers the loss."""
    share, collateral = sum_of_rows(taken.share), sum_of_rows(taken.collateral)
    mean = sum_of_rows(taken.share * at.price) / jnp.where(share > 0, share, 1.0)
    execution = execution_at(book, jnp.where(share > 0, mean, 1.0), scale)
    shift = execution.cover - at.cover
    square = sum_of_rows(taken.square + shift * (2 * taken.collateral + shift * taken.share))
    return execution, Moments(share, collateral, square)
