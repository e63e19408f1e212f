"""The page that people decide by, rebuilt from a run folder alone.

`build_report` reads what a run left behind, draws the figures and writes one self-contained `report.html`: what is
recommended and why in plain words first, then the evidence, the trade-off, all metrics with their errors, what the answer
depends on, what was assumed and where it all came from. The page loads nothing, prints well, and only the interactive
frontier needs JavaScript. Everything that comes from a file is escaped where it enters the page: the helpers at the end of
the module take text and return markup, and nothing else makes markup.
"""

import json
import math
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import pandas as pd
from pydantic import BaseModel, BeforeValidator, ValidationError

from calibrate import figures, wording
from calibrate.errors import Problem, raise_all
from calibrate.report_style import STYLE

# JSON has no "not a number"; writers use null.
Number = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]

FRONTIER_COLUMNS = (
    "label",
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
    "certified",
    "paths",
)
TEXT_COLUMNS = ("label", "certified")
HEADLINES = ("insolvency_probability", "max_leverage", "margin_per_oi", "bad_debt", "user_cost")
BANNERS = {
    "certified": "Certified: the recommended parameters meet every constraint on fresh simulated paths.",
    "not certified": "Not certified: the best parameters found did not pass on fresh paths. Do not adopt them as they are.",
    "infeasible": "Infeasible: no parameters within the allowed bounds meet every constraint. Nothing is recommended.",
}
ASSUMED = (
    "The price follows the fitted market model named in the job: random volatility that reverts to its usual level, and sudden "
    "jumps whose frequency and size come from the same fit. What the fit has not seen, the simulation does not contain.",
    "Open positions are those of the book named in the job. Nobody tops up, reduces or opens a position within the horizon.",
    "Liquidations move the price against the venue, by a square-root law of market impact whose depth shrinks when volatility "
    "rises; the displaced price recovers only in part.",
    "The venue sees prices through its oracle with the delays of the job, and keepers close accounts after theirs.",
    "The insurance fund starts at the size given in the job and gets only the penalties of the simulated liquidations.",
)
NOT_COVERED = (
    "Bugs, governance attacks and manipulation of the oracle or of the underlying market.",
    "Losses of other markets that share the same insurance fund, and loss of value of the collateral itself.",
    "How users react to the new parameters over weeks: more leverage may be used once more is allowed.",
    "Errors of the market model. The intervals on this page measure simulation error only; the section on what the answer "
    "depends on shows how much a wrong assumption would matter.",
)
SOURCES = (
    "P. Glasserman, Monte Carlo Methods in Financial Engineering, Springer 2004: extremes within a time step by Brownian bridge.",
    "S. G. Kou, A Jump-Diffusion Model for Option Pricing, Management Science 48 (2002): the double-exponential jumps.",
    "M. Broadie and P. Glasserman, Estimating Security Price Derivatives Using Simulation, Management Science 42 (1996): "
    "pathwise derivatives.",
    "C. J. Clopper and E. S. Pearson, The Use of Confidence or Fiducial Limits Illustrated in the Case of the Binomial, "
    "Biometrika 26 (1934): exact limits for probabilities.",
    "F. Bucci, M. Benzaquen, F. Lillo and J.-P. Bouchaud, Crossover from Linear to Square-Root Market Impact, "
    "arXiv 1811.05230: the impact of liquidations.",
    "J. K. Salmon, M. A. Moraes, R. O. Dror and D. E. Shaw, Parallel Random Numbers: As Easy as 1, 2, 3, SC 2011: "
    "the Philox generator.",
)


# ------------------------------------------------------------------------------------------------ what a run left behind


class Parameter(BaseModel):
    value: Number
    incumbent: Number
    change: Number
    unit: str = ""
    free: bool
    low: Number = math.nan
    high: Number = math.nan
    description: str = ""


class Constraint(BaseModel):
    name: str
    limit: Number
    value: Number
    standard_error: Number
    interval: tuple[Number, Number]
    upper: Number
    satisfied: bool


class Certificate(BaseModel):
    paths: int
    seed: int
    attempts: int = 1
    confidence: float
    constraints: list[Constraint]


class Sensitivity(BaseModel):
    of: str
    parameter: str
    kind: str
    elasticity: Number
    standard_error: Number
    method: str = ""


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


class Metric(BaseModel):
    value: Number
    standard_error: Number
    interval: tuple[Number, Number]
    warning: str | None = None


class Measured(BaseModel):
    metrics: dict[str, Metric]
    paths: int
    horizon_days: float
    seed: int
    tail_level: float
    open_interest_usd: float


class Metrics(BaseModel):
    """`metrics.json`."""

    incumbent: Measured
    recommended: Measured | None = None


class Run(NamedTuple):
    """A run folder, read and checked."""

    recommended: Recommended
    metrics: Metrics
    frontier: pd.DataFrame
    record: dict[str, Any]

    def free(self) -> list[str]:
        return [key for key, parameter in self.recommended.policy.items() if parameter.free]


def read_run(folder: Path) -> Run:
    """Everything in the folder that the report needs; all that is missing or malformed is named in one `UserError`."""
    problems: list[Problem] = []
    if not folder.is_dir():
        raise_all([Problem(str(folder), "there is no such run folder; give the folder that `calibrate run` has written")])
    recommended = _read(folder / "recommended.json", lambda text: Recommended.model_validate(json.loads(text)), problems)
    metrics = _read(folder / "metrics.json", lambda text: Metrics.model_validate(json.loads(text)), problems)
    record = _read(folder / "run.toml", tomllib.loads, problems)
    frontier = _read_frontier(folder / "frontier.csv", problems)
    raise_all(problems)
    assert recommended is not None and metrics is not None and record is not None and frontier is not None
    return Run(recommended, metrics, frontier, record)
