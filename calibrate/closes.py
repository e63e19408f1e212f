"""What closes do: at which price, and what becomes of the accounts' money.

Losses, penalties and what goes back to the owners are closed forms in a slice of the book (`slices.py`), whether accounts are
closed in full or in part. Amounts are shares of initial open interest.
"""

from typing import NamedTuple

import jax.numpy as jnp

from calibrate.bonus import BonusLevels
from calibrate.book import Book
from calibrate.compiled import computed_once
from calibrate.extremes import smaller
from calibrate.policy import Policy
from calibrate.slices import Slice
from calibrate.units import CohortPath, PerPath
from calibrate.venue import Venue


class Closes(NamedTuple):
    """What the closes of one step did, summed over cohorts, as shares of initial open interest (but `distance`).

    `share` and `insolvent_share` count initial notional, `notional` is at the closing price. The owners' `collateral` and
    their profit `pnl` end up as what is `returned` to them and as `penalty`; `bad_debt` is what is missing. `sold` is the
    net selling that the market has to absorb. `distance` is how far the worst open account was from a deficit, in units of
    collateral: negative as long as none was closed at a loss, positive else.
    """

    share: PerPath
    notional: PerPath
    insolvent_share: PerPath
    collateral: PerPath
    pnl: PerPath
    returned: PerPath
    penalty: PerPath
    bad_debt: PerPath
    sold: PerPath
    distance: PerPath
    lost: "SideLosses | None" = None


class SideLosses(NamedTuple):
    """Deficits of longs and of shorts, and the shares of open interest that have them; and the deficits that they would have at
    the mark price too, where that matters."""

    deficit: tuple[PerPath, PerPath]
    share: tuple[PerPath, PerPath]
    beyond: tuple[PerPath, PerPath] | None = None


class Execution(NamedTuple):
    """At what closes are done: each cohort's closing price, and the collateral that just covers its loss there."""

    price: CohortPath
    cover: CohortPath


def execution_at(book: Book, price: PerPath | CohortPath, scale: PerPath | CohortPath) -> Execution:
    """Closes of longs and shorts at a price."""
    side = book.side[:, None]
    return Execution(price * jnp.ones_like(side), -side * (price - 1) / scale)


def sold_at(book: Book, venue: Venue, mid: PerPath, scale: PerPath | CohortPath) -> Execution:
    """Closes in the market, half of its spread away from the mid price."""
    return execution_at(book, mid * (1 - book.side[:, None] * venue.half_spread), scale)


def account_for(
    book: Book,
    policy: Policy,
    execution: Execution,
    accounts: Slice,
    scale: PerPath | CohortPath,
    *,
    bonus: BonusLevels | None = None,
    by_side: "LossesBySide | None" = None,
) -> Closes:
    """Losses, penalties and what is returned, for the accounts that were closed."""
    side, price, cover = book.side[:, None], execution.price, execution.cover
    fee = policy.penalty * price / scale
    summed = book.over_cohorts
    nothing = jnp.zeros_like(summed(accounts.share))

    def unable() -> Unable:
        deficit, insolvent = accounts.lacking(cover), accounts.short_of(cover)
        if bonus is None:
            # min(fee, equity+) = fee - (cover + fee - c)+ + (cover - c)+, account by account.
            unpaid = accounts.lacking(cover + fee) - deficit
        else:
            unpaid = fee * accounts.share - bonus.penalties(accounts, cover, price / scale, deficit)
        lost = None if by_side is None else by_side.of(book, accounts, cover, scale)
        return Unable(summed(scale * deficit), summed(insolvent), summed(scale * unpaid), lost)

    lacking = computed_once(unable, accounts.share)
    return Closes(
        share=summed(accounts.share),
        notional=summed(accounts.share * price),
        insolvent_share=lacking.share,
        collateral=summed(scale * accounts.collateral),
        pnl=summed(side * (price - 1) * accounts.share),
        # (c - cover - fee)+ = (c - cover - fee) + (cover + fee - c)+
        returned=summed(scale * (accounts.collateral - (cover + fee) * accounts.share))
        + lacking.unpaid
        + lacking.deficit,
        penalty=summed(scale * fee * accounts.share) - lacking.unpaid,
        bad_debt=lacking.deficit,
        sold=nothing,
        distance=nothing,
        lost=lacking.lost,
    )


class Unable(NamedTuple):
    """What the accounts lack that cannot pay for everything: their deficits, the share of open interest that has one, penalties
    that stay unpaid, and the first two by side where that is asked for."""

    deficit: PerPath
    share: PerPath
    unpaid: PerPath
    lost: SideLosses | None


def part_closed(
    book: Book,
    policy: Policy,
    execution: Execution,
    share: CohortPath,
    scale: PerPath | CohortPath,
    *,
    by_side: "LossesBySide | None" = None,
) -> Closes:
    """The same for a share of notional closed of accounts that keep the rest: its loss and penalty come from their collateral."""
    price, cover = execution.price, execution.cover
    fee = policy.penalty * price / scale
    summed = book.over_cohorts
    in_all, nothing = summed(share), jnp.zeros_like(summed(share))
    return Closes(
        share=in_all,
        notional=summed(share * price),
        insolvent_share=nothing,
        collateral=summed(scale * (cover + fee) * share),
        pnl=summed(book.side[:, None] * (price - 1) * share),
        returned=nothing,
        penalty=summed(scale * fee * share),
        bad_debt=nothing,
        sold=nothing,
        distance=nothing,
        lost=None if by_side is None else by_side.nothing(nothing),
    )


class LossesBySide(NamedTuple):
    """What is told of losses where winners may have to bear them: `mark` is the level that just covers the loss at the mark price,
    None where winners pay whatever losers lack."""

    mark: CohortPath | None

    def of(self, book: Book, accounts: Slice, cover: CohortPath, scale: PerPath | CohortPath) -> SideLosses:
        """Of the accounts that were closed."""
        of_sides = lambda level: book.of_sides(scale * accounts.lacking(level))  # noqa: E731
        beyond = None if self.mark is None else of_sides(smaller(cover, self.mark))
        return SideLosses(of_sides(cover), book.of_sides(accounts.short_of(cover)), beyond)

    def nothing(self, zero: PerPath) -> SideLosses:
        none = (zero, zero)
        return SideLosses(none, none, None if self.mark is None else none)


def losses_by_side(book: Book, venue: Venue, oracle: PerPath, scale: PerPath | CohortPath) -> LossesBySide | None:
    """What is told of losses where the log-price of the oracle is the mark; None where no winner bears any."""
    if venue.backstop is None or not venue.deleverages:
        return None
    return LossesBySide(execution_at(book, jnp.exp(oracle), scale).cover if venue.backstop.at_mark else None)
