"""When an account is warned, and when it may be liquidated.

Without a rule accounts are judged by the maintenance margin at the oracle price, and nobody is warned. A venue may judge by the
market price, or by an end of the band that the oracle gives with its price, may ask for more than the margin (its fees, a
keeper's reward), and may call for margin before it liquidates: of
the accounts that have been below the warning level for as long as it takes to respond, a part has topped up so far that it
is out of reach. Whether the comparison is strict makes no difference to a continuum of accounts.
"""

from typing import Literal

import equinox as eqx

from calibrate.delay import Delay
from calibrate.oracle import OracleView
from calibrate.units import Scalar
from calibrate.venue.mark import Mark

BandEnd = Literal["worse", "better"]


class Trigger(eqx.Module):
    """`extra` is asked for on top of the maintenance margin (a fraction of notional); with `at_market` accounts are judged at the
    market price of the step, which no oracle delays; with a `mark` at that; with `band_end` at that end of the oracle's band which
    is the worse, or the better, for them."""

    extra: Scalar
    at_market: bool = eqx.field(static=True, default=False)
    mark: Mark | None = None
    band_end: BandEnd | None = eqx.field(static=True, default=None)

    def at_band_end(self, view: OracleView) -> OracleView:
        """The view with the prices by which longs (the lowest) and shorts (the highest) are judged."""
        if self.band_end is None or view.band is None:
            return view
        against = view.band if self.band_end == "worse" else -view.band
        return view._replace(lowest=view.lowest - against, highest=view.highest + against)


class MarginCalls(eqx.Module):
    """Accounts whose equity falls below `warning` times the maintenance margin are called; `response` later the share `top_up` of
    them has topped up, unless liquidated before."""

    warning: Scalar
    top_up: Scalar
    response: Delay
