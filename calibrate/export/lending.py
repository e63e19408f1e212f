"""What lending markets share: loan-to-value limits, and the margin policy that stands for them.

Collateral worth 1 against debt `l` is a long position with collateral `1 - l`: it may be opened up to the borrow limit and is
liquidatable above the liquidation limit, so maintenance is 1 less the liquidation limit and initial margin 1 less the borrow
limit, both of the collateral's value. A penalty that is paid on the debt is, at the moment when liquidation becomes possible, that
penalty times the liquidation limit of the collateral's value.
"""

from collections.abc import Mapping
from fractions import Fraction
from typing import NamedTuple

from calibrate.export.native import kept, policy_of_one_number, share

BPS = Fraction(1, 10_000)
WHOLE = 10_000


class Margins(NamedTuple):
    """What must be left of the collateral's value, when borrowing and before liquidation, and the penalty, as shares of it."""

    initial: Fraction
    maintenance: Fraction
    penalty: Fraction

    @property
    def liquidation(self) -> Fraction:
        """Highest debt over collateral before liquidation."""
        return 1 - self.maintenance


def margins(borrow: Fraction, liquidation: Fraction, penalty: Fraction) -> Margins:
    """From the highest debt over collateral when borrowing and before liquidation."""
    return Margins(1 - borrow, 1 - liquidation, penalty)


def lending_policy(left: Margins, keeper_share: Fraction) -> dict[str, float]:
    """The policy that stands for the margins."""
    return policy_of_one_number(left.maintenance, left.initial / left.maintenance, left.penalty, keeper_share)


def margins_of(policy: Mapping[str, float]) -> Margins:
    """The margins that a policy asks for, exactly."""
    maintenance = share(policy["base_margin_bps"])
    initial = maintenance * Fraction(policy["initial_ratio"])
    return Margins(initial, maintenance, share(policy["penalty_bps"]))


def equity_over_margin(liquidation: Fraction, health: Fraction) -> float:
    """A lending market's health, collateral times liquidation limit over debt, as equity over maintenance margin: collateral
    worth 1 carries debt `liquidation / health`."""
    return float((1 - liquidation / health) / (1 - liquidation))


def bps_left(asked: Fraction, before_bps: int, *, up: bool) -> int:
    """A loan-to-value (bps) that leaves the asked share of the collateral, as before where that is the same. What is rounded is
    what is left: of a limit near 1 it is the part that counts."""
    return WHOLE - kept(asked, WHOLE - before_bps, BPS, up=up)
