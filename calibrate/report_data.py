"""A finished run as the report reads it: the five files of a run folder, checked.

The models here say what the report relies on and nothing more; further keys in the files are left alone. Whatever is
missing or malformed in any of the files is collected and raised together, so that one look is enough to mend a folder.
"""

import io
import json
import math
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import pandas as pd
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError, model_validator

from calibrate import wording
from calibrate.errors import Problem, raise_all
from calibrate.frontier_worlds import SCENARIO, own_world

Content = TypeVar("Content")
# JSON has no "not a number"; writers use null.
Number = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]


def _not_negative(value: float) -> float:
    if value < 0:
        raise ValueError(f"expected a number that is not negative, found {value:g}")
    return value


NotNegative = Annotated[Number, AfterValidator(_not_negative)]

REQUIRED_METRICS = ("insolvency_probability", "bad_debt")
TEXT_COLUMNS = ("label", "certified", "dominated")
OPTIONAL_TEXT_COLUMNS = (SCENARIO,)
NUMBER_COLUMNS = (
    "tolerance",
    "insolvency_probability",
    "standard_error",
    "low",
    "high",
    "margin_per_oi",
    "margin_per_oi_standard_error",
    "max_leverage",
    "user_cost",
    "user_cost_standard_error",
    "paths",
)
MAY_BE_EMPTY = ("tolerance", "paths", "margin_per_oi_standard_error", "user_cost_standard_error")


class Parameter(BaseModel):
    """One parameter of the policy, in the unit that its name ends with."""

    value: Number
    incumbent: Number
    change: Number
    unit: str = ""
    free: bool
    low: Number = math.nan
    high: Number = math.nan
    description: str = ""


class Diagnosis(BaseModel):
    """What the estimate of weighted paths rests on; the gaps are in standard errors."""

    effective_paths: NotNegative
    largest_share: NotNegative
    half_gap: NotNegative
    weight_gap: NotNegative


class Constraint(BaseModel):
    """What was asked of a metric, and what fresh paths say. `upper` is its upper confidence limit; `shadow_price` is by which
    share the objective falls if the limit grows by a small share, over that share; `by_scenario` which part of an average
    over scenarios each makes up."""

    name: str
    limit: Number
    value: Number
    standard_error: Number
    interval: tuple[Number, Number]
    upper: Number
    satisfied: bool
    diagnosis: Diagnosis | None = None
    shadow_price: NotNegative = math.nan
    by_scenario: dict[str, NotNegative] | None = None


class Certificate(BaseModel):
    """The evidence, on paths that the search did not use. How they were drawn is not known of older folders."""

    paths: Annotated[int, Field(ge=1)]
    seed: int
    attempts: int = 1
    confidence: float
    sampling: Literal["plain", "importance"] | None = None
    plain_share: Annotated[float, Field(gt=0, le=1)] | None = None
    gain: NotNegative = math.nan
    constraints: list[Constraint]

    @model_validator(mode="after")
    def _plain_share(self) -> "Certificate":
        if self.sampling == "importance" and self.plain_share is None:
            raise ValueError("`plain_share` is missing, without which weighted paths cannot be explained")
        return self


class Forced(BaseModel):
    """The change of the margin that a tenth more of an assumption would force."""

    margin_percent: Number
    standard_error: Number


class FoundAgain(Forced):
    """The same as solving again in that world found it, and whether it `agrees`, within its errors."""

    agrees: bool


class Elasticity(BaseModel):
    """By how many per cent the metric `of` changes for +1 % in the parameter."""

    of: str
    parameter: str
    kind: str
    elasticity: Number
    standard_error: Number


class Sensitivity(Elasticity):
    """The same with how it was found, and what the assumption would force."""

    method: str = ""
    a_tenth_more_forces: Forced | None = None
    found_again: FoundAgain | None = None


class Doubled(BaseModel):
    """What twice as high limits would buy."""

    margin_per_oi: Number
    max_leverage: Number
    more_leverage: Number


