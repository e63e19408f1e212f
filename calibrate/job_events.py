"""The `[[events]]` of a job: what happens at certain times, whatever the market does by itself."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from calibrate.section import NotNegative, Positive, Section

Kind = Literal["keeper_outage", "oracle_freeze", "manipulation", "depth_collapse", "gas_spike", "depeg"]

# Which keys say how large an event of a kind is; the first of them has to be there.
SIZES: dict[str, tuple[str, ...]] = {
    "keeper_outage": (),
    "oracle_freeze": (),
    "manipulation": ("displacement_bps", "source", "attacked_depth_usd"),
    "depth_collapse": ("depth_factor",),
    "gas_spike": ("gas_factor",),
    "depeg": ("fall_bps", "recovery_hours"),
}


class EventSection(Section):
    """Something that happens for `duration_hours` (without it, to the horizon) from `from_hours` on; without that at any time at
    which it fits into the horizon, all equally likely.

    `keeper_outage`: nobody closes anything. `oracle_freeze`: nothing is reported. `manipulation`: one `source` of the oracle, or
    all of it, shows the price displaced by `displacement_bps`, down where that is negative; `attacked_depth_usd` is what moves the
    attacked market by 2 % (without it, the job's own depth). `depth_collapse`: depth is multiplied by `depth_factor`. `gas_spike`:
    gas is multiplied by `gas_factor`. `depeg`: the market's price falls by `fall_bps`, and comes back evenly within
    `recovery_hours` after the event, which may be none."""

    kind: Kind
    from_hours: NotNegative | None = None
    duration_hours: Positive | None = None
    displacement_bps: Annotated[float, Field(gt=-10_000, le=1e6)] | None = None
    source: str | None = None
    attacked_depth_usd: Positive | None = None
    depth_factor: Annotated[float, Field(gt=0, le=1)] | None = None
    gas_factor: Annotated[float, Field(ge=1, le=1e6)] | None = None
    fall_bps: Annotated[float, Field(gt=0, lt=10_000)] | None = None
    recovery_hours: NotNegative | None = None

    @model_validator(mode="after")
    def _fits_kind(self) -> "EventSection":
        own, wrong = SIZES[self.kind], []
        if own and getattr(self, own[0]) is None:
            wrong.append(f"`{self.kind}` needs `{own[0]}`")
        for kind, keys in SIZES.items():
            foreign = [key for key in keys if kind != self.kind and getattr(self, key) is not None]
            wrong += [f'`{key}` belongs to kind = "{kind}", not to "{self.kind}"; remove it' for key in foreign]
        if self.displacement_bps == 0:
            wrong.append("`displacement_bps` is 0, which displaces nothing; give it in basis points, below 0 for down")
        if wrong:
            raise ValueError("; ".join(wrong))
        return self


def event_problems(
    events: list[EventSection], horizon_hours: float, step_s: float, sources: list[str], *, unlimited_keepers: bool
) -> list[tuple[str, str]]:
    """What is wrong between events and the rest of the job."""
    wrong = []
    for i, event in enumerate(events):
        where = f"events.{i}"
        first, lasts = event.from_hours or 0.0, event.duration_hours
        if first >= horizon_hours:
            told = f"is {first:g}, and the horizon ends after {horizon_hours:g} hours; nothing would be seen of it"
            wrong.append((f"{where}.from_hours", told))
        elif lasts is not None and event.from_hours is None and lasts > horizon_hours:
            told = (
                f"is {lasts:g}, and the horizon has {horizon_hours:g} hours; give `from_hours`, or a shorter duration"
            )
            wrong.append((f"{where}.duration_hours", told))
        if lasts is not None and round(lasts * 3600 / step_s) < 1:
            told = f"is {lasts:g}, less than half a step of {step_s:g} s (`simulation.step_s`); make it longer"
            wrong.append((f"{where}.duration_hours", told))
        if event.source is not None and event.source not in sources:
            known = f"expected one of {', '.join(sources)}" if sources else "the oracle has no `sources`; remove it"
            wrong.append((f"{where}.source", f"found {event.source!r}; {known}"))
        if event.kind == "gas_spike" and unlimited_keepers:
            told = 'has no effect on keepers = "unlimited", who close at any cost; use "for-profit", or remove it'
            wrong.append((where, f"`gas_spike` {told}"))
    return wrong
