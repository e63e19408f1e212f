"""What lending markets share: loan-to-value limits, and the margin policy that stands for them.

Collateral worth 1 against debt `l` is a long position with collateral `1 - l`: it may be opened up to the borrow limit and is
liquidatable above the liquidation limit, so maintenance is 1 less the liquidation limit and initial margin 1 less the borrow
limit, both of the collateral's value. A penalty that is paid on the debt is, at the moment when liquidation becomes possible, that
penalty times the liquidation limit of the collateral's value.
"""

from collections.abc import Mapping
from fractions import Fraction
from typing import NamedTuple

from calibrate.export.native import ONE_NUMBER, in_bps, share


class Limits(NamedTuple):
    """Highest debt over collateral when borrowing and before liquidation, and the penalty over collateral."""

    borrow: Fraction
    liquidation: Fraction
    penalty: Fraction


def lending_policy(limits: Limits, keeper_share: Fraction) -> dict[str, float]:
    """The policy that stands for the limits."""
    maintenance, initial = 1 - limits.liquidation, 1 - limits.borrow
    return ONE_NUMBER | {
        "base_margin_bps": in_bps(maintenance),
        "initial_ratio": float(initial / maintenance),
        "penalty_bps": in_bps(limits.penalty),
        "keeper_share": float(keeper_share),
    }


def limits_of(policy: Mapping[str, float]) -> Limits:
    """The limits that a policy asks for, exactly."""
    maintenance = share(policy["base_margin_bps"])
    initial = maintenance * Fraction(policy["initial_ratio"])
    return Limits(1 - initial, 1 - maintenance, share(policy["penalty_bps"]))
