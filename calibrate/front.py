"""One time step of the liquidation engine: the fronts.

Accounts of a cohort are liquidatable when their collateral lies below a level `G` that moves with the oracle price and the
margin. The *trigger front* is the highest such level so far; the *execution front* `K` is the level below which everything
has been closed. Keepers move `K` towards what they saw some steps ago, as far as their profit allows. What the accounts
between the old and the new `K` lose, pay and get back are closed forms of the book. Two numbers per cohort thus stand for all
its accounts, exactly, and every result is a Lipschitz function of the parameters: derivatives along the path are unbiased.

Levels are in units of collateral at the reference requirement (see `book.py`); amounts in shares of initial open interest.
"""

import operator

import jax
import jax.numpy as jnp

from calibrate.auctions import auction_off
from calibrate.book import Below, Book, Closed, level_holding, riskiest, share_below, worst
from calibrate.capacity import Room, affordable_part, bonus_now, room_now, worth_closing
from calibrate.closes import (
    Closes,
    Execution,
    SideLosses,
    account_for,
    execution_at,
    losses_by_side,
    part_closed,
    sold_at,
)
from calibrate.compiled import computed_once
from calibrate.extremes import clipped, larger, smaller
from calibrate.front_state import Called, ClosingNow, FrontState, MarketNow, accounts_between
from calibrate.liquidity import Flow, Liquidity
from calibrate.oracle import OracleView
from calibrate.policy import Policy
from calibrate.slices import up_to
from calibrate.touched import (
    LEAST_WIDTH,
    Touched,
    after,
    band_of,
    below,
    only,
    parted_band,
    parted_book,
    progress_of,
)
from calibrate.units import CohortPath, Index, PerPath, Scalar
from calibrate.venue import Venue
from calibrate.venue.backstop import Losers, Payments
from calibrate.venue.close import Terms


def step_fronts(
    state: FrontState,
    view: OracleView,
    margin: PerPath,
    market: MarketNow,
    index: Index,
    scale: PerPath | CohortPath,
    dt: Scalar,
    *,
    book: Book,
    venue: Venue,
    liquidity: Liquidity,
    policy: Policy,
) -> tuple[FrontState, Closes]:
    """Move the fronts by one step and account for what is closed.

    `margin` is the maintenance requirement, `market` the state that these closes find, `scale` everyone's collateral relative
    to the reference, `dt` the length of the step in years.
    """
    book = book.thinned(state.left)
    allowance = state.allowance
    if venue.cap is not None and allowance is not None:
        allowance = smaller(allowance + venue.cap.refill * dt, venue.cap.most)
        market = market._replace(allowance=allowance)
    required = venue.maintenance(margin)
    if venue.trigger is not None and venue.trigger.at_market:
        view = OracleView(*[jnp.log(market.mid)] * 3)
    state = state._replace(called=_called(state, book, view, required, index, scale, venue))
    asked = required if venue.trigger is None else required + venue.trigger.extra
    liquidatable = computed_once(lambda: trigger_level(book, view, asked) / scale, scale)
    triggered = advance(state.triggered, liquidatable)
    under_way, seen = venue.keeper_delay.through(state.under_way, index, liquidatable if venue.recheck else triggered)
    target = smaller(seen, liquidatable) if venue.recheck else seen
    if venue.batch is not None:
        target = jnp.where((index + 1) % venue.batch == 0, target, _NOBODYS)
    if market.paused is not None:
        target = jnp.where(market.paused, 0.0, target)

    reach = advance(state.closed_level, target)
    part_or_whole = _close_in_full if venue.close is None else _close_in_part
    now = ClosingNow(book, venue, liquidity, policy, market, required, scale, index)
    moved, closes, touched = (part_or_whole if venue.auction is None else auction_off)(state, target, reach, now)
    left = None if allowance is None else larger(allowance - closes.share * market.mid, 0.0)
    return FrontState(
        triggered, moved.high, moved.below_high, under_way, state.left, touched, state.called, left, state.ranked_out
    ), closes


# A level that no account is below.
_NOBODYS = -1e9


