"""The section of a job that says how the frontier is swept: tolerances, paths, under which scenarios, and what is drawn."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from calibrate.job_policy import AlternativeSection
from calibrate.section import Count, Section, Tolerance

# What the world of the job itself is called beside its scenarios.
OWN = "the job's own"


class FrontierSection(Section):
    """Tolerances of the sweep, evenly spaced in logarithms, and the fresh paths that certify its points. `alternatives` are
    measured as its points are. `x` and `y` are what the picture shows; the sweep is the same whatever it shows. With `scenarios`
    the sweep runs under each of the job's scenarios too, each by itself."""

    loosest: Tolerance = 0.1
    strictest: Tolerance = 1e-4
    points: Annotated[Count, Field(ge=2, le=100)] = 9
    paths: Annotated[Count, Field(ge=1_000)] = 200_000
    x: Literal["max_leverage", "user_cost"] = "max_leverage"
    y: Literal["insolvency_probability", "bad_debt_es"] = "insolvency_probability"
    scenarios: bool = False
    alternatives: list[AlternativeSection] = Field(default_factory=list, max_length=8)

    @model_validator(mode="after")
    def _order(self) -> "FrontierSection":
        if self.strictest >= self.loosest:
            raise ValueError(
                f"`strictest` is {self.strictest:g} and `loosest` {self.loosest:g}; expected it to be smaller"
            )
        return self


def cannot_sweep(section: FrontierSection, scenarios: Sequence[str]) -> list[tuple[str, str]]:
    """What is wrong with a sweep under scenarios of these names."""
    if not section.scenarios:
        return []
    wrong = [
        (f"scenarios.{i}.name", f"{name!r} is how the frontier's table calls the world of the job itself; give another")
        for i, name in enumerate(scenarios)
        if name == OWN
    ]
    if not scenarios:
        told = "is true, but the job has no scenarios; add a table [[scenarios]], or remove it"
        wrong.append(("frontier.scenarios", told))
    return wrong
