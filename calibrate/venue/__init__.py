"""The venue's rules around a liquidation: how keepers work, what a close costs, and what pays for a loss.

Keepers act a fixed number of steps after an account has become liquidatable, and, where they work for profit, close no more
than what the market absorbs for less than they earn. `docs/rules.md`, sections 5 to 8, states the rules exactly. Rules that
not every venue has stand in modules of their own, are None where a venue does not have them, and then cost nothing.
"""

import equinox as eqx

from calibrate.delay import Delay
from calibrate.policy import MarginRule, Policy
from calibrate.units import CohortPath, Index, PerPath, Scalar
from calibrate.venue.auction import Auction
from calibrate.venue.backstop import Backstop
from calibrate.venue.close import CloseCap, PartialClose
from calibrate.venue.guards import Guards
from calibrate.venue.incentive import Incentive
from calibrate.venue.schedule import SizeSchedule
from calibrate.venue.trigger import MarginCalls, Trigger


class Venue(eqx.Module):
    """`gas` is a keeper's cost per unit of notional closed, `half_spread` what a close loses against the mid price (both
    fractions of notional), `fund` the insurance fund at the start (share of initial open interest). With `recheck` an
    account must still be liquidatable when the keeper's transaction arrives. Where liquidations are done in batches there is one
    every `batch` steps."""

    margin: MarginRule
    gas: Scalar
    half_spread: Scalar
    fund: Scalar
    keeper_delay: Delay
    recheck: bool = eqx.field(static=True)
    unlimited_keepers: bool = eqx.field(static=True)
    backstop: Backstop | None = None
    schedule: SizeSchedule | None = None
    close: PartialClose | None = None
    cap: CloseCap | None = None
    incentive: Incentive | None = None
    trigger: Trigger | None = None
    calls: MarginCalls | None = None
    auction: Auction | None = None
    batch: Index | None = None
    guards: Guards | None = None

    @property
    def covered(self) -> float:
        """The loss that the fund can pay at once, at the start."""
        cap = None if self.backstop is None else self.backstop.fund_cap
        return float(self.fund) if cap is None else min(float(self.fund), float(cap.most))

    @property
    def deleverages(self) -> bool:
        return self.backstop is not None and self.backstop.deleverages

    def maintenance(self, margin: PerPath) -> PerPath | CohortPath:
        """What accounts must hold, where the policy's maintenance margin is `margin`: by cohort if it depends on size."""
        return margin if self.schedule is None else self.schedule.maintenance(margin)

    def initial(self, policy: Policy, margin: PerPath) -> PerPath | CohortPath:
        """The initial requirement, likewise."""
        if self.schedule is None:
            return policy.initial_ratio * margin
        return self.schedule.initial(policy.initial_ratio, margin)