class Recommended(BaseModel):
    """`recommended.json`."""

    name: str
    status: Literal["certified", "not certified", "infeasible"]
    message: str = ""
    horizon_days: float
    open_interest_usd: float
    policy: dict[str, Parameter]
    certificate: Certificate | None = None
    sensitivities: list[Sensitivity] = []
    elasticities: list[Elasticity] = []
    limits_doubled: Doubled | None = None


class Metric(BaseModel):
    """An estimate with its error; `interval` is at 95 %."""

    value: Number
    standard_error: Number
    interval: tuple[Number, Number]
    warning: str | None = None


class Measured(BaseModel):
    """All metrics of one set of parameters."""

    metrics: dict[str, Metric]
    paths: int
    horizon_days: float
    seed: int
    tail_level: float
    open_interest_usd: float


class Metrics(BaseModel):
    """`metrics.json`; nothing is recommended where nothing was feasible."""

    incumbent: Measured
    recommended: Measured | None = None


class Corner(BaseModel):
    """From where the area under the frontier is measured."""

    max_leverage: float
    insolvency_probability: float


class Hypervolume(Metric):
    reference: Corner


class Standing(BaseModel):
    """Where a named policy stands against the frontier; null beyond the sweep."""

    label: str
    max_leverage: Metric
    insolvency_probability: Metric
    user_cost: Metric
    dominated: bool
    more_leverage: Metric | None
    user_cost_there: Metric | None
    times_safer: Metric | None


class Axes(BaseModel):
    """What the frontier's picture shows."""

    x: Literal["max_leverage", "user_cost"]
    y: Literal["insolvency_probability", "bad_debt_es"]


class OfWorld(BaseModel):
    """What is said about the frontier in one world."""

    hypervolume: Hypervolume
    standings: list[Standing]


class TradeOff(OfWorld):
    """`frontier.json`: about the job's own world, and by name about its scenarios where those were swept too."""

    axes: Axes
    scenarios: dict[str, OfWorld] = {}


class Run(NamedTuple):
    """A run folder. Only what was certified is called recommended; where nothing was feasible, nothing is proposed,
    even if the search left behind something that it had tried. `frontier` is that of the job's own world, `worlds` the whole
    table."""

    recommended: Recommended
    metrics: Metrics
    frontier: pd.DataFrame
    worlds: pd.DataFrame
    trade_off: TradeOff
    record: dict[str, Any]

    def role(self) -> str:
        return "recommended" if self.recommended.status == "certified" else "best found"

    def proposed(self) -> Measured | None:
        return None if self.recommended.status == "infeasible" else self.metrics.recommended


def read_run(folder: Path) -> Run:
    """Everything in the folder that the report needs, or one `UserError` that names all that is wrong with it."""
    if not folder.is_dir():
        raise_all([Problem(str(folder), "there is no such run folder; give the folder that a run has written")])
    problems: list[Problem] = []
    recommended = _read(
        folder / "recommended.json", lambda text: Recommended.model_validate(json.loads(text)), problems
    )
    metrics = _read(folder / "metrics.json", lambda text: Metrics.model_validate(json.loads(text)), problems)
    record = _read(folder / "run.toml", tomllib.loads, problems)
    trade_off = _read(folder / "frontier.json", lambda text: TradeOff.model_validate(json.loads(text)), problems)
    table = _read(folder / "frontier.csv", _table, problems)
    frontier = None if table is None else _checked(folder / "frontier.csv", table, problems)
    if (
        recommended is not None
        and metrics is not None
        and recommended.status != "infeasible"
        and not metrics.recommended
    ):
        message = (
            f"there are no metrics of the recommended parameters, but the status is {recommended.status!r}; run again"
        )
        problems.append(Problem(f"{folder / 'metrics.json'}: recommended", message))
    if trade_off is not None and frontier is not None:
        for place, absent in _absent(trade_off, frontier):
            message = f"names {', '.join(absent)}, of which frontier.csv has no row; run again into a new folder"
            problems.append(Problem(f"{folder / 'frontier.json'}: {place}", message))
    lacking = [name for name in REQUIRED_METRICS if metrics is not None and name not in metrics.incumbent.metrics]
    if lacking:
        message = f"there is no {' and no '.join(lacking)}; expected all metrics of the parameters in force"
        problems.append(Problem(f"{folder / 'metrics.json'}: incumbent.metrics", message))
    raise_all(problems)
    # What could not be read has been raised above.
    assert recommended is not None
    assert metrics is not None
    assert record is not None
    assert frontier is not None
    assert trade_off is not None
    return Run(recommended, metrics, own_world(frontier), frontier, trade_off, record)


