"""Names for shapes and units: the glossary of the package.

Arrays carry the axis names of the trade: `path` (one simulated future), `cohort` (accounts of one side that differ only
in their collateral), `knot` (where a book's distribution bends), `step` (one time step), `parameter` (what a derivative is
taken in). The path axis is always last, so that every operation of the time loop runs along contiguous memory.

Inside the package time is in years of 365 days, prices are relative to the start, money is a share of the initial open
interest, and rates are fractions of notional. Other units appear only at the user's door, where the name carries them.
"""

from jaxtyping import Array, Float, Int, UInt

SECONDS_PER_YEAR = 365 * 86_400.0
HOURS_PER_YEAR = 365 * 24.0
DAYS_PER_YEAR = 365.0
BPS = 1e-4

Scalar = Float[Array, ""]
PerPath = Float[Array, " path"]
PerCohort = Float[Array, " cohort"]
CohortPath = Float[Array, "cohort path"]
KnotsOfCohort = Float[Array, "cohort knot"]
Words = UInt[Array, "..."]
Index = Int[Array, ""]
IndexPerPath = Int[Array, " path"]
