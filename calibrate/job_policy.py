"""The policy as a job states it: what is in force, what may change and how far, and alternatives that have a name."""

from typing import Annotated

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from calibrate.section import Positive, Section

# The lowest and the highest value of each key that mean anything.
LEGAL: dict[str, tuple[float, float]] = {
    "base_margin_bps": (0, 10_000),
    "volatility_multiplier": (0, 100),
    "penalty_bps": (0, 10_000),
    "margin_floor_bps": (0, 10_000),
    "initial_ratio": (1, 100),
    "keeper_share": (0, 1),
    "forecast_memory_hours": (0.01, 100_000),
    "stress_weight": (0, 1),
    "margin_rise_bps_per_hour": (0, 1_000_000),
    "margin_fall_bps_per_hour": (0, 1_000_000),
}
# What the frontier calls its own rows.
RESERVED = ("frontier", "incumbent", "recommended", "best found")
LONGEST_NAME = 24  # so that the figure has room for it


class Choice(Section):
    """A policy parameter: its incumbent `value`, whether it is `free`, and if so within which bounds and by how much it may
    change in one proposal."""

    value: float = Field(allow_inf_nan=False)
    free: bool = False
    low: float | None = Field(default=None, allow_inf_nan=False)
    high: float | None = Field(default=None, allow_inf_nan=False)
    largest_change: Positive | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "Choice":
        if self.free and (self.low is None or self.high is None):
            raise ValueError("a free parameter needs `low` and `high`")
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"`low` is {self.low:g} and `high` {self.high:g}; expected `low` to be smaller")
        if (self.low is not None and self.value < self.low) or (self.high is not None and self.value > self.high):
            raise ValueError(
                f"the incumbent value {self.value:g} lies outside its bounds [{_or_open(self.low)}, {_or_open(self.high)}]; "
                "widen the bounds or correct the value"
            )
        return self

    @property
    def reach(self) -> tuple[float, float]:
        """Lowest and highest value that may be proposed."""
        if not self.free:
            return self.value, self.value
        assert self.low is not None
        assert self.high is not None
        change = self.largest_change or float("inf")
        return max(self.low, self.value - change), min(self.high, self.value + change)


def _or_open(bound: float | None) -> str:
    return "open" if bound is None else f"{bound:g}"


def _plain_number(value: object) -> object:
    return {"value": float(value)} if isinstance(value, int | float) and not isinstance(value, bool) else value


Parameter = Annotated[Choice, BeforeValidator(_plain_number)]


class PolicySection(Section):
    """What the venue chooses. A plain number is fixed; a table may set it free. The maintenance margin changes as fast as its
    formula says, unless `margin_rise_bps_per_hour` or `margin_fall_bps_per_hour` limits it."""

    base_margin_bps: Parameter
    volatility_multiplier: Parameter
    penalty_bps: Parameter
    margin_floor_bps: Parameter = Choice(value=0.0)
    initial_ratio: Parameter = Choice(value=2.0)
    keeper_share: Parameter = Choice(value=0.5)
    forecast_memory_hours: Parameter = Choice(value=24.0)
    stress_weight: Parameter = Choice(value=0.0)
    margin_rise_bps_per_hour: Parameter | None = None
    margin_fall_bps_per_hour: Parameter | None = None

    @field_validator(*LEGAL)
    @classmethod
    def _legal(cls, choice: Choice | None, info: ValidationInfo) -> Choice | None:
        if choice is None:
            return None
        low, high = LEGAL[str(info.field_name)]
        given = (("value", choice.value), ("low", choice.low), ("high", choice.high))
        outside = [
            f"`{word}` is {number:g}" for word, number in given if number is not None and not low <= number <= high
        ]
        if outside:
            raise ValueError(f"{', '.join(outside)}; expected {low:g} to {high:g}")
        return choice

    def choices(self) -> dict[str, Choice]:
        """By key; a limit that the job does not set is no choice."""
        return {name: choice for name in type(self).model_fields if (choice := getattr(self, name)) is not None}

    def free(self) -> dict[str, Choice]:
        return {name: choice for name, choice in self.choices().items() if choice.free}


class AlternativeSection(Section):
    """A policy that is held against the frontier under its `name`. Keys that are left out stay at the incumbent's value."""

    name: str
    base_margin_bps: float | None = None
    volatility_multiplier: float | None = None
    penalty_bps: float | None = None
    margin_floor_bps: float | None = None
    initial_ratio: float | None = None
    keeper_share: float | None = None
    forecast_memory_hours: float | None = None
    stress_weight: float | None = None
    margin_rise_bps_per_hour: float | None = None
    margin_fall_bps_per_hour: float | None = None

    @field_validator("name")
    @classmethod
    def _can_be_shown(cls, name: str) -> str:
        if not (0 < len(name) <= LONGEST_NAME and name.isprintable() and name == name.strip()):
            expected = f"1 to {LONGEST_NAME} printable characters, no spaces around them"
            raise ValueError(f"found {name!r}; expected {expected}")
        if same_name(name) in RESERVED:
            raise ValueError(f"{name!r} is taken ({', '.join(RESERVED)} are); choose another name")
        return name

    @field_validator(*LEGAL)
    @classmethod
    def _legal(cls, value: float | None, info: ValidationInfo) -> float | None:
        low, high = LEGAL[str(info.field_name)]
        if value is not None and not low <= value <= high:
            raise ValueError(f"found {value:g}; expected {low:g} to {high:g}")
        return value

    @model_validator(mode="after")
    def _differs(self) -> "AlternativeSection":
        if not self.settings():
            raise ValueError("sets no key of the policy, as if it were the incumbent; give one, such as `penalty_bps`")
        return self

    def settings(self) -> dict[str, float]:
        """The keys that it sets."""
        return {key: value for key in LEGAL if (value := getattr(self, key)) is not None}


def same_name(name: str) -> str:
    """Two names that are alike in this form look alike to a reader."""
    return name.strip().casefold()
