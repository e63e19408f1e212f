"""One time step of the liquidation engine: the fronts.

Accounts of a cohort are liquidatable when their collateral lies below a level `G` that moves with the oracle price and the
margin. The *trigger front* is the highest such level so far; the *execution front* `K` is the level below which everything
has been closed. Keepers move `K` towards what they saw some steps ago, as far as their profit allows. What the accounts
between the old and the new `K` lose, pay and get back are closed forms of the book. Two numbers per cohort thus stand for all
its accounts, exactly, and every result is a Lipschitz function of the parameters: derivatives along the path are unbiased.

Levels are in units of collateral at the reference requirement (see `book.py`); amounts in shares of initial open interest.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from calibrate.book import Below, Book, accounts_below, level_holding
from calibrate.liquidity import Flow, Liquidity
from calibrate.oracle import OracleView
from calibrate.policy import Policy
from calibrate.units import CohortPath, Index, PerPath
from calibrate.venue import Venue


class FrontState(NamedTuple):
    """Per cohort: highest level triggered so far, level closed so far, the accounts below it, and what keepers have under way."""

    triggered: CohortPath
    closed_level: CohortPath
    closed: Below
    under_way: Float[Array, "delay cohort path"]


class Closes(NamedTuple):
    """What the closes of one step did, summed over cohorts, as shares of initial open interest (but `distance`).

    `share` and `insolvent_share` count initial notional, `notional` is at the closing price. The owners' `collateral` and
    their profit `pnl` end up as what is `returned` to them and as `penalty`; `bad_debt` is what is missing. `sold` is the
    net selling that the market has to absorb. `distance` is how far the worst open account was from a deficit, in units of
    collateral: negative as long as none was closed at a loss, positive else.
    """

    share: PerPath
    notional: PerPath
    insolvent_share: PerPath
    collateral: PerPath
    pnl: PerPath
    returned: PerPath
    penalty: PerPath
    bad_debt: PerPath
    sold: PerPath
    distance: PerPath


class MarketNow(NamedTuple):
    """The market as this step's closes find it: mid price, depth, all flow that displaces it, and the part that still fades."""

    mid: PerPath
    depth: PerPath
    flow: PerPath
    fading: PerPath


class Execution(NamedTuple):
    """At what closes are done: each cohort's closing price, and the collateral that just covers its loss there."""

    price: CohortPath
    cover: CohortPath


def start_fronts(book: Book, venue: Venue, like: PerPath) -> FrontState:
    lowest = book.lowest_collateral(like)
    nothing = jnp.zeros_like(lowest)
    return FrontState(nothing, lowest, Below(nothing, nothing), venue.keeper_delay.empty_line(nothing))


def step_fronts(
    state: FrontState,
    view: OracleView,
    margin: PerPath,
    market: MarketNow,
    index: Index,
    scale: PerPath,
    *,
    book: Book,
    venue: Venue,
    liquidity: Liquidity,
    policy: Policy,
) -> tuple[FrontState, Closes]:
    """Move the fronts by one step and account for what is closed.

    `margin` is the maintenance requirement, `market` the state that these closes find, `scale` everyone's collateral relative
    to the reference.
    """
    liquidatable = trigger_level(book, view, margin) / scale
    triggered = advance(state.triggered, liquidatable)
    under_way, seen = venue.keeper_delay.through(state.under_way, index, liquidatable if venue.recheck else triggered)
    target = jnp.minimum(seen, liquidatable) if venue.recheck else seen

    reach = advance(state.closed_level, target)

    def close() -> tuple[CohortPath, Below]:
        level = _within_capacity(state, reach, market, book, venue, liquidity, policy)
        return level, accounts_below(book.density, level)

    # The branch also keeps the compiler from computing these integrals anew for every quantity that uses them.
    closed_level, closed = lax.cond(
        jnp.any(reach > state.closed_level), close, lambda: (state.closed_level, state.closed)
    )
    newly = closed - state.closed
    sold = jnp.sum(book.weight[:, None] * book.side[:, None] * newly.share, axis=0) * market.mid
    execution = execution_at(book, venue, _filled(liquidity, market, sold), scale)
    closes = account_for(book, policy, execution, state, closed_level, newly, scale)
    distance = jnp.minimum(target, execution.cover) - state.closed_level
    closes = closes._replace(sold=sold, distance=jnp.max(distance, axis=0))
    return FrontState(triggered, closed_level, closed, under_way), closes


def _filled(liquidity: Liquidity, market: MarketNow, sold: PerPath) -> PerPath:
    """The average price of this step's closes: half of the displacement that they add together is theirs to pay."""
    before, halfway = (liquidity.displacement(flow, market.depth) for flow in (market.flow, market.flow + sold / 2))
    return market.mid * jnp.exp(before - halfway)


def advance(front: CohortPath, level: CohortPath) -> CohortPath:
    """A front moves up to a level, and never back."""
    return jnp.maximum(front, level)


def trigger_level(book: Book, view: OracleView, margin: PerPath) -> CohortPath:
    """Collateral below which accounts are liquidatable: equity `c + s (O - 1)` below `margin * O` at the oracle price O."""
    side = book.side[:, None]
    oracle = jnp.exp(jnp.where(side > 0, view.lowest, view.highest))
    return margin * oracle - side * (oracle - 1)


def execution_at(book: Book, venue: Venue, mid: PerPath, scale: PerPath) -> Execution:
    side = book.side[:, None]
    price = mid * (1 - side * venue.half_spread)
    return Execution(price, -side * (price - 1) / scale)


