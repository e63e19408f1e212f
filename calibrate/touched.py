"""Accounts that were closed in part: one aggregate a cohort.

An account that keeps a part of its position goes on with less notional and another ratio of collateral. Of all such accounts of
a cohort the remaining notional and the first two moments of their collateral are kept, and they are taken to lie evenly over
the band that has these moments. When the level at which keepers close rises into the band, its lower part is closed again by
the same rule. This is exact for one step and an approximation after it; how close it comes to accounts followed one by one is
measured in the tests and stated in `docs/rules.md`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from calibrate.book import Book, Closed
from calibrate.compiled import computed_once
from calibrate.extremes import clipped, larger, smaller
from calibrate.slices import Slice, both, slice_of, some_of, up_to
from calibrate.units import CohortPath, Index, Scalar
from calibrate.venue.close import UNTOUCHED, BufferClose, PartialClose, Progress, Terms


class Moments(NamedTuple):
    """Of some accounts: remaining share of the cohort's notional, their collateral, and its second moment. Where it is remembered
    (else None): their place in the order in which the cohort's accounts were first touched, times what is left; the share
    that they had at first; the steps since they were first touched, times what is left; the margin that has been freed."""

    share: CohortPath
    collateral: CohortPath
    square: CohortPath
    rank: CohortPath | None = None
    origin: CohortPath | None = None
    age: CohortPath | None = None
    freed: CohortPath | None = None


class Touched(NamedTuple):
    """Accounts that may be closed again, those that still rest, and when they come back."""

    ready: Moments
    resting: Moments | None
    line: Float[Array, "delay moment cohort path"] | None

    @property
    def share(self) -> CohortPath:
        """What is left of them."""
        return self.everyone().share

    def everyone(self) -> Moments:
        return self.ready if self.resting is None else _sum(self.ready, self.resting)

    def remaining(self, maintenance: CohortPath) -> tuple[Slice, CohortPath]:
        """The accounts, and the lowest of their levels; `maintenance` is the margin as a level."""
        band = band_of(self.everyone(), LEAST_WIDTH * maintenance)
        return band.slice(), jnp.where(band.height > 0, band.low, jnp.inf)

    def closed_needlessly(
        self, reached: CohortPath, needless: CohortPath, required: CohortPath, maintenance: CohortPath
    ) -> CohortPath:
        """Of the share `needless` of those `reached` with more than what is `required`, what was closed. They were touched last,
        and the last have most left: what is left is taken to rise evenly with the place in that order, from the place on that
        gives it the mean that has been kept, or from the first on."""
        del required, maintenance
        accounts, reached = self.everyone(), larger(reached, _NOBODY)
        place = _mean(accounts, accounts.rank)
        within = smaller(needless / clipped(3 * (reached - place), _NOBODY, reached), 1.0)
        rises = clipped(6 * (place / reached - 0.5), -1.0, 1.0)
        left = accounts.share * (within + rises * within * (1 - within))
        return larger(needless - left, 0.0)


class Parted(NamedTuple):
    """What a rule does to a slice: the accounts that are closed in full, the share that is closed of the others, and the
    others, with the levels between which they then lie."""

    in_full: Slice
    in_part: CohortPath
    others: Slice
    low: CohortPath
    high: CohortPath

    @property
    def closed(self) -> CohortPath:
        """The share of each cohort's notional that is closed."""
        return self.in_full.share + self.in_part


def start_touched(rule: PartialClose, like: CohortPath) -> Touched:
    zero = jnp.zeros_like(like)
    nothing = Moments(zero, zero, zero, rank=zero, **dict.fromkeys(rule.remembers, zero))
    if rule.cooldown is None:
        return Touched(nothing, None, None)
    return Touched(nothing, nothing, rule.cooldown.empty_line(jnp.stack(jax.tree.leaves(nothing))))


# --- slices ---------------------------------------------------------------------------------------------------------------


