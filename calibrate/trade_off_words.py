"""How the trade-off curve reads: where a policy stands, and what the whole curve is worth, in sentences.

They are made of what `frontier.json` holds, briefly for the terminal and at length for the report.
"""

from collections.abc import Mapping
from typing import Any

from calibrate import wording

BEYOND = "beyond the sweep"


def standing_briefly(standing: Mapping[str, Any]) -> str:
    """One line on a named policy: what the frontier has over it."""
    label = f"{standing['label']} against the frontier"
    if standing["insolvency_probability"]["value"] == 0:
        return f"{label}: no insolvency seen, so there is nothing to compare"
    leverage, probability = _leverage_gap(standing), _probability_gap(standing)
    if not leverage and not probability:
        return f"{label}: {BEYOND}"
    cost = f" (users pay {_cost(standing['user_cost_there'])}, not {_cost(standing['user_cost'])})" if leverage else ""
    there = f"a probability {probability}" if probability else BEYOND
    return f"{label}: at its insolvency probability {leverage or BEYOND}{cost}, at its leverage {there}"


def hypervolume_briefly(hypervolume: Mapping[str, Any]) -> str:
    """One line on the whole curve."""
    about = f"leverage times decades of probability, counted from {_corner(hypervolume)}; larger is better"
    return f"hypervolume: {_area(hypervolume)} ({about})"


def standing_at_length(subject: str, standing: Mapping[str, Any]) -> str:
    """The same for a reader who has not seen the picture before. `subject` is how the policy is called at the start."""
    leverage, probability = standing["max_leverage"], standing["insolvency_probability"]
    offers = f"{subject} offers a leverage of {wording.leverage(leverage['value'], leverage['standard_error'])}"
    if probability["value"] == 0:
        upper = wording.percent(probability["interval"][1])
        return (
            f"{offers}. It was insolvent on none of the simulated paths (below {upper}), "
            "so how far it stands from the frontier cannot be told."
        )
    at = wording.percent(probability["value"], probability["standard_error"])
    sentences = [f"{offers} at an insolvency probability of {at}", *_gaps_at_length(standing)]
    if standing["dominated"]:
        sentences.append("A point of the frontier beats it on both counts, by more than the error bars")
    return " ".join(f"{sentence}." for sentence in sentences)


def _gaps_at_length(standing: Mapping[str, Any]) -> list[str]:
    leverage, probability = _leverage_gap(standing), _probability_gap(standing)
    if not leverage and not probability:
        return [f"How far that is from the frontier cannot be told: {BEYOND}"]
    offered = f"How much leverage the frontier offers at that probability cannot be told: {BEYOND}"
    if leverage:
        costs = _cost(standing["user_cost_there"]), _cost(standing["user_cost"])
        paid = f"users who are liquidated pay {costs[0]} of open interest instead of {costs[1]}"
        offered = f"At that probability the frontier offers {leverage}, and {paid}"
    likely = f"At that leverage the frontier's probability is {probability}"
    if not probability:
        likely = f"How likely insolvency is on the frontier at that leverage cannot be told: {BEYOND}"
    return [offered, likely]


def hypervolume_at_length(hypervolume: Mapping[str, Any]) -> str:
    """What the area means, for a reader who may want to compare two runs."""
    return (
        f"One number stands for the whole frontier, its hypervolume: {_area(hypervolume)}. It is the area that the points "
        f"enclose with the corner at {_corner(hypervolume)}, where a turn of leverage at a ten times lower probability "
        "counts as 1. A larger area is a better frontier. Only runs with the same corner and number of points compare."
    )


def _cost(estimate: Mapping[str, Any]) -> str:
    return wording.percent(estimate["value"], estimate["standard_error"])


def _area(hypervolume: Mapping[str, Any]) -> str:
    if warning := hypervolume.get("warning"):
        return f"0, since {warning}"
    return wording.number(hypervolume["value"], hypervolume["standard_error"])


def _corner(hypervolume: Mapping[str, Any]) -> str:
    corner = hypervolume["reference"]
    tolerance = wording.percent(corner["insolvency_probability"])
    return f"a leverage of {wording.leverage(corner['max_leverage'])} and a probability of {tolerance}"


def _leverage_gap(standing: Mapping[str, Any]) -> str:
    """How much more or less leverage the frontier offers; nothing beyond the sweep."""
    gap = standing["more_leverage"]
    if gap is None:
        return ""
    amount = wording.number(abs(gap["value"]), gap["standard_error"])
    return f"a leverage {'higher' if gap['value'] >= 0 else 'lower'} by {amount}{_doubt(gap, 0.0)}"


def _probability_gap(standing: Mapping[str, Any]) -> str:
    """How many times lower or higher its probability is; nothing beyond the sweep."""
    gap = standing["times_safer"]
    if gap is None:
        return ""
    # A factor below 1 reads as its inverse; the relative error stays.
    times = max(gap["value"], 1 / gap["value"])
    amount = wording.number(times, times * gap["standard_error"] / gap["value"])
    return f"{amount} times {'lower' if gap['value'] >= 1 else 'higher'}{_doubt(gap, 1.0)}"


def _doubt(gap: Mapping[str, Any], none: float) -> str:
    low, high = gap["interval"]
    return " (within the error)" if low <= none <= high else ""