def _within_capacity(
    state: FrontState,
    reach: CohortPath,
    market: MarketNow,
    book: Book,
    venue: Venue,
    liquidity: Liquidity,
    policy: Policy,
) -> CohortPath:
    """How far the execution front gets towards `reach`."""
    if venue.unlimited_keepers:
        return reach
    wanted = accounts_below(book.density, reach).share - state.closed.share
    side = book.side[:, None]
    earned = jnp.maximum(policy.keeper_share * policy.penalty - venue.gas, 0.0)
    profitable = liquidity.flow_that_costs(earned, market.depth)
    volume = book.weight[:, None] * wanted * market.mid
    fraction = jnp.ones_like(wanted)
    for sign in (1.0, -1.0):
        room = jnp.maximum(profitable - sign * market.fading, 0.0)
        asked = jnp.sum(jnp.where(side == sign, volume, 0.0), axis=0)
        short = asked > room
        fraction = jnp.where((side == sign) & short, room / jnp.where(short, asked, 1.0), fraction)
    partial = level_holding(book.density, state.closed.share + fraction * wanted)
    return jnp.where(fraction < 1, jnp.clip(partial, state.closed_level, reach), reach)


def deficits_below(
    book: Book, strike: CohortPath, low: CohortPath, below_low: Below, high: CohortPath
) -> tuple[CohortPath, CohortPath]:
    """For the accounts between `low` and `high` with less collateral than `strike`: the sum of what they lack, and their share."""
    within = accounts_below(book.density, jnp.clip(strike, low, high)) - below_low
    short = strike > low
    lacking = strike * within.share - within.collateral
    return jnp.where(short, jnp.maximum(lacking, 0.0), 0.0), jnp.where(short, within.share, 0.0)


def _where_any_falls_short(
    book: Book, cover: CohortPath, cover_and_fee: CohortPath, low: CohortPath, below_low: Below, high: CohortPath
) -> tuple[CohortPath, CohortPath, CohortPath]:
    """Deficits below the cover, the share that has them, and deficits below cover and fee. Almost always every account
    that is closed can pay, on all paths of a chunk; then nothing is computed."""

    def reckon() -> tuple[CohortPath, CohortPath, CohortPath]:
        deficit, share = deficits_below(book, cover, low, below_low, high)
        return deficit, share, deficits_below(book, cover_and_fee, low, below_low, high)[0]

    def nothing() -> tuple[CohortPath, CohortPath, CohortPath]:
        zero = jnp.zeros_like(cover)
        return zero, zero, zero

    return lax.cond(jnp.any((cover_and_fee > low) & (high > low)), reckon, nothing)


def account_for(
    book: Book,
    policy: Policy,
    execution: Execution,
    before: FrontState,
    high: CohortPath,
    newly: Below,
    scale: PerPath,
) -> Closes:
    """Losses, penalties and what is returned, for the accounts `newly` closed: those up to the level `high`."""
    weight, side, low = book.weight[:, None], book.side[:, None], before.closed_level
    price, cover = execution.price, execution.cover
    fee = policy.penalty * price / scale
    deficit, insolvent_share, below_cover_and_fee = _where_any_falls_short(
        book, cover, cover + fee, low, before.closed, high
    )
    # min(fee, equity+) = fee - (cover + fee - c)+ + (cover - c)+, account by account.
    penalty = fee * newly.share - below_cover_and_fee + deficit
    # (c - cover - fee)+ = (c - cover - fee) + (cover + fee - c)+
    returned = newly.collateral - (cover + fee) * newly.share + below_cover_and_fee

    def summed(per_cohort: CohortPath) -> PerPath:
        return jnp.sum(weight * per_cohort, axis=0)

    return Closes(
        share=summed(newly.share),
        notional=summed(newly.share * price),
        insolvent_share=summed(insolvent_share),
        collateral=summed(scale * newly.collateral),
        pnl=summed(side * (price - 1) * newly.share),
        returned=summed(scale * returned),
        penalty=summed(scale * penalty),
        bad_debt=summed(scale * deficit),
        sold=jnp.zeros_like(scale),
        distance=jnp.zeros_like(scale),
    )


def open_deficit(book: Book, state: FrontState, execution: Execution, scale: PerPath) -> tuple[PerPath, PerPath]:
    """Deficits of accounts that are still open, and the distance of the worst of them from one (see `Closes`)."""
    highest = jnp.broadcast_to(book.density.knots[:, -1:], execution.cover.shape)
    deficit, _ = deficits_below(book, execution.cover, state.closed_level, state.closed, highest)
    distance = jnp.max(execution.cover - state.closed_level, axis=0)
    return jnp.sum(book.weight[:, None] * scale * deficit, axis=0), distance


def closed_falsely(book: Book, state: FrontState, seen: PerPath, margin: PerPath, scale: PerPath) -> PerPath:
    """Share of open interest closed although it would meet maintenance at the log-price `seen` now."""
    required = trigger_level(book, OracleView(seen, seen, seen), margin) / scale
    not_needed = state.closed.share - accounts_below(book.density, jnp.minimum(required, state.closed_level)).share
    return jnp.sum(book.weight[:, None] * jnp.maximum(not_needed, 0.0), axis=0)


def market_after(liquidity: Liquidity, flow: Flow, closes: Closes) -> Flow:
    """The market takes up what was closed; it moves the price from the next step on."""
    return liquidity.add(flow, closes.sold)
