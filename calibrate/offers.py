"""Accounts on auction: who is on offer since when.

Offers that started at the same step have the same price, and one that starts anew does so together with those that start then.
Offers of a few successive steps (`Auction.width`) share a place: they are asked one price, that of the mean of their ages over the
mean of their oracle prices, by volume. Of the accounts in each place the moments are kept that `touched.py` keeps. With a place
for every step of an auction that is exact but for the shape of what is in a place, which is taken to lie evenly over a band; what
fewer places change is measured in the tests and stated in `docs/rules.md`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from calibrate.book import Book, sum_of_rows
from calibrate.extremes import larger
from calibrate.slices import Slice
from calibrate.touched import Moments, band_of
from calibrate.units import CohortPath, Index, PerPath
from calibrate.venue.auction import Auction

PlaceSidePath = Float[Array, "place side path"]


class Offers(NamedTuple):
    """The accounts in each place (`[place, cohort, path]`); of longs and of shorts the log-price that the oracle showed when their
    offers started, and how many steps after the place's first that was: means by volume."""

    accounts: Moments
    start: PlaceSidePath
    late: PlaceSidePath

    @property
    def share(self) -> CohortPath:
        """What is on offer of each cohort."""
        return sum_of_rows(self.accounts.share)

    def of_sides(self, book: Book) -> PlaceSidePath:
        """What is on offer of longs and of shorts, as a share of open interest."""
        return jnp.stack([jnp.stack(book.of_sides(share)) for share in self.accounts.share])

    def remaining(self, maintenance: CohortPath) -> tuple[Slice, CohortPath]:
        """The accounts on offer, and the lowest of their levels."""
        band = band_of(self.accounts, LEAST_WIDTH * maintenance)
        accounts = band.slice()
        of_all = Slice(
            self.share,
            jnp.sum(accounts.collateral, axis=0),
            lambda strike: jnp.sum(accounts.lacking(strike), axis=0),
            lambda strike: jnp.sum(accounts.short_of(strike), axis=0),
        )
        return of_all, jnp.min(jnp.where(band.height > 0, band.low, jnp.inf), axis=0)

    def closed_needlessly(
        self, reached: CohortPath, needless: CohortPath, required: CohortPath, maintenance: CohortPath
    ) -> CohortPath:
        """Of the share `needless` of accounts that came on offer with more than what is `required`, what is no longer there."""
        del reached
        still_there, _ = self.remaining(maintenance)
        return needless - (self.share - still_there.short_of(required))


# Accounts of a cohort whose offers started at one moment differ in collateral by this part of their maintenance margin at least.
LEAST_WIDTH = 0.01


def start_offers(auction: Auction, like: CohortPath) -> Offers:
    zero = jnp.zeros((auction.places, *like.shape), like.dtype)
    of_sides = jnp.zeros((auction.places, 2, *like.shape[1:]), like.dtype)
    return Offers(Moments(zero, zero, zero), of_sides, of_sides)


def offered(auction: Auction, offers: Offers, arriving: Moments, index: Index, oracle: PerPath, book: Book) -> Offers:
    """Offers of the longest age start anew, and beside them those of accounts that are `arriving`."""
    place, age = auction.place(index), index % auction.width
    there, new = (jnp.stack(book.of_sides(share)) for share in (offers.accounts.share[place], arriving.share))
    weight = jnp.where(age == 0, 1.0, new / larger(there + new, _NOTHING))
    mixed = lambda before, now: before.at[place].set(before[place] + weight * (now - before[place]))  # noqa: E731
    accounts = jax.tree.map(lambda moment, more: moment.at[place].add(more), offers.accounts, arriving)
    return Offers(accounts, mixed(offers.start, oracle), mixed(offers.late, age))


def asked(auction: Auction, offers: Offers, index: Index) -> PlaceSidePath:
    """The log-price asked in each place for longs, and for shorts: where all of its offers started at one step that of their own
    stair, else a price between those of offers that started a whole number of steps late."""
    since, whole = auction.since(index)[:, None, None], jnp.floor(offers.late)
    over, next_over = (auction.over(since - whole.astype(index.dtype) - more) for more in (0, 1))
    return offers.start + signs(offers.start) * (over + (offers.late - whole) * (next_over - over))


# Of open interest, a share that shows in no figure.
_NOTHING = 1e-9


def signs(like: PlaceSidePath) -> Float[Array, "side 1"]:
    """Of longs and shorts, on the axis of sides."""
    return jnp.asarray([1.0, -1.0], like.dtype)[:, None]


def moments_between(accounts: Slice, low: CohortPath, high: CohortPath) -> Moments:
    """The moments of accounts that lie evenly between two levels."""
    some = accounts.share > 0
    of_mean = jnp.where(some, accounts.collateral**2 / jnp.where(some, accounts.share, 1.0), 0.0)
    return Moments(accounts.share, accounts.collateral, of_mean + accounts.share * larger(high - low, 0.0) ** 2 / 12)
