"""Some accounts of each cohort, as far as a close needs to know them: integrals over a slice of their distribution."""

from collections.abc import Callable
from typing import NamedTuple

from calibrate.book import Book, Closed, lacking, riskiest, share_below, share_short_of
from calibrate.extremes import clipped
from calibrate.units import CohortPath, Scalar


class Slice(NamedTuple):
    """Some accounts of each cohort, between two levels: their share and collateral, what they lack to reach a level, and the
    share of those below a level."""

    share: CohortPath
    collateral: CohortPath
    lacking: Callable[[CohortPath], CohortPath]
    short_of: Callable[[CohortPath], CohortPath]


def slice_of(book: Book, closed: Closed) -> Slice:
    """Accounts between two levels of the book."""
    newly = closed.below_high - closed.below_low
    return Slice(
        newly.share,
        newly.collateral,
        lambda strike: lacking(book.density, strike, closed),
        lambda strike: share_short_of(book.density, strike, closed),
    )


def some_of(part: CohortPath, accounts: Slice) -> Slice:
    return Slice(
        part * accounts.share,
        part * accounts.collateral,
        lambda strike: part * accounts.lacking(strike),
        lambda strike: part * accounts.short_of(strike),
    )


def both(first: Slice, second: Slice) -> Slice:
    return Slice(
        first.share + second.share,
        first.collateral + second.collateral,
        lambda strike: first.lacking(strike) + second.lacking(strike),
        lambda strike: first.short_of(strike) + second.short_of(strike),
    )


def thinned_slice(book: Book, closed: Closed, level: CohortPath, missing: Scalar) -> Slice:
    """Accounts between two levels of the book when of those below `level` a part is `missing`."""
    whole, lower = slice_of(book, closed), slice_of(book, up_to(book, closed, level))
    return Slice(
        whole.share - missing * lower.share,
        whole.collateral - missing * lower.collateral,
        lambda strike: whole.lacking(strike) - missing * lower.lacking(strike),
        lambda strike: whole.short_of(strike) - missing * lower.short_of(strike),
    )


def up_to(book: Book, closed: Closed, level: CohortPath) -> Closed:
    """Those of the accounts between two levels that lie below another one."""
    strike = clipped(level, closed.low, closed.high)
    share = clipped(share_below(book.density, strike), closed.below_low.share, closed.below_high.share)
    return closed._replace(high=strike, below_high=riskiest(book.density, share, strike))
