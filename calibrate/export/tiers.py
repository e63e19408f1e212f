"""Margin tables: maintenance that is piecewise linear in a position's size.

In tier `n` the maintenance margin is notional times the tier's rate less a deduction that makes it continuous:
`d_n = d_(n-1) + bound_n (m_n - m_(n-1))`, `d_0 = 0`.
"""

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise


def deductions(bounds: Sequence[int], rates: Sequence[Fraction]) -> list[Fraction]:
    """The amount that each tier takes off, by lower bounds (USD) and rates."""
    found = [Fraction(0)]
    for n in range(1, len(bounds)):
        found.append(found[-1] + bounds[n] * (rates[n] - rates[n - 1]))
    return found


def maintenance(notional: int, bounds: Sequence[int], rates: Sequence[Fraction]) -> Fraction:
    """Maintenance margin of a position (USD)."""
    n = max(i for i, bound in enumerate(bounds) if notional >= bound)
    return notional * rates[n] - deductions(bounds, rates)[n]


def laid_out(values: Sequence[int], tier: int, value: int, *, rising: bool) -> list[int]:
    """A table's column with one tier's value changed: tiers before and after it stay where the column goes on rising or falling,
    and take the new value where it would not."""
    upper, lower = (max, min) if rising else (min, max)
    before = [lower(old, value) for old in values[:tier]]
    return [*before, value, *(upper(old, value) for old in values[tier + 1 :])]


def rises(values: Sequence[int], *, strictly: bool = False) -> bool:
    """Whether no value is lower than the one before it, or each higher."""
    return all(a < b or (a == b and not strictly) for a, b in pairwise(values))