def _absent(trade_off: TradeOff, frontier: pd.DataFrame) -> list[tuple[str, list[str]]]:
    """Where in frontier.json policies or scenarios are named that the table does not have."""
    named = {standing.label for standing in trade_off.standings} - set(own_world(frontier)["label"])
    swept = set(trade_off.scenarios) - set(frontier.get(SCENARIO, ()))
    return [(place, sorted(names)) for place, names in (("standings", named), ("scenarios", swept)) if names]


def _read(path: Path, parse: Callable[[str], Content], problems: list[Problem]) -> Content | None:
    """The parsed file; what is wrong with it goes to `problems` instead."""
    try:
        return parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        problems.append(Problem(str(path), "the file is missing; the report needs it, so run again into a new folder"))
    except ValidationError as error:  # before ValueError, of which it is one
        for found in error.errors():
            key = ".".join(str(part) for part in found["loc"])
            problems.append(Problem(f"{path}: {key}" if key else str(path), found["msg"].removeprefix("Value error, ")))
    except (ValueError, OSError) as error:
        problems.append(Problem(str(path), f"the file cannot be read: {error}"))
    return None


def _of_shortfall(table: pd.DataFrame) -> tuple[str, ...]:
    """The columns of the expected shortfall, by the level that the table has; by the usual one where it has none."""
    name = next(
        (column for column in table.columns if wording.metric_family(column) == "bad_debt_es"), "bad_debt_es_99"
    )
    return name, f"{name}_standard_error", f"{name}_low", f"{name}_high"


def _table(text: str) -> pd.DataFrame:
    # Text is kept as it stands: a label "NA" is a label.
    types, empty = dict.fromkeys((*TEXT_COLUMNS, *OPTIONAL_TEXT_COLUMNS), str), ["", "nan", "NaN"]
    return pd.read_csv(io.StringIO(text), dtype=types, keep_default_na=False, na_values=empty)


def _checked(path: Path, table: pd.DataFrame, problems: list[Problem]) -> pd.DataFrame | None:
    """The frontier with numbers in all columns of numbers."""
    found: list[Problem] = []
    numeric = (*NUMBER_COLUMNS, *_of_shortfall(table))
    missing = [column for column in (*TEXT_COLUMNS, *numeric) if column not in table.columns]
    if missing:
        found.append(
            Problem(str(path), f"the table lacks the columns {', '.join(missing)}; it has {', '.join(table.columns)}")
        )
    elif "incumbent" not in set(own_world(table)["label"]):
        found.append(Problem(f"{path}: label", "there is no row for the incumbent, with which all others are compared"))
    for column in [column for column in numeric if column in table.columns]:
        numbers = pd.to_numeric(table[column], errors="coerce")
        bad = table.index[numbers.isna() & (table[column].notna() | (column not in MAY_BE_EMPTY))]
        if len(bad):
            message = f"expected a number in every row, found {table[column].iloc[bad[0]]!r} in row {bad[0] + 1}"
            found.append(Problem(f"{path}: {column}", message))
        table[column] = numbers
    problems += found
    return None if found else table
