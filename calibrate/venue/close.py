"""How much of a position one liquidation closes.

Without a rule all of it. *Fraction*: a fixed part of what is left. *To target*: as much as brings the account back to a target
health, its equity over its maintenance margin. *To a buffer*: as much as brings its margin ratio a buffer above maintenance, but
no more than a part of that, which grows with the time that it has been under liquidation. Under each an account in poor health,
one that could not pay the penalty, or one of which too little would be left is closed in full, and one that has been touched
rests for a while before it can be closed again. What is closed at once, of all accounts together, may be capped.
`docs/rules.md`, section 9, states the rules.

Levels are collateral per unit of remaining notional, in the units of the fronts; so one account, or a mean over many, is a
number. What a rule closes of an account is linear in that number, which makes what it closes of many a closed form.
"""

from abc import abstractmethod
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp

from calibrate.delay import Delay
from calibrate.extremes import clipped, larger, smaller
from calibrate.units import CohortPath, PerCohort, Scalar


class CloseCap(eqx.Module):
    """What may be closed at once, of all accounts and both sides, as a share of open interest at the market price (`most`), and
    how fast that grows back (`refill`, per year)."""

    most: Scalar
    refill: Scalar


class Terms(NamedTuple):
    """What a close costs, as levels of collateral: `cover` just covers the loss of all of it, `fee` is its penalty,
    `maintenance` the maintenance margin there, `notional` all that it is worth; and that worth itself, the `price`."""

    cover: CohortPath
    fee: CohortPath
    maintenance: CohortPath
    notional: CohortPath
    price: CohortPath


class Progress(NamedTuple):
    """How far the liquidation of accounts has got, on average: which part of their first position is left, for how many steps they
    have been under liquidation, and the margin that has been freed, as a level."""

    left: CohortPath | float = 1.0
    steps: CohortPath | float = 0.0
    freed: CohortPath | float = 0.0


UNTOUCHED = Progress()


class Dust(eqx.Module):
    """The least that may be left of a position, as a part of what it was at first (at the first price)."""

    least: PerCohort

    def share(self, terms: Terms, progress: Progress) -> CohortPath:
        """The least as a part of what is left now."""
        return self.least[:, None] / (progress.left * terms.price)


class PartialClose(eqx.Module):
    """Closes a part. Accounts whose equity is below `full_below` times their maintenance margin are closed in full, and so are
    those of which less than `dust` would be left (None: never); touched ones rest for `cooldown`, None where they may be closed
    again at the next step."""

    full_below: eqx.AbstractVar[Scalar]
    cooldown: eqx.AbstractVar[Delay | None]
    dust: eqx.AbstractVar[Dust | None]

    def closed_in_full(self, terms: Terms, progress: Progress = UNTOUCHED) -> CohortPath:
        """The level below which accounts are closed in full."""
        poor = terms.cover + larger(terms.fee, self.full_below * terms.maintenance)
        aim, slope = self.line(terms, progress)
        if self.dust is None or aim is None:
            return poor
        return larger(poor, aim - slope * (1 - self.dust.share(terms, progress)))

    def too_small(self, terms: Terms, progress: Progress) -> CohortPath | None:
        """The part of the other accounts that is closed in full because too little would be left, whatever their level; None where
        their level decides."""
        del terms, progress
        return None

    @property
    def remembers(self) -> tuple[str, ...]:
        """What the rule needs to know of accounts that it has touched, beside their moments."""
        return () if self.dust is None else ("origin",)

    @abstractmethod
    def line(self, terms: Terms, progress: Progress = UNTOUCHED) -> tuple[CohortPath | None, CohortPath | Scalar]:
        """The part closed at a level `c`: `(aim - c)^+ / slope` for `(aim, slope)`, or the constant where `aim` is None."""


class FractionClose(PartialClose):
    """Closes `fraction` of what is left. Sizes of a cohort are taken to be spread evenly between half and one and a half of their
    mean, so that those of which too little would be left are not all of them or none."""

    fraction: Scalar
    full_below: Scalar
    cooldown: Delay | None
    dust: Dust | None

    def line(self, terms: Terms, progress: Progress = UNTOUCHED) -> tuple[CohortPath | None, CohortPath | Scalar]:
        del terms, progress
        return None, self.fraction

    def too_small(self, terms: Terms, progress: Progress) -> CohortPath | None:
        if self.dust is None:
            return None
        return clipped(self.dust.share(terms, progress) / (1 - self.fraction) - 0.5, 0.0, 1.0)


class TargetClose(PartialClose):
    """Closes what is needed for an equity of `target` times the maintenance margin of what is left, the penalty paid: with
    equity `e`, margin `m`, penalty `l` per unit of notional, the part `(target m - e) / (target m - l)`."""

    target: Scalar
    full_below: Scalar
    cooldown: Delay | None
    dust: Dust | None

    def line(self, terms: Terms, progress: Progress = UNTOUCHED) -> tuple[CohortPath | None, CohortPath | Scalar]:
        del progress
        aim = self.target * terms.maintenance
        return terms.cover + aim, margin_freed(aim, terms)


class BufferClose(PartialClose):
    """Closes what is needed for an equity of the maintenance margin and `buffer` of notional (a fraction), the penalty paid; but of
    all the margin that is to be freed, with what has been freed before, no more than the part `initial + steps / ramp`, `steps`
    being those since the account was first touched (drift-labs/protocol-v2 `math/liquidation.rs`)."""

    buffer: Scalar
    initial: Scalar
    ramp: Scalar
    full_below: Scalar
    cooldown: Delay | None
    dust: Dust | None

    @property
    def remembers(self) -> tuple[str, ...]:
        return (*super().remembers, "age", "freed")

    def line(self, terms: Terms, progress: Progress = UNTOUCHED) -> tuple[CohortPath | None, CohortPath | Scalar]:
        part = smaller(self.initial + progress.steps / self.ramp, 1.0)
        aim = terms.maintenance + self.buffer * terms.notional
        # part * (short + freed) - freed of the margin that is `short`.
        first = terms.cover + aim - progress.freed * (1 - part) / part
        return first, margin_freed(aim, terms) / part

    def frees(self, terms: Terms) -> CohortPath:
        """The margin that is freed by closing all of the notional."""
        return margin_freed(terms.maintenance + self.buffer * terms.notional, terms)


def margin_freed(aim: CohortPath, terms: Terms) -> CohortPath:
    """What closing a unit of notional adds to equity over the margin that is aimed at."""
    return larger(aim - terms.fee, 1e-3 * jnp.abs(aim) + 1e-9)
