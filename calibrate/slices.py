"""Some accounts of each cohort, as far as a close needs to know them: integrals over a slice of their distribution."""

from collections.abc import Callable
from typing import NamedTuple

from calibrate.book import Book, Closed, lacking, share_short_of
from calibrate.units import CohortPath


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