def _called(
    state: FrontState,
    book: Book,
    view: OracleView,
    required: PerPath | CohortPath,
    index: Index,
    scale: PerPath | CohortPath,
    venue: Venue,
) -> Called | None:
    """Margin calls go out and are answered by those who have not been closed."""
    called = state.called
    if called is None or venue.calls is None:
        return None
    warned = advance(called.warned, trigger_level(book, view, venue.calls.warning * required) / scale)
    under_way, answered = venue.calls.response.through(called.under_way, index, warned)
    newly = share_below(book.density, larger(answered, state.closed_level)) - share_below(
        book.density, larger(called.answered, state.closed_level)
    )
    return Called(warned, under_way, answered, called.topped_up + venue.calls.top_up * book.over_cohorts(newly))


def _close_in_full(
    state: FrontState, target: CohortPath, reach: CohortPath, now: ClosingNow
) -> tuple[Closed, Closes, None]:
    """Every account that is reached loses all of its position."""
    book, scale = now.book, now.scale
    closed_level, closed = _within_capacity(state, reach, now)
    moved = Closed(state.closed_level, state.closed, closed_level, closed)
    accounts = accounts_between(book, state, now.venue, moved)
    sold = book.over_cohorts(book.side[:, None] * accounts.share) * now.market.mid
    execution = computed_once(lambda: _execution(now, sold), scale)
    by_side = losses_by_side(book, now.venue, now.market.oracle, scale)
    closes = account_for(book, now.policy, execution, accounts, scale, bonus=bonus_now(now), by_side=by_side)
    distance = smaller(target, execution.cover) - state.closed_level
    return moved, closes._replace(sold=sold, distance=worst(distance)), None


def _close_in_part(
    state: FrontState, target: CohortPath, reach: CohortPath, now: ClosingNow
) -> tuple[Closed, Closes, Touched]:
    """Accounts that are reached lose what the close rule says at the price before these closes."""
    book, venue, policy, scale, required = now.book, now.venue, now.policy, now.scale, now.required
    rule, touched = venue.close, state.touched
    assert rule is not None
    assert isinstance(touched, Touched)
    terms = computed_once(lambda: _terms(now, _before(now)), reach)
    reached = computed_once(lambda: below(band_of(touched.ready, LEAST_WIDTH * required / scale), target), reach)
    progress = computed_once(lambda: progress_of(touched.ready), reach)
    again = parted_band(rule, terms, progress, reached)
    moved = Closed(
        state.closed_level, state.closed, reach, riskiest(book.density, share_below(book.density, reach), reach)
    )
    fresh = parted_book(book, rule, terms, moved)
    part = jnp.ones_like(reach)
    if not venue.unlimited_keepers:
        room = room_now(now, (policy.penalty, policy.penalty))
        part = computed_once(lambda: affordable_part(fresh.closed + again.closed, room, now), reach)
        share = state.closed.share + part * (moved.below_high.share - state.closed.share)
        level = jnp.where(part < 1, level_holding(book.density, share), reach)
        moved = moved._replace(high=level, below_high=riskiest(book.density, share, level))
        fresh, again = parted_book(book, rule, terms, moved), only(part, again)

    sold = book.over_cohorts(book.side[:, None] * (fresh.closed + again.closed)) * now.market.mid
    execution = computed_once(lambda: _execution(now, sold), reach)
    by_side = losses_by_side(book, venue, now.market.oracle, scale)
    in_full = [account_for(book, policy, execution, one.in_full, scale, by_side=by_side) for one in (fresh, again)]
    in_part = part_closed(book, policy, execution, fresh.in_part + again.in_part, scale, by_side=by_side)
    lowest_left = jnp.where(reached.height > 0, smaller(state.closed_level, reached.low), state.closed_level)
    distance = smaller(target, execution.cover) - lowest_left
    closes = jax.tree.map(lambda *parts: sum(parts), *in_full, in_part)._replace(sold=sold, distance=worst(distance))
    settled = _terms(now, execution)
    return moved, closes, after(touched, rule, now.step, settled, fresh, again, reached, part, state.closed.share)


def _terms(now: ClosingNow, execution: Execution) -> Terms:
    price = execution.price / now.scale
    return Terms(execution.cover, now.policy.penalty * price, now.required * price, price, execution.price)


def _execution(now: ClosingNow, sold: PerPath) -> Execution:
    """At what the closes of this step are done, when they sell so much on balance."""
    if _at_oracle_price(now.venue):
        return _before(now)
    return sold_at(now.book, now.venue, _filled(now, sold), now.scale)


