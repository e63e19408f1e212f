"""At which price accounts are judged in a step, and whether anybody may be liquidated in it.

Between what the oracle shows (`oracle.py`) and the fronts (`front.py`): guards, mark prices, and keepers who are away. Where a
venue has none of these its oracle's view passes through as it is.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool

from calibrate.events import Happening
from calibrate.oracle import OracleView
from calibrate.units import Index, PerPath
from calibrate.venue import Venue


class Averages(NamedTuple):
    """What is carried from step to step, where a venue has it: how far the market is from the oracle on average, for a mark price,
    and the oracle's own average, for a breaker."""

    basis: PerPath | None
    oracle: PerPath | None


class Judged(NamedTuple):
    """The view by which accounts are judged, where liquidations are held back (None: nowhere), and what is carried on."""

    view: OracleView
    paused: Bool[Array, " path"] | None
    averages: Averages


def start_averages(venue: Venue, log_price: PerPath) -> Averages:
    marks = venue.trigger is not None and venue.trigger.mark is not None
    compares = venue.guards is not None and venue.guards.own_average is not None
    return Averages(jnp.zeros_like(log_price) if marks else None, log_price if compares else None)


def judged(venue: Venue, view: OracleView, market: PerPath, averages: Averages, index: Index, now: Happening) -> Judged:
    """What becomes of the oracle's view, given the market's log-price and what happens."""
    paused = None if now.away is None else jnp.broadcast_to(now.away, market.shape)
    shown = view if venue.trigger is None else venue.trigger.at_band_end(view)
    if venue.guards is not None:
        stale, too_far = venue.guards.stale(index, view.made), venue.guards.apart(view.log_price, market)
        if venue.guards.own_average is not None and averages.oracle is not None:
            oracle, off = venue.guards.own_average.step(averages.oracle, view.log_price)
            averages, too_far = averages._replace(oracle=oracle), off if too_far is None else too_far | off
        if stale is not None and venue.guards.falls_back:
            shown = shown._replace(**{name: jnp.where(stale, market, getattr(shown, name)) for name in _PRICES})
            # Where the market's own price is used it does not matter what the oracle is too far from.
            too_far, stale = None if too_far is None else too_far & ~stale, None
        for held_back in (stale, too_far):
            if held_back is not None:
                paused = held_back if paused is None else paused | held_back
    mark = None if venue.trigger is None else venue.trigger.mark
    if mark is None or averages.basis is None:
        return Judged(shown, paused, averages)
    basis = mark.basis(averages.basis, shown.log_price, market)
    price = mark.price(shown.log_price, basis, market, view.sources)
    return Judged(shown._replace(**dict.fromkeys(_PRICES, price)), paused, averages._replace(basis=basis))


_PRICES = ("log_price", "lowest", "highest")
