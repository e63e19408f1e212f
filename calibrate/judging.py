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


class Judged(NamedTuple):
    """The view by which accounts are judged, where liquidations are held back (None: nowhere), and the average basis of a mark
    price, which is carried on."""

    view: OracleView
    paused: Bool[Array, " path"] | None
    basis: PerPath | None


def judged(
    venue: Venue, view: OracleView, market: PerPath, basis: PerPath | None, index: Index, now: Happening
) -> Judged:
    """What becomes of the oracle's view, given the market's log-price and what happens."""
    paused = None if now.away is None else jnp.broadcast_to(now.away, market.shape)
    shown = view
    if venue.guards is not None:
        stale, apart = venue.guards.stale(index, view.made), venue.guards.apart(view.log_price, market)
        if stale is not None and venue.guards.falls_back:
            shown = view._replace(**{name: jnp.where(stale, market, getattr(view, name)) for name in _PRICES})
            # Where the market's own price is used it is not the oracle that is too far from it.
            apart, stale = None if apart is None else apart & ~stale, None
        for held_back in (stale, apart):
            if held_back is not None:
                paused = held_back if paused is None else paused | held_back
    mark = None if venue.trigger is None else venue.trigger.mark
    if mark is None or basis is None:
        return Judged(shown, paused, None)
    basis = mark.basis(basis, shown.log_price, market)
    price = mark.price(shown.log_price, basis, market, view.sources)
    return Judged(shown._replace(**dict.fromkeys(_PRICES, price)), paused, basis)


_PRICES = ("log_price", "lowest", "highest")
