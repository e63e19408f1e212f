"""Toxic liquidations: those that leave an account worse off than before, because it has less equity left than it has to pay.

In lending terms, with a bonus `b` for whoever repays debt, a liquidation is toxic once debt over collateral exceeds 1 / (1 + b):
every unit repaid takes more out of the collateral than out of the debt, health falls, and what is left becomes bad debt (Warmuz,
Chaudhary and Pinna 2022, arXiv 2212.07306). Of an account with maintenance margin `m` and penalty `p`, both of the collateral's
value, equity is below `p` once the price has fallen by (m - p) / (1 - p) from where liquidation becomes possible; where
m <= p every liquidation is toxic from the first moment.
"""

import math
from collections.abc import Mapping
from typing import Any

from calibrate.job import Job
from calibrate.metrics import mean
from calibrate.simulate import Sample
from calibrate.units import BPS

# Unpaid penalties below this share of what is due, counted with two standard errors, are not worth a remark.
_WORTH_SAYING = 0.01


def toxic_note(job: Job, policy: Mapping[str, float] | None = None) -> list[str]:
    """What is to be said of a policy, the job's own if none is given, whose liquidations can be toxic from the first moment."""
    values = policy or {key: choice.value for key, choice in job.policy.choices().items()}
    penalty = values["penalty_bps"] * BPS
    least = max(values["base_margin_bps"], values["margin_floor_bps"]) * BPS + job.venue.penalty_allowance * penalty
    least = min(max(least, job.venue.lowest_margin_bps * BPS), job.venue.highest_margin_bps * BPS)
    bonus_rule = None if job.venue.incentive is None else job.venue.incentive.bonus
    if bonus_rule is not None and bonus_rule.lowest_part is not None:
        # At the trigger an account pays the least.
        penalty *= bonus_rule.lowest_part
    if least > penalty:
        return []
    lent, bonus = 1 - least, penalty / (1 - least)
    return [
        f"liquidations can be toxic from the first: a maintenance margin of {least / BPS:.4g} bps is no more than the penalty of "
        f"{penalty / BPS:.4g} bps, so that who is liquidated cannot pay all of it (of a loan: debt of up to {lent:.4g} of the "
        f"collateral exceeds 1 / (1 + bonus) = {1 / (1 + bonus):.4g}); raise the margin or lower the penalty"
    ]


def toxic_of(job: Job, sample: Sample, penalty_rate: float) -> dict[str, Any]:
    """How much of the penalties that were due liquidated accounts could not pay, and how far prices fall from the trigger until
    then. The error is at most that: penalties and what is liquidated rise and fall together, which is not counted."""
    bonus = job.venue.incentive is not None and job.venue.incentive.bonus is not None
    paid, closed = (mean(sample.values[name], sample.weights) for name in ("penalty", "liquidated"))
    due = penalty_rate * closed.value
    if bonus or due <= 0:
        return {}
    share = max(1 - paid.value / due, 0.0)
    error = math.hypot(paid.standard_error / due, paid.value / due * closed.standard_error / closed.value)
    return {"unpaid_penalty_share": {"value": share, "standard_error": error}, "penalty_bps": penalty_rate / BPS}


def toxic_lines(found: dict[str, Any]) -> list[str]:
    """The warning for a screen, where there is something to warn of."""
    if not found:
        return []
    share = found["unpaid_penalty_share"]
    if share["value"] - 2 * share["standard_error"] < _WORTH_SAYING:
        return []
    return [
        f"toxic liquidations: {share['value']:.1%} of the penalties due (standard error at most {share['standard_error']:.1%}) "
        f"could not be paid, since those accounts had less than {found['penalty_bps']:.4g} bps left when they were closed"
    ]
