"""Accounts on auction: who is on offer since when.

Offers that started at the same step have the same price, and one that starts anew does so together with those that start then.
So an offer's place is its start modulo the longest age, and there are as many places as steps in an auction: of the accounts in
each, the moments are kept that `touched.py` keeps, and the log-price of the oracle at their start. That is exact but for the shape
of what is in a place, which is taken to lie evenly over a band.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from calibrate.extremes import larger
from calibrate.slices import Slice
from calibrate.touched import Moments, band_of
from calibrate.units import CohortPath, Index, PerPath
from calibrate.venue.auction import Auction


class Offers(NamedTuple):
    """The accounts in each place (`[place, cohort, path]`), and the log-price of the oracle when their offers started."""

    accounts: Moments
    start: Float[Array, "place path"]

    @property
    def share(self) -> CohortPath:
        """What is on offer of each cohort."""
        return jnp.sum(self.accounts.share, axis=0)

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
    zero = jnp.zeros((auction.longest, *like.shape), like.dtype)
    return Offers(Moments(zero, zero, zero), zero[:, 0])


def offered(offers: Offers, arriving: Moments, index: Index, oracle: PerPath) -> Offers:
    """Offers of the longest age start anew, and beside them those of accounts that are `arriving`."""
    place = index % offers.start.shape[0]
    accounts = jax.tree.map(lambda moment, new: moment.at[place].add(new), offers.accounts, arriving)
    return Offers(accounts, offers.start.at[place].set(oracle))


def moments_between(accounts: Slice, low: CohortPath, high: CohortPath) -> Moments:
    """The moments of accounts that lie evenly between two levels."""
    some = accounts.share > 0
    of_mean = jnp.where(some, accounts.collateral**2 / jnp.where(some, accounts.share, 1.0), 0.0)
    return Moments(accounts.share, accounts.collateral, of_mean + accounts.share * larger(high - low, 0.0) ** 2 / 12)