def parted_book(book: Book, rule: PartialClose, terms: Terms, closed: Closed) -> Parted:
    """What the rule does to accounts of the book that no one has touched before."""
    below_strike = up_to(book, closed, rule.closed_in_full(terms))
    lower = slice_of(book, below_strike)
    upper = slice_of(book, closed._replace(low=below_strike.high, below_low=below_strike.below_high))
    return _parted(rule, terms, UNTOUCHED, lower, upper, below_strike.high, closed.high)


def _parted(
    rule: PartialClose,
    terms: Terms,
    progress: Progress,
    lower: Slice,
    upper: Slice,
    low: CohortPath,
    high: CohortPath,
) -> Parted:
    """The `lower` accounts are closed in full; of the `upper` ones, which lie between two levels, a part is closed, unless too
    little would be left."""
    small = rule.too_small(terms, progress)
    if small is not None:
        lower, upper = both(lower, some_of(small, upper)), some_of(1 - small, upper)

    def partly() -> tuple[CohortPath, list[CohortPath]]:
        aim, factor = rule.line(terms, progress)
        in_part = factor * upper.share if aim is None else upper.lacking(aim) / factor
        return in_part, [_left_at(level, rule, terms, progress) for level in (low, larger(low, high))]

    in_part, after_close = computed_once(partly, low)
    return Parted(lower, in_part, upper, *after_close)


class Band(NamedTuple):
    """Accounts spread evenly, `height` of them per unit of collateral, between two levels."""

    low: CohortPath
    high: CohortPath
    height: CohortPath

    def slice(self) -> Slice:
        low, high, height = self
        reached = lambda strike: clipped(strike, low, high)  # noqa: E731
        return Slice(
            height * (high - low),
            height * (high - low) * (high + low) / 2,
            lambda strike: height * (reached(strike) - low) * (strike - (reached(strike) + low) / 2),
            lambda strike: height * (reached(strike) - low),
        )


def band_of(moments: Moments, least_width: CohortPath) -> Band:
    """The band that has these moments; accounts touched at one moment differ by `least_width` too."""
    some = moments.share > _NOBODY
    share = jnp.where(some, moments.share, 1.0)
    mean = moments.collateral / share
    variance = larger(moments.square / share - mean**2, 0.0)
    half = jnp.sqrt(3 * variance + least_width**2 / 4)
    return Band(mean - half, mean + half, jnp.where(some, moments.share, 0.0) / (2 * half))


# Of a cohort, a share that shows in no figure.
_NOBODY = 1e-12
# Accounts of a cohort that are touched at one moment differ in collateral by this part of their maintenance margin.
LEAST_WIDTH = 0.03


def below(band: Band, level: CohortPath) -> Band:
    return band._replace(high=clipped(level, band.low, band.high))


def parted_band(rule: PartialClose, terms: Terms, progress: Progress, band: Band) -> Parted:
    """What the rule does to accounts that were touched before."""
    strike = computed_once(lambda: clipped(rule.closed_in_full(terms, progress), band.low, band.high), band.low)
    lower, upper = band._replace(high=strike).slice(), band._replace(low=strike).slice()
    return _parted(rule, terms, progress, lower, upper, strike, band.high)


def progress_of(accounts: Moments) -> Progress:
    """How far the liquidation of touched accounts has got on average, as far as it is remembered."""
    some = accounts.share > _NOBODY
    share = jnp.where(some, accounts.share, 1.0)
    return Progress(
        left=1.0 if accounts.origin is None else jnp.where(some, share / larger(accounts.origin, share), 1.0),
        steps=0.0 if accounts.age is None else _mean(accounts, accounts.age),
        freed=0.0 if accounts.freed is None else _mean(accounts, accounts.freed),
    )


def _mean(accounts: Moments, total: CohortPath | None) -> CohortPath:
    """Per unit of what is left of the accounts."""
    assert total is not None
    some = accounts.share > _NOBODY
    return jnp.where(some, total, 0.0) / jnp.where(some, accounts.share, 1.0)


def only(part: CohortPath, parted: Parted) -> Parted:
    """The same done to a part of the accounts, whatever their collateral."""
    return parted._replace(
        in_full=some_of(part, parted.in_full), in_part=part * parted.in_part, others=some_of(part, parted.others)
    )