def _before(now: ClosingNow) -> Execution:
    """At what a first small close would be done."""
    if _at_oracle_price(now.venue):
        return execution_at(now.book, jnp.exp(now.market.oracle), now.scale)
    return sold_at(now.book, now.venue, now.market.mid, now.scale)


def _at_oracle_price(venue: Venue) -> bool:
    return venue.incentive is not None and venue.incentive.at_oracle_price


def _filled(now: ClosingNow, sold: PerPath) -> PerPath:
    """The average price of this step's closes: half of the displacement that they add together is theirs to pay."""
    halfway = now.liquidity.displacement(now.market.flow + sold / 2, now.market.depth)
    return jnp.exp(now.market.undisturbed - halfway)


def advance(front: CohortPath, level: CohortPath) -> CohortPath:
    """A front moves up to a level, and never back."""
    return larger(front, level)


def trigger_level(book: Book, view: OracleView, margin: PerPath | CohortPath) -> CohortPath:
    """Collateral below which accounts are liquidatable: equity `c + s (O - 1)` below `margin * O` at the oracle price O."""
    side = book.side[:, None]
    oracle = jnp.where(side > 0, jnp.exp(view.lowest), jnp.exp(view.highest))
    return margin * oracle - side * (oracle - 1)


def _within_capacity(state: FrontState, reach: CohortPath, now: ClosingNow) -> tuple[CohortPath, Below]:
    """How far the execution front gets towards `reach`, and the accounts then below it."""
    density = now.book.density
    if now.venue.unlimited_keepers:
        return reach, riskiest(density, share_below(density, reach), reach)
    upto = lambda level: clipped(level, state.closed_level, reach)  # noqa: E731
    asked = lambda level: _asked(state, upto(level), now)  # noqa: E731
    worth = worth_closing(bonus_now(now), state.closed_level, reach, asked, now)
    reach = upto(worth.level)
    wanted = share_below(density, reach)
    share = computed_once(lambda: _affordable(state, wanted, reach, worth.room, now), now.market.mid)
    level = jnp.where(share < wanted, level_holding(density, share), reach)
    return level, riskiest(density, share, level)


def _asked(state: FrontState, reach: CohortPath, now: ClosingNow) -> CohortPath:
    """The share of each cohort that there is to close up to a level."""
    asked, calls = share_below(now.book.density, reach) - state.closed.share, now.venue.calls
    return asked if calls is None else asked - calls.top_up * _called_upon(state, reach, now)


def _called_upon(state: FrontState, reach: CohortPath, now: ClosingNow) -> CohortPath:
    """The share of each cohort, among those to be closed up to a level, of which some have topped up."""
    assert state.called is not None
    density = now.book.density
    to_reach = Closed(state.closed_level, state.closed, reach, riskiest(density, share_below(density, reach), reach))
    return up_to(now.book, to_reach, state.called.answered).below_high.share - state.closed.share


def _affordable(state: FrontState, wanted: CohortPath, reach: CohortPath, room: Room, now: ClosingNow) -> CohortPath:
    """The share of each cohort that keepers close in all, of the share that is `wanted`: as much as costs them their profit."""
    closed, calls = state.closed.share, now.venue.calls
    if calls is None:
        part = affordable_part(wanted - closed, room, now)
        return jnp.where(part < 1, closed + part * (wanted - closed), wanted)
    # Of the riskiest accounts some have topped up, so that a share of what is left reaches further up there.
    lower, stay = _called_upon(state, reach, now), 1 - calls.top_up
    asked = stay * lower + (wanted - closed - lower)
    part = affordable_part(asked, room, now)
    among_lower = part * asked / larger(stay, 1e-6)
    reached = jnp.where(among_lower < lower, among_lower, lower + part * asked - stay * lower)
    return jnp.where(part < 1, closed + reached, wanted)


