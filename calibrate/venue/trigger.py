"""When an account is warned, and when it may be liquidated.

Without a rule accounts are judged by the maintenance margin at the oracle price, and nobody is warned. A venue may judge by the
market price, may ask for more than the margin (its fees, a keeper's reward), and may call for margin before it liquidates: of
the accounts that have been below the warning level for as long as it takes to respond, a part has topped up so far that it
is out of reach. Whether the comparison is strict makes no difference to a continuum of accounts.
"""

import equinox as eqx

from calibrate.delay import Delay
from calibrate.units import Scalar
from calibrate.venue.mark import Mark


class Trigger(eqx.Module):
    """`extra` is asked for on top of the maintenance margin (a fraction of notional); with `at_market` accounts are judged at the
    market price of the step, which no oracle delays; with a `mark` at that."""

    extra: Scalar
    at_market: bool = eqx.field(static=True, default=False)
    mark: Mark | None = None


class MarginCalls(eqx.Module):
    """Accounts whose equity falls below `warning` times the maintenance margin are called; `response` later the share `top_up` of
    them has topped up, unless liquidated before."""

    warning: Scalar
    top_up: Scalar
    response: Delay