# --- what becomes of the aggregate ----------------------------------------------------------------------------------------


def after(
    touched: Touched,
    rule: PartialClose,
    index: Index,
    settled: Terms,
    fresh: Parted,
    again: Parted,
    reached: Band,
    part: CohortPath | Scalar,
    first: CohortPath,
) -> Touched:
    """The aggregate after a step in which accounts were touched for the first time (`fresh`) and `part` of those in the band
    `reached` once more (`again`), at the terms that closes were settled at; `first` is the share that had been
    touched before."""
    gone = reached.slice()
    middle, width = (reached.low + reached.high) / 2, reached.high - reached.low
    before = touched.ready
    share = larger(before.share - part * gone.share, 0.0)
    stay = jnp.where(before.share > _NOBODY, share / larger(before.share, _NOBODY), 0.0)
    remembered = {name: stay * total for name, total in before._asdict().items() if name in ("rank", *rule.remembers)}
    ready = Moments(
        share,
        before.collateral - part * gone.collateral,
        before.square - part * gone.share * (middle**2 + width**2 / 12),
        **remembered,
    )
    progress, rank = progress_of(before), _mean(before, before.rank)
    place = first + fresh.in_full.share + fresh.others.share / 2
    arriving = _sum(
        computed_once(lambda: _remaining(fresh, settled, rule, UNTOUCHED, place), share),
        computed_once(lambda: _remaining(again, settled, rule, progress, rank), share),
    )
    if rule.cooldown is None or touched.resting is None or touched.line is None:
        return Touched(_older(_sum(ready, arriving), 1), None, None)
    line, rested = rule.cooldown.through(touched.line, index, jnp.stack(jax.tree.leaves(arriving)))
    released = jax.tree.unflatten(jax.tree.structure(arriving), list(rested))
    resting = jax.tree.map(lambda r, a, b: r + a - b, touched.resting, arriving, released)
    return Touched(_older(_sum(ready, _older(released, rule.cooldown.steps)), 1), resting, line)


def _remaining(parted: Parted, settled: Terms, rule: PartialClose, progress: Progress, rank: CohortPath) -> Moments:
    """Accounts closed in part pay for what was closed from their collateral and keep the rest."""
    share = larger(parted.others.share - parted.in_part, 0.0)
    collateral = parted.others.collateral - (settled.cover + settled.fee) * parted.in_part
    some = share > _NOBODY
    square = jnp.where(some, collateral**2 / jnp.where(some, share, 1.0), 0.0)
    square = square + share * (parted.high - parted.low) ** 2 / 12
    found = Moments(share, collateral, square, rank=rank * share)
    if "origin" in rule.remembers:
        found = found._replace(origin=parted.others.share / progress.left)
    if isinstance(rule, BufferClose):
        freed = progress.freed * parted.others.share + rule.frees(settled) * parted.in_part
        found = found._replace(age=progress.steps * share, freed=freed)
    return found


def _left_at(level: CohortPath, rule: PartialClose, terms: Terms, progress: Progress) -> CohortPath:
    """The level of an account once the part that the rule says has been closed at these terms: with `k` the loss and the penalty of
    all of it, `(c - x k) / (1 - x)`."""
    aim, factor = rule.line(terms, progress)
    loss = terms.cover + terms.fee
    if aim is None:
        return (level - factor * loss) / (1 - factor)
    # With x = (aim - c) / factor and `whole` = factor + k; where that is the aim itself, everyone is at it afterwards.
    whole = factor + loss
    beyond = larger(whole - aim, 0.0)
    return whole - beyond * factor / larger(level - loss + beyond, _NOBODY)


def _older(accounts: Moments, steps: Index | int) -> Moments:
    return accounts if accounts.age is None else accounts._replace(age=accounts.age + steps * accounts.share)


def _sum(first: Moments, second: Moments) -> Moments:
    return jax.tree.map(jnp.add, first, second)