def open_deficit(
    book: Book,
    state: FrontState,
    execution: Execution,
    required: PerPath | CohortPath,
    seen: PerPath,
    scale: PerPath | CohortPath,
    venue: Venue,
) -> tuple[PerPath, PerPath, tuple[Losers, Losers] | None]:
    """Deficits of accounts that are still open, the distance of the worst of them from one (see `Closes`), and who lacks it;
    `seen` is the log-price that the oracle shows."""
    book = book.thinned(state.left)
    rest = Closed(state.closed_level, state.closed, *book.all_accounts(execution.cover))
    untouched = accounts_between(book, state, venue, rest)
    deficit, lowest = untouched.lacking(execution.cover), state.closed_level
    by_side = losses_by_side(book, venue, seen, scale)
    lost = None if by_side is None else by_side.of(book, untouched, execution.cover, scale)
    if state.touched is not None:
        others, their_lowest = state.touched.remaining(required / scale)
        deficit, lowest = deficit + others.lacking(execution.cover), smaller(their_lowest, lowest)
        if by_side is not None:
            lost = jax.tree.map(operator.add, lost, by_side.of(book, others, execution.cover, scale))
    losers = None if lost is None else _facing(book, state, lost)
    in_all = scale * book.over_cohorts(deficit) if scale.ndim == 1 else book.over_cohorts(scale * deficit)
    return in_all, worst(execution.cover - lowest), losers


def losers_of(book: Book, state: FrontState, closes: Closes) -> tuple[Losers, Losers] | None:
    """Longs and shorts closed at a loss in a step after which the fronts are at `state`, where winners are deleveraged."""
    return None if closes.lost is None else _facing(book.thinned(state.left), state, closes.lost)


def _facing(book: Book, state: FrontState, lost: SideLosses) -> tuple[Losers, Losers]:
    longs, shorts = _still_open(book, state)
    found = (Losers(lost.deficit[0], lost.share[0], shorts), Losers(lost.deficit[1], lost.share[1], longs))
    if lost.beyond is None:
        return found
    return found[0]._replace(beyond=lost.beyond[0]), found[1]._replace(beyond=lost.beyond[1])


def _still_open(book: Book, state: FrontState) -> tuple[PerPath, PerPath]:
    still_open = 1 - state.closed.share
    if state.touched is not None:
        still_open = still_open + state.touched.share
    return book.of_sides(larger(still_open, 0.0))


def deleveraged(
    book: Book, state: FrontState, payments: Payments, sold: PerPath, mid: PerPath
) -> tuple[FrontState, PerPath]:
    """Winners on the other side lose their positions, all of them the same part or by rank, and what they take over is not sold."""
    if payments.deleveraged is None:
        return state, sold
    longs, shorts = _still_open(book.thinned(state.left), state)
    from_longs, from_shorts = payments.deleveraged
    taken_longs, taken_shorts = _part_taken(from_shorts, longs), _part_taken(from_longs, shorts)
    part, sold = jnp.where(book.side[:, None] > 0, taken_longs, taken_shorts), sold - (from_longs - from_shorts) * mid
    if state.left is not None:
        return state._replace(left=state.left * (1 - part)), sold
    return _without_the_first(book, state, part), sold


def _without_the_first(book: Book, state: FrontState, part: CohortPath) -> FrontState:
    """The most leveraged open accounts of each cohort have lost their positions without being liquidated."""
    assert state.ranked_out is not None
    gone = part * larger(1 - state.closed.share, 0.0)
    share = state.closed.share + gone
    level = jnp.where(gone > 0, larger(level_holding(book.density, share), state.closed_level), state.closed_level)
    return state._replace(
        closed_level=level, closed=riskiest(book.density, share, level), ranked_out=state.ranked_out + gone
    )


def _part_taken(taken: PerPath, there: PerPath) -> PerPath:
    return smaller(taken / jnp.where(there > 0, there, 1.0), 1.0)


def closed_falsely(
    book: Book, state: FrontState, seen: PerPath, margin: PerPath | CohortPath, scale: PerPath | CohortPath
) -> PerPath:
    """Share of open interest closed although it would meet maintenance at the log-price `seen` now."""
    required = trigger_level(book, OracleView(seen, seen, seen), margin) / scale
    not_needed = state.closed.share - share_below(book.density, smaller(required, state.closed_level))
    if state.ranked_out is not None:
        not_needed = not_needed - state.ranked_out
    if state.touched is not None:
        not_needed = state.touched.closed_needlessly(state.closed.share, not_needed, required, margin / scale)
    return book.over_cohorts(larger(not_needed, 0.0))


def market_after(liquidity: Liquidity, flow: Flow, sold: PerPath) -> Flow:
    """The market takes up what was sold; it moves the price from the next step on."""
    return liquidity.add(flow, sold)
