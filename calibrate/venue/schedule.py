"""Margin that depends on the size of a position, and on how much of a market is open.

Sizes enter cohort by cohort: positions of one size tier form cohorts of their own (`docs/rules.md`, section 4). Two families
cover the venues. *Tiers with deduction*: the rate rises from tier to tier, and as every dollar pays the rate of the tier that
it lies in, a position of `size` pays on average what `tier_factor` says. *Own-size add-on*: a power law of the size is added.
Open interest may raise the initial requirement alone.
"""

from collections.abc import Sequence

import equinox as eqx
import numpy as np

from calibrate.extremes import larger
from calibrate.units import CohortPath, PerCohort, PerPath, Scalar


class SizeSchedule(eqx.Module):
    """Each cohort's maintenance margin is `factor` times the policy's margin, or `floor_part` of that plus `add_on` (a fraction
    of notional), whichever is larger. `opened` is how far open interest has raised the initial requirement towards all of the
    notional."""

    factor: PerCohort
    floor_part: PerCohort
    add_on: PerCohort
    opened: Scalar

    def maintenance(self, margin: PerPath) -> CohortPath:
        by_tier = self.factor[:, None] * margin
        return larger(by_tier, self.floor_part[:, None] * by_tier + self.add_on[:, None])

    def initial(self, initial_ratio: Scalar, margin: PerPath) -> CohortPath:
        required = initial_ratio * self.maintenance(margin)
        return required + self.opened * larger(1 - required, 0.0)


def tier_factor(size: float, bounds: Sequence[float], factors: Sequence[float]) -> float:
    """The average factor that a position of `size` pays when what lies above `bounds[n]` pays `factors[n]`, the deduction of
    each tier being such that the requirement does not jump: `factor_n - deduction_n / size`, `deduction_n = deduction_{n-1} +
    bounds_n (factor_n - factor_{n-1})`."""
    bound, factor = np.asarray(bounds), np.asarray(factors)
    within = np.clip(size - bound, 0.0, np.append(bound[1:], np.inf) - bound)
    return float(within @ factor / size)


def open_interest_share(open_interest: float, lower: float, upper: float) -> float:
    """How far open interest is from its lower cap (0) to its upper one (1), in between linear."""
    return float(np.clip((open_interest - lower) / (upper - lower), 0.0, 1.0))
