"""What a venue's own numbers make of a job's policy: which policies it can write, and which of them stands for another.

The venue's numbers are what is free: where maintenance is half of the initial margin, or one of a list, the search ends on such a
value. A policy is *settled* when it is one that the venue can write.
"""

import itertools
from collections.abc import Mapping
from fractions import Fraction

from pydantic import ValidationError

from calibrate.errors import Problem, UserError
from calibrate.export.native import Native, same
from calibrate.job_policy import Choice, PolicySection
from calibrate.presets import Preset

# Limits on how fast the margin moves, which no venue here has.
_SPEEDS = ("margin_rise_bps_per_hour", "margin_fall_bps_per_hour")


def incumbent_of(preset: Preset, policy: PolicySection) -> Native:
    """The venue's set that is in force, as the job's policy states it."""
    return preset.native.moved_to({key: choice.value for key, choice in policy.choices().items()})


def settled(native: Native, values: Mapping[str, float]) -> dict[str, float]:
    """A policy as the venue can write it: not less careful in its margins."""
    try:
        return dict(values) | native.moved_to(values).policy()
    except ValidationError as error:
        raise UserError([Problem("", f"the venue cannot write the policy that was found: {_rules(error)}")]) from None


def writable_margins(native: Native, values: Mapping[str, float], low: float, high: float) -> tuple[float, float]:
    """The lowest and highest maintenance margin (bps) within bounds that the venue can write, all else as in `values`."""
    key = "base_margin_bps"
    lowest = native.moved_to({**values, key: low}).policy()[key]
    highest = native.moved_to({**values, key: high}, safely=False).policy()[key]
    return lowest, highest


def rule_problems(preset: Preset, policy: PolicySection, clip_bps: tuple[float, float], place: str) -> list[Problem]:
    """What the venue's rules say against a job's policy and its bounds; `clip_bps` are the job's lowest and highest margin."""
    choices = policy.choices()
    margin = choices["base_margin_bps"]
    lowest = min(margin.value, margin.low if margin.free and margin.low is not None else margin.value)
    highest = max(margin.value, margin.high if margin.free and margin.high is not None else margin.value)
    if lowest <= 0 or highest >= 10_000:
        message = f"reaches from {lowest:g} to {highest:g}; {preset.name} needs a margin above 0 and below 10,000"
        return [Problem(f"{place}: policy.base_margin_bps", message)]
    found = _unsaid(preset, choices, place)
    if not clip_bps[0] <= lowest <= highest <= clip_bps[1]:
        message = f"cuts the margin off, which {preset.name} does not; leave it out"
        key = "lowest_margin_bps" if clip_bps[0] > lowest else "highest_margin_bps"
        found.append(Problem(f"{place}: venue.{key}", message))
    return found or _not_writable(preset, choices, place) or _illegal_bounds(preset, choices, place)


def _unsaid(preset: Preset, choices: Mapping[str, Choice], place: str) -> list[Problem]:
    """Parts of the policy that the venue does not have, or that follow from others."""
    found = [
        Problem(f"{place}: policy.{key}", f"{preset.name} does not limit how fast its margin moves; remove it")
        for key in _SPEEDS
        if key in choices
    ]
    own = preset.native.policy()
    for key, why in preset.native.not_free.items():
        if choices[key].free:
            found.append(Problem(f"{place}: policy.{key}", f"cannot be free: {why}"))
        elif not _near(choices[key].value, own[key]):
            message = f"is {choices[key].value:g}, where {preset.name} has {own[key]:g}: {why}"
            found.append(Problem(f"{place}: policy.{key}", message))
    return found


def _not_writable(preset: Preset, choices: Mapping[str, Choice], place: str) -> list[Problem]:
    """Incumbent values that the venue cannot have in force."""
    values = {key: choice.value for key, choice in choices.items()}
    try:
        written = preset.native.moved_to(values).policy()
    except ValidationError as error:
        return [Problem(f"{place}: policy", f"the incumbent {_rules(error)}")]
    return [
        Problem(
            f"{place}: policy.{key}",
            f"is {values[key]:g}, which {preset.name} cannot write; the nearest on the careful side is {written[key]:.10g}",
        )
        for key in preset.native.free
        if not _near(values[key], written[key])
    ]


def _illegal_bounds(preset: Preset, choices: Mapping[str, Choice], place: str) -> list[Problem]:
    """Bounds that break a rule of the venue wherever the other free parameters are."""
    values = {key: choice.value for key, choice in choices.items()}
    ends = {
        key: {"value": choice.value, "low": choice.low or 0.0, "high": choice.high or 0.0}
        for key, choice in choices.items()
        if choice.free
    }
    found = []
    for key, own in ends.items():
        others = {other: set(numbers.values()) for other, numbers in ends.items() if other != key}
        corners = [dict(zip(others, corner, strict=True)) for corner in itertools.product(*others.values())]
        for side in ("low", "high"):
            broken = [_broken(preset.native, values | corner | {key: own[side]}, side == "low") for corner in corners]
            if all(broken):
                found.append(Problem(f"{place}: policy.{key}", f"`{side}` is {own[side]:g}: {broken[0]}"))
    return found


def _broken(native: Native, values: Mapping[str, float], safely: bool) -> str:
    try:
        native.moved_to(values, safely=safely)
    except ValidationError as error:
        return _rules(error)
    return ""


def _rules(error: ValidationError) -> str:
    found = []
    for details in error.errors():
        where = ".".join(str(part) for part in details["loc"])
        found.append(f"{where}: {details['msg']}" if where else details["msg"].removeprefix("Value error, "))
    return "; ".join(found)


def _near(one: float, other: float) -> bool:
    return same(Fraction(one), Fraction(other))
