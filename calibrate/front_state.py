"""What the fronts of a path are, and the market that the closes of a step find.

Parts that belong to a rule are None where the venue does not have it, so that they cost nothing.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from calibrate.book import Below, Book, Closed
from calibrate.liquidity import Liquidity
from calibrate.offers import Offers, start_offers
from calibrate.policy import Policy
from calibrate.slices import Slice, slice_of, thinned_slice
from calibrate.touched import Touched, start_touched
from calibrate.units import CohortPath, Index, PerPath
from calibrate.venue import Venue
from calibrate.venue.trigger import MarginCalls


class FrontState(NamedTuple):
    """Per cohort: highest level triggered so far, level closed so far, the accounts below it, what keepers have under way, the
    part of its accounts that has not been deleveraged (None where nobody is, or by rank), and the share that has been by rank."""

    triggered: CohortPath
    closed_level: CohortPath
    closed: Below
    under_way: Float[Array, "delay cohort path"]
    left: CohortPath | None
    touched: Touched | Offers | None
    called: "Called | None" = None
    allowance: PerPath | None = None
    ranked_out: CohortPath | None = None


class Called(NamedTuple):
    """Per cohort: the highest warning level so far, those under way to their owners, and the level below which owners have had
    the time to respond; and the share of open interest that has topped up."""

    warned: CohortPath
    under_way: Float[Array, "delay cohort path"]
    answered: CohortPath
    topped_up: PerPath


class MarketNow(NamedTuple):
    """The market as this step's closes find it: mid price, the log-price that it would have without liquidations, depth, all
    flow that displaces it, the part of the flow that still fades, log-volatility, the log-price that the oracle shows,
    what may be closed at once (None without a cap), and where nothing may be (None: nowhere)."""

    mid: PerPath
    undisturbed: PerPath
    depth: PerPath
    flow: PerPath
    fading: PerPath
    log_volatility: PerPath
    oracle: PerPath
    allowance: PerPath | None = None
    paused: Bool[Array, " path"] | None = None


class ClosingNow(NamedTuple):
    """What the closes of one step depend on beside who is reached: the book, the rules, the market as it is, the maintenance
    requirement, everyone's collateral relative to the reference, and the number of the step."""

    book: Book
    venue: Venue
    liquidity: Liquidity
    policy: Policy
    market: MarketNow
    required: PerPath | CohortPath
    scale: PerPath | CohortPath
    step: Index


def start_fronts(book: Book, venue: Venue, like: PerPath) -> FrontState:
    lowest = book.lowest_collateral(like)
    nothing = jnp.zeros_like(lowest)
    ranks = venue.backstop is not None and venue.backstop.by_rank
    return FrontState(
        triggered=nothing,
        closed_level=lowest,
        closed=Below(nothing, nothing),
        under_way=venue.keeper_delay.empty_line(nothing),
        left=jnp.ones_like(lowest) if venue.deleverages and not ranks else None,
        touched=_started(venue, lowest),
        called=None if venue.calls is None else _nobody_called(venue.calls, nothing, like),
        allowance=None if venue.cap is None else venue.cap.most + jnp.zeros_like(like),
        ranked_out=nothing if ranks else None,
    )


def _nobody_called(calls: MarginCalls, nothing: CohortPath, like: PerPath) -> Called:
    return Called(nothing, calls.response.empty_line(nothing), nothing, jnp.zeros_like(like))


def _started(venue: Venue, like: CohortPath) -> Touched | Offers | None:
    """Accounts that a liquidation has reached without closing them at once: there are none yet."""
    if venue.auction is not None:
        return start_offers(venue.auction, like)
    return None if venue.close is None else start_touched(venue.close, like)


def accounts_between(book: Book, state: FrontState, venue: Venue, closed: Closed) -> Slice:
    """The accounts between two levels, without those that have topped up."""
    if venue.calls is None or state.called is None:
        return slice_of(book, closed)
    return thinned_slice(book, closed, state.called.answered, venue.calls.top_up)
