"""A venue's parameter set in the venue's own numbers, and what all such sets can do.

A set holds integers as the venue stores them. One that breaks a rule of the venue cannot be made: the rule is quoted instead. It
knows the policy that stands for it in the simulation, and which set stands for a policy: margins are rounded to the side that asks
for more collateral, and penalties so that keepers get no less, as far as the venue's rules allow.
"""

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any, ClassVar, NamedTuple, Self

from pydantic import model_validator

from calibrate.section import Section

# Policies are simulated in single precision; values nearer to each other than it tells apart are the same.
_SAME = Fraction(1, 2_000_000)
# What a margin that is one number leaves out of the policy: no venue's margin follows volatility by a formula.
_ONE_NUMBER = {"volatility_multiplier": 0.0, "margin_floor_bps": 0.0, "stress_weight": 0.0}
_NOT_VOLATILITY = "the venue's margin is one number that does not follow volatility; leave this at 0"


class Rule(NamedTuple):
    """Something that the venue demands: whether it holds, and how it reads."""

    holds: bool
    says: str


class Basis(NamedTuple):
    """What a proposal is about: its title, one paragraph, and the open interest that it was certified for (USD)."""

    title: str
    summary: str
    open_interest_usd: float


class Native(Section):
    """A parameter set of one market. `follows` are the keys of the policy that the venue has numbers for; `tied` says of its others
    why they are what they are. The rows of its table, where it has one, are counted from `first_row`."""

    follows: ClassVar[tuple[str, ...]]
    tied: ClassVar[dict[str, str]] = {}
    first_row: ClassVar[int] = 0

    @property
    def free(self) -> tuple[str, ...]:
        """The keys of the policy that the set can follow."""
        tied = self.not_free
        return tuple(key for key in self.follows if key not in tied)

    @property
    def not_free(self) -> dict[str, str]:
        """All keys of the policy that the set cannot follow, and why."""
        return self.tied | dict.fromkeys(_ONE_NUMBER, _NOT_VOLATILITY)

    @abstractmethod
    def rules(self) -> Iterator[Rule]:
        """What the venue demands of the set."""

    @abstractmethod
    def policy(self) -> dict[str, float]:
        """The policy that stands for the set, under the keys of a job."""

    @abstractmethod
    def moved_to(self, policy: Mapping[str, float], *, safely: bool = True) -> Self:
        """The set that stands for a policy; what the policy does not speak of stays. Not `safely`: the nearest set that asks for
        no more margin, for the upper end of a range."""

    @abstractmethod
    def proposal(self, before: Self, basis: Basis) -> dict[str, Any]:
        """What the venue's change process takes, by file name: JSON content."""

    @abstractmethod
    def worked(self) -> list[tuple[str, str]]:
        """The venue's formulas on this set: what is computed, and the result."""

    def simulated(self) -> dict[str, Any]:
        """Rules under `[venue]` of a job that follow from the set, as it is in force; a search leaves them where they are."""
        return {}

    def orders(self) -> tuple[tuple[str, ...], ...]:
        """Fields that one transaction sets together, where a change takes several of them; none where one sets all."""
        return ()

    def but(self, **changes: object) -> Self:
        """The set with some fields changed, checked again."""
        return type(self).model_validate(dict(self) | changes)

    @model_validator(mode="after")
    def _keeps_the_rules(self) -> Self:
        broken = [rule.says for rule in self.rules() if not rule.holds]
        if broken:
            raise ValueError(f"breaks the venue's rule: {'; '.join(broken)}")
        return self


def policy_of_one_number(
    margin: Fraction, initial_ratio: Fraction | float, penalty: Fraction, keeper_share: Fraction | float
) -> dict[str, float]:
    """The policy of a maintenance margin that is one number; margin and penalty are shares of notional."""
    return _ONE_NUMBER | {
        "base_margin_bps": in_bps(margin),
        "initial_ratio": float(initial_ratio),
        "penalty_bps": in_bps(penalty),
        "keeper_share": float(keeper_share),
    }


def same(one: Fraction, other: Fraction) -> bool:
    """Whether single precision would not tell the two apart."""
    return abs(one - other) <= _SAME * abs(other)


def whole(amount: Fraction, *, up: bool) -> int:
    """The next whole number on the wanted side; the nearest where single precision would not tell them apart."""
    nearest = round(amount)
    if same(amount, Fraction(nearest)):
        return nearest
    return math.ceil(amount) if up else math.floor(amount)


def kept(asked: Fraction, before: int, unit: Fraction, *, up: bool) -> int:
    """How many units come to what is asked for: as many as before where that is the same, else rounded to the wanted side."""
    return before if same(before * unit, asked) else whole(asked / unit, up=up)


def share(bps: float) -> Fraction:
    """Basis points as an exact fraction of 1."""
    return Fraction(bps) / 10_000


def in_bps(part: Fraction) -> float:
    return float(part * 10_000)


def decimal(amount: Fraction, places: int = 6) -> str:
    """For people: a decimal without trailing zeros."""
    text = f"{float(round(amount, places)):,.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def percent(part: Fraction, places: int = 4) -> str:
    return f"{decimal(100 * part, places)} %"
