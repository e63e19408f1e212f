"""Who pays for what accounts lack: the waterfall behind their own equity.

In this order: the insurance fund, as far as its cap allows; a backstop vault; winners of the other side, who are deleveraged
at the losers' bankruptcy price, or at the mark price; and what is left is shared by all other users, who may have to wait for
their money. Venues have some of these and call them by their own names; an absent layer pays nothing and costs nothing. Every
deficit is met in full, so that the payments add up to it. `docs/rules.md`, section 9, states the rules; all amounts are shares
of initial open interest.
"""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp

from calibrate.extremes import larger, smaller
from calibrate.rationing import part_of
from calibrate.units import PerPath, Scalar


class FundCap(eqx.Module):
    """What the fund may pay at once (`most`), and how fast that grows back after it has paid (`refill`, per year)."""

    most: Scalar
    refill: Scalar


class Backstop(eqx.Module):
    """The layers between the insurance fund and all other users. `vault` is its money at the start. Winners are deleveraged all
    alike, or (`by_rank`) the most leveraged of each cohort first, whose profit and leverage rank them highest where all were opened
    at one price; they take positions over at the losers' bankruptcy price, or at no more than the oracle price (`at_mark`). Once
    others have to bear a loss nobody may withdraw for `gate` (years)."""

    fund_cap: FundCap | None = None
    vault: Scalar | None = None
    deleverages: bool = eqx.field(static=True, default=False)
    by_rank: bool = eqx.field(static=True, default=False)
    at_mark: bool = eqx.field(static=True, default=False)
    gate: Scalar | None = None


class Reserves(NamedTuple):
    """What the layers have left: the fund's money, what it may pay now, the vault's money."""

    fund: PerPath
    allowance: PerPath | None
    vault: PerPath | None

    def grown(self, income: PerPath, backstop: Backstop | None, dt: Scalar) -> "Reserves":
        """After a step of `dt` years and the fund's income in it."""
        allowance = self.allowance
        if backstop is not None and backstop.fund_cap is not None and allowance is not None:
            allowance = smaller(allowance + backstop.fund_cap.refill * dt, backstop.fund_cap.most)
        return self._replace(fund=self.fund + income, allowance=allowance)


class Losers(NamedTuple):
    """Accounts of one side with negative equity: their deficits, their share of open interest, and the open share of those
    on the other side, who may have to take over their positions; and what of the deficits they would have at the mark price
    too, where winners take over at that (else None)."""

    deficit: PerPath
    share: PerPath
    opposite: PerPath
    beyond: PerPath | None = None

    @property
    def borne(self) -> PerPath:
        """What winners lose who take all of it over."""
        return self.deficit if self.beyond is None else self.deficit - self.beyond


class Payments(NamedTuple):
    """Who met the deficits of a step, and the share of open interest of losing longs and shorts that winners took over. A
    layer that the venue does not have is None."""

    fund: PerPath
    vault: PerPath | None
    winners: PerPath | None
    others: PerPath
    deleveraged: tuple[PerPath, PerPath] | None


def start_reserves(fund: Scalar, backstop: Backstop | None, like: PerPath) -> Reserves:
    zero = jnp.zeros_like(like)
    cap = backstop.fund_cap if backstop is not None else None
    vault = backstop.vault if backstop is not None else None
    return Reserves(
        fund + zero, None if cap is None else cap.most + zero, None if vault is None else vault + zero
    )  # fmt: skip


def pay(reserves: Reserves, deficit: PerPath, losers: tuple[Losers, Losers] | None) -> tuple[Reserves, Payments]:
    """Meet a deficit, layer by layer. `losers` (longs, shorts) are given where winners are deleveraged."""
    fund = smaller(deficit, reserves.fund)
    if reserves.allowance is not None:
        fund = smaller(fund, reserves.allowance)
        reserves = reserves._replace(allowance=reserves.allowance - fund)
    left, vault, winners, deleveraged = deficit - fund, None, None, None
    if reserves.vault is not None:
        vault = smaller(left, reserves.vault)
        left = left - vault
        reserves = reserves._replace(vault=reserves.vault - vault)
    if losers is not None:
        # Deficits of a step are met in the same proportion, so the same part of every loser's position is left over.
        unmet = part_of(left, deficit)
        found = [part_of(side.opposite, unmet * side.share) for side in losers]
        longs, shorts = (unmet * part for part in found)
        deleveraged = (longs * losers[0].share, shorts * losers[1].share)
        winners = smaller(longs * losers[0].borne + shorts * losers[1].borne, left)
        if losers[0].beyond is None:
            # Where there are winners enough they lose all of it, whatever rounding does to the parts.
            winners = jnp.where((found[0] < 1) | (found[1] < 1), winners, left)
        left = left - winners
    return reserves._replace(fund=reserves.fund - fund), Payments(fund, vault, winners, left, deleveraged)


class Gate(NamedTuple):
    """For how long nobody may withdraw from now on, and for how long nobody could so far (years)."""

    ahead: PerPath
    so_far: PerPath

    def after(self, left_to_others: PerPath, closes_for: Scalar, dt: Scalar) -> "Gate":
        """A step of `dt` years later, in which others had to bear that much."""
        ahead = jnp.where(left_to_others > 0, closes_for, self.ahead)
        return Gate(larger(ahead - dt, 0.0), self.so_far + smaller(ahead, dt))
