"""What the fronts of a path are, and the market that the closes of a step find.

Parts that belong to a rule are None where the venue does not have it, so that they cost nothing.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from calibrate.book import Below, Book
from calibrate.touched import Touched, start_touched
from calibrate.units import CohortPath, PerPath
from calibrate.venue import Venue


class FrontState(NamedTuple):
    """Per cohort: highest level triggered so far, level closed so far, the accounts below it, what keepers have under way, and
    the part of its accounts that has not been deleveraged (None where nobody is)."""

    triggered: CohortPath
    closed_level: CohortPath
    closed: Below
    under_way: Float[Array, "delay cohort path"]
    left: CohortPath | None
    touched: Touched | None
    called: "Called | None" = None
    allowance: PerPath | None = None


class Called(NamedTuple):
    """Per cohort: the highest warning level so far, those under way to their owners, and the level below which owners have had
    the time to respond."""

    warned: CohortPath
    under_way: Float[Array, "delay cohort path"]
    answered: CohortPath


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


def start_fronts(book: Book, venue: Venue, like: PerPath) -> FrontState:
    lowest = book.lowest_collateral(like)
    nothing = jnp.zeros_like(lowest)
    return FrontState(
        triggered=nothing,
        closed_level=lowest,
        closed=Below(nothing, nothing),
        under_way=venue.keeper_delay.empty_line(nothing),
        left=jnp.ones_like(lowest) if deleverages(venue) else None,
        touched=None if venue.close is None else start_touched(venue.close, lowest),
        called=None if venue.calls is None else Called(nothing, venue.calls.response.empty_line(nothing), nothing),
        allowance=None if venue.cap is None else venue.cap.most + jnp.zeros_like(like),
    )


def deleverages(venue: Venue) -> bool:
    return venue.backstop is not None and venue.backstop.deleverages
