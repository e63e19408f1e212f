"""One step of the auctions: what of the accounts on offer is taken, at which price.

Buyers sell what they take in the market, and take on until it has sunk, or risen, to the price asked, spread and gas counted in.
Offers that are worth taking are taken at the same pace: the market's first movement is shared by all of them, its last part by
those that are worth most. All of a place is taken in the same part, since its price is one.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from calibrate.book import Closed, level_holding, riskiest, share_below, worst
from calibrate.closes import Closes, account_for, execution_at, losses_by_side, sold_at
from calibrate.extremes import larger, smaller
from calibrate.front_state import ClosingNow, FrontState, MarketNow, accounts_between
from calibrate.liquidity import Liquidity
from calibrate.offers import LEAST_WIDTH, Offers, moments_between, offered
from calibrate.rationing import part_of
from calibrate.slices import some_of
from calibrate.touched import Moments, band_of
from calibrate.units import CohortPath, Index, PerPath, Scalar
from calibrate.venue.auction import Auction
from calibrate.venue.incentive import gas_now

PlaceSidePath = Float[Array, "place side path"]

# Longs and shorts, on the axis of sides.
_SIGNS = (1.0, -1.0)


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
    offers, closes = _taken(auction, offered(offers, arriving, now.step, market.oracle), now)
    waiting = worst(sold_at(book, venue, market.mid, scale).cover - level)
    return moved, closes._replace(distance=larger(closes.distance, smaller(waiting, 0.0))), offers


class _Takers(NamedTuple):
    """What taking an offer costs beside its price, per unit of notional: gas and half the spread; and the market sold into."""

    cost: Scalar | PerPath
    market: MarketNow
    liquidity: Liquidity

    def worth(self, asked: PlaceSidePath) -> PlaceSidePath:
        """How far the market could move against the undisturbed price before the offers stop being worth taking, in logs."""
        sign = _signs(asked)
        return sign * (self.market.undisturbed - asked) - self.cost

    def room(self, worth: PlaceSidePath) -> PlaceSidePath:
        """The volume that moves it so far, beyond the flow that there is."""
        size = self.liquidity.flow_that_costs(jnp.abs(worth), self.market.depth)
        return larger(jnp.where(worth > 0, size, -size) - _signs(worth) * self.market.flow, 0.0)

    def nearest(self, worth: PlaceSidePath) -> PlaceSidePath:
        """How far offers are from being taken: positive where some of them is."""
        return worth - _signs(worth) * self.liquidity.displacement(self.market.flow, self.market.depth)


def _signs(like: PlaceSidePath) -> Float[Array, "side 1"]:
    return jnp.asarray(_SIGNS, like.dtype)[:, None]


def _asked(auction: Auction, offers: Offers, index: Index) -> PlaceSidePath:
    """The log-price asked in each place for longs, and for shorts."""
    age = (index - jnp.arange(auction.longest)) % auction.longest
    multiples = auction.multiples[age][:, None]
    return jnp.stack([offers.start + sign * multiples for sign in _SIGNS], axis=1)


def at_one_pace(room: PlaceSidePath, volume: PlaceSidePath) -> PlaceSidePath:
    """The part of each place's volume that is taken, when in all there may be sold what each has `room` for: at a flow `f` all
    places with more room than that are taken at the same rate, so the part is the integral of `df / S(f)` up to the room, `S(f)`
    being the volume in places with room for more than `f`; and at most 1."""
    order = jnp.argsort(room, axis=0)
    room, volume = (jnp.take_along_axis(values, order, axis=0) for values in (room, volume))
    more = jnp.diff(room, axis=0, prepend=jnp.zeros_like(room[:1]))
    behind = lax.cumsum(volume, axis=0, reverse=True)
    part = smaller(lax.cumsum(more / larger(behind, _NOTHING), axis=0), 1.0)
    return jnp.take_along_axis(part, jnp.argsort(order, axis=0), axis=0)


# Of open interest, a share that shows in no figure.
_NOTHING = 1e-9


def _taken(auction: Auction, offers: Offers, now: ClosingNow) -> tuple[Offers, Closes]:
    """Take what is worth its price. What is left, and what was closed."""
    book, market, scale = now.book, now.market, now.scale
    gas = gas_now(now.venue.incentive, now.venue.gas, market.log_volatility)
    takers = _Takers(gas + now.venue.half_spread, market, now.liquidity)
    maintenance, by_side = now.required * market.mid / scale, losses_by_side(book, now.venue, market.oracle, scale)
    longs = book.side[:, None] > 0
    of_cohort = lambda by_side: jnp.where(longs, by_side[:, :1], by_side[:, 1:])  # noqa: E731
    prices = _asked(auction, offers, now.step)
    worth = takers.worth(prices)
    volume = jnp.stack(jax.vmap(book.of_sides)(offers.accounts.share * market.mid), axis=1)
    part = of_cohort(at_one_pace(takers.room(worth), volume))
    if market.paused is not None:
        part = jnp.where(market.paused, 0.0, part)

    def closed(moments: Moments, part: CohortPath, log_price: CohortPath, near: CohortPath) -> Closes:
        execution = execution_at(book, jnp.exp(log_price), scale)
        band = band_of(moments, LEAST_WIDTH * maintenance)
        closes = account_for(book, now.policy, execution, some_of(part, band.slice()), scale, by_side=by_side)
        distance = jnp.where(band.height > 0, smaller(near / scale, execution.cover - band.low), -1e9)
        sold = book.over_cohorts(book.side[:, None] * part * moments.share) * market.mid
        return closes._replace(sold=sold, distance=worst(distance))

    near = of_cohort(takers.nearest(worth))
    by_place = jax.vmap(closed)(offers.accounts, part, of_cohort(prices), near)
    closes = jax.tree.map(lambda values: jnp.sum(values, axis=0), by_place)
    left = jax.tree.map(lambda moment: (1 - part) * moment, offers.accounts)
    return offers._replace(accounts=left), closes._replace(distance=jnp.max(by_place.distance, axis=0))
