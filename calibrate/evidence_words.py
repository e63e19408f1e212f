"""How the evidence reads: how paths were drawn, what the limits cost, and what assumptions force, in sentences.

They are made of what `recommended.json` holds, briefly for the terminal and at length for the report. A folder of an earlier
version lacks some of it; then there is nothing to say.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from calibrate import wording

# Of an event that was seen on none of so many paths, at 95 % confidence the chance is below this over their number.
_RULE_OF_THREE = 3.0
# Shadow prices are told for limits that are eased by this much.
_EASED_BY = 0.1


def drawn_briefly(certificate: Mapping[str, Any] | None) -> str:
    """One line on how the evidence was drawn; nothing where that was plainly."""
    if not _weighted(certificate):
        return ""
    assert certificate is not None
    gain = _gain(certificate)
    line = f"evidence: {certificate['paths']:,} weighted paths" + (f", each worth {gain} plain ones" if gain else "")
    found = [entry["diagnosis"]["effective_paths"] for entry in certificate["constraints"] if entry.get("diagnosis")]
    known = [paths for paths in found if math.isfinite(paths)]
    return f"{line}; {wording.count(min(known))} effective" if known else line


def drawn_at_length(certificate: Mapping[str, Any]) -> list[str]:
    """How the evidence was drawn, for a reader who has not heard of weighted paths: paragraphs."""
    if not _weighted(certificate):
        return [_PLAINLY] if certificate.get("sampling") == "plain" else []
    paths, share = certificate["paths"], certificate["plain_share"]
    gain = _gain(certificate)
    method = (
        "Losses are rare. So paths were drawn more often from where losses are than the market's law would have it, and each "
        "counts with a weight that makes up for this (importance sampling)."
        + (f" One of these paths tells as much about the limits as {gain} that are drawn plainly." if gain else "")
    )
    unseen = _RULE_OF_THREE / (share * paths)
    caveat = (
        "What this cannot rule out: where losses are was learned from trial paths. A way to insolvency that was not learned is "
        f"only seen by the {wording.percent(share)} of paths that follow the market's own law, about "
        f"{wording.count(share * paths)}. If its chance is below about {wording.percent(_rounded(unseen))} (3 over their "
        "number), they may all have missed it. So whatever is said about chances below that rests on the learned law having "
        f"found the ways that matter.{_against_tolerance(certificate, unseen)}"
    )
    return [method, caveat]


def rests_on(certificate: Mapping[str, Any]) -> Iterator[str]:
    """For each limit, what its weighted estimate rests on."""
    for entry in certificate["constraints"]:
        if (found := entry.get("diagnosis")) is None:
            continue
        name = wording.metric_name(entry["name"])
        if not found["effective_paths"] > 0:
            yield f"{name}: no path with such a loss was drawn."
            continue
        yield (
            f"{name}: the estimate rests on as much as {wording.count(found['effective_paths'])} equally heavy paths with "
            f"such losses; the heaviest one makes up {wording.percent(_rounded(found['largest_share']))} of it. Two halves of "
            f"the paths differ by {_errors(found['half_gap'])}, and the mean weight is {_errors(found['weight_gap'])} from one, "
            "which is what it has to be."
        )


def by_scenario(certificate: Mapping[str, Any] | None) -> list[str]:
    """Where there are scenarios: which limit in which of them comes closest, or for each limit on an expectation over scenarios,
    which of them it comes from, the largest part first."""
    told, limits = [], certificate["constraints"] if certificate else ()
    if any(entry["name"].endswith("]") for entry in limits):
        closest = max(limits, key=lambda entry: entry["upper"] / entry["limit"])
        told.append(
            f"closest to its limit over all scenarios: {wording.metric_name(closest['name'])}"
            + ("" if closest["name"].endswith("]") else " in the job's own")
        )
    for entry in limits:
        if parts := entry.get("by_scenario"):
            largest = sorted(parts.items(), key=lambda part: -part[1])
            listed = ", ".join(f"{wording.percent(_rounded(part))} {name}" for name, part in largest)
            told.append(f"{wording.metric_name(entry['name'])} on average over the scenarios: {listed}")
    return told


_PLAINLY = "Paths were drawn by the market's own law, and all count alike (plain sampling)."


def _weighted(certificate: Mapping[str, Any] | None) -> bool:
    return certificate is not None and certificate.get("sampling") == "importance"


def _gain(certificate: Mapping[str, Any]) -> str:
    """How many plain paths tell as much as one; nothing where not known."""
    gain = certificate.get("gain")
    return "" if gain is None or not math.isfinite(gain) else wording.number(_rounded(gain))


def _errors(gap: float) -> str:
    return f"{gap:.1f} standard errors" if math.isfinite(gap) else wording.NOT_KNOWN


def _against_tolerance(certificate: Mapping[str, Any], unseen: float) -> str:
    """Whether the tolerance of insolvency is one of the chances that only the learned law can tell."""
    limit = next((entry["limit"] for entry in certificate["constraints"] if entry["name"] == _INSOLVENCY), math.nan)
    if not limit > 0:
        return ""
    if limit < unseen:
        return f" The tolerance of {wording.percent(limit)} is such a chance."
    return f" The tolerance of {wording.percent(limit)} is above it, {wording.number(_rounded(limit / unseen))} times as high."


_INSOLVENCY = "insolvency_probability"


# --- limits ---------------------------------------------------------------------------------------------------------------


def doubling_briefly(doubled: Mapping[str, Any] | None) -> str:
    """One line on what tolerating twice as much buys; nothing where it is not known."""
    found = _bought(doubled)
    return f"tolerating twice as much on all limits would {found}" if found else ""


def doubling_at_length(doubled: Mapping[str, Any] | None, limits: int) -> str:
    """The same as a sentence. `limits` is how many there are."""
    found = _bought(doubled)
    of_all = " on all limits at once" if limits > 1 else ""
    return f"Tolerating twice as much{of_all} would {found}." if found else ""


def _bought(doubled: Mapping[str, Any] | None) -> str:
    if doubled is None:
        return ""
    after, more = doubled["max_leverage"], doubled["more_leverage"]
    if not (math.isfinite(after) and math.isfinite(more)):
        return ""
    if abs(more) < 0.05:
        return f"leave the leverage at {_turns(after)}"
    moved = "raise" if more > 0 else "lower"
    return f"{moved} leverage by {abs(more):.1f}, from {_turns(after - more)} to {_turns(after)}"


def _turns(leverage: float) -> str:
    return f"{leverage:.1f}{wording.TIMES}"


def limit_prices(constraints: Sequence[Mapping[str, Any]]) -> list[str]:
    """For each limit, dearest first, whether it binds and what easing it buys."""
    known = [entry for entry in constraints if math.isfinite(entry["shadow_price"])]
    return [_price(entry) for entry in sorted(known, key=lambda entry: -entry["shadow_price"])]


def _price(entry: Mapping[str, Any]) -> str:
    name, limit = wording.metric_name(entry["name"]), wording.metric_value(entry["name"], entry["limit"])
    saved = _rounded(_EASED_BY * entry["shadow_price"])
    if saved < 5e-5:
        return f"{name}, limit {limit}: does not bind."
    return (
        f"{name}, limit {limit}: binds. If it alone were {wording.percent(_EASED_BY)} higher, what the search minimises would "
        f"fall by about {wording.percent(saved)}."
    )


def _rounded(value: float) -> float:
    """To two digits, which is as much as an estimate without a standard error deserves."""
    return float(f"{value:.2g}")


# --- drivers --------------------------------------------------------------------------------------------------------------


def by_kind_and_size(entry: Mapping[str, Any]) -> tuple[bool, bool, float]:
    """Sorts drivers: assumptions by the change that they would force, then parameters of the policy; the unknown last. What a
    tenth more would force goes with the elasticity, so that folders without it are sorted alike."""
    known = math.isfinite(entry["elasticity"])
    forced = entry.get("a_tenth_more_forces")
    size = entry["elasticity"] if forced is None or not forced["margin_percent"] else forced["margin_percent"]
    return entry["kind"] != "assumption", not known, -abs(size) if known and math.isfinite(size) else 0.0


def forced_change(entry: Mapping[str, Any]) -> str:
    """`+5.9 % ± 0.5 %`: the change of the margin that a tenth more of an assumption would force; nothing where not known."""
    forced = entry.get("a_tenth_more_forces")
    if forced is None:
        return ""
    return _signed_percent(forced)


def _signed_percent(change: Mapping[str, Any]) -> str:
    value, error = change["margin_percent"] / 100, change["standard_error"] / 100
    return f"{'+' if value > 0 else ''}{wording.percent(value, error)}"


def found_again(entry: Mapping[str, Any]) -> str:
    """`solved again: +6.9 % ± 0.2 %`, and whether that differs from what was told; nothing where not known."""
    again = entry.get("found_again")
    if again is None:
        return ""
    return f"solved again: {_signed_percent(again)}{'' if again['agrees'] else ', which differs'}"


def forced_at_length(entry: Mapping[str, Any]) -> str:
    """What the leading assumption would force, to stand within a sentence; nothing where not known."""
    forced = entry.get("a_tenth_more_forces")
    if forced is None or not math.isfinite(forced["margin_percent"]):
        return ""
    amount = wording.percent(abs(forced["margin_percent"]) / 100, forced["standard_error"] / 100)
    again = found_again(entry)
    told = f"the margin would have to be {amount} {'higher' if forced['margin_percent'] >= 0 else 'lower'}"
    return f"{told} ({again})" if again else told
