"""The `[venue.guards]` and the mark price of a job: when the venue does not trust its oracle alone."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from calibrate.section import Positive, Section

Part = Literal["oracle", "oracle-and-basis", "market", "sources"]
BandEnd = Literal["worse", "better"]
MarkParts = Annotated[list[Part], Field(min_length=2, max_length=4)]


class GuardsSection(Section):
    """A price whose report is older than `stale_after_s` is stale: then nobody is liquidated (`pause`), or accounts are judged at
    the `market` price. While oracle and market are more than `widest_gap_bps` apart nobody is liquidated, and neither while the
    oracle is `widest_from_average_bps` or more from its own exponential average with time constant `average_minutes`."""

    stale_after_s: Positive | None = None
    when_stale: Literal["pause", "market"] = "pause"
    widest_gap_bps: Positive | None = None
    widest_from_average_bps: Positive | None = None
    average_minutes: Positive | None = None

    @model_validator(mode="after")
    def _guards_something(self) -> "GuardsSection":
        if (self.widest_from_average_bps is None) != (self.average_minutes is None):
            raise ValueError("an average needs `widest_from_average_bps` and `average_minutes`, both or neither")
        if self.stale_after_s is None and self.widest_gap_bps is None and self.average_minutes is None:
            raise ValueError("guards nothing; give `stale_after_s`, `widest_gap_bps` or `widest_from_average_bps`")
        if self.stale_after_s is None and self.when_stale != "pause":
            raise ValueError("`when_stale` has no meaning without `stale_after_s`; add it, or remove this")
        return self
