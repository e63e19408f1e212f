"""How much of a position one liquidation closes.

Without a rule all of it. *Fraction*: a fixed part of what is left. *To target*: as much as brings the account back to a target
health, its equity over its maintenance margin. Under either an account in poor health, or one that could not pay the penalty,
is closed in full, and one that has been touched rests for a while before it can be closed again. What is closed at once, of
all accounts together, may be capped. `docs/rules.md`, section 6, states the rules.

Levels are collateral per unit of remaining notional, in the units of the fronts; so one account, or a mean over many, is a
number. What a rule closes of an account is linear in that number, which makes what it closes of many a closed form.
"""

from abc import abstractmethod
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp

from calibrate.delay import Delay
from calibrate.extremes import larger
from calibrate.units import CohortPath, Scalar


class CloseCap(eqx.Module):
    """What may be closed at once, of all accounts and both sides, as a share of open interest at the market price (`most`), and
    how fast that grows back (`refill`, per year)."""

    most: Scalar
    refill: Scalar


class Terms(NamedTuple):
    """What a close costs, as levels of collateral: `cover` just covers the loss of all of it, `fee` is its penalty, and
    `maintenance` the maintenance margin there."""

    cover: CohortPath
    fee: CohortPath
    maintenance: CohortPath


class PartialClose(eqx.Module):
    """Closes a part. Accounts whose equity is below `full_below` times their maintenance margin are closed in full; touched
    ones rest for `cooldown`, None where they may be closed again at the next step."""

    full_below: eqx.AbstractVar[Scalar]
    cooldown: eqx.AbstractVar[Delay | None]

    def closed_in_full(self, terms: Terms) -> CohortPath:
        """The level below which accounts are closed in full."""
        return terms.cover + larger(terms.fee, self.full_below * terms.maintenance)

    @abstractmethod
    def line(self, terms: Terms) -> tuple[CohortPath | None, CohortPath | Scalar]:
        """The part closed at a level `c`: `(aim - c)^+ / slope` for `(aim, slope)`, or the constant where `aim` is None."""


class FractionClose(PartialClose):
    """Closes `fraction` of what is left."""

    fraction: Scalar
    full_below: Scalar
    cooldown: Delay | None

    def line(self, terms: Terms) -> tuple[CohortPath | None, CohortPath | Scalar]:
        del terms
        return None, self.fraction


class TargetClose(PartialClose):
    """Closes what is needed for an equity of `target` times the maintenance margin of what is left, the penalty paid: with
    equity `e`, margin `m`, penalty `l` per unit of notional, the part `(target m - e) / (target m - l)`."""

    target: Scalar
    full_below: Scalar
    cooldown: Delay | None

    def line(self, terms: Terms) -> tuple[CohortPath | None, CohortPath | Scalar]:
        aim = self.target * terms.maintenance
        return terms.cover + aim, larger(aim - terms.fee, 1e-3 * jnp.abs(aim) + 1e-9)
