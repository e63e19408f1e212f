"""What the frontier can be drawn over and against: the choices of `[frontier] x` and `y` in a job, and how each reads.

A sweep goes through tolerances of insolvency, each at the least margin, so insolvency against leverage is the picture that its
points are made for. Other axes show the same points from another side.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from calibrate import wording
from calibrate.drawing import PERCENT_LABELS


class Horizontal(NamedTuple):
    """What lies along the axis that all panels share. `error` names the column of its standard error, where that is large
    enough to be seen; `better` is the side on which a venue would rather be."""

    column: str
    error: str | None
    short: str
    told: str
    title: str
    labels: str
    better: str
    text: Callable[[float], str]


class Vertical(NamedTuple):
    """What stands upright, on a logarithmic axis. `columns` finds value, low and high end of its interval among those of a
    table; `unseen` says how a value of zero is marked, `unseen_text` how it reads beside its point."""

    columns: Callable[[Iterable[str]], tuple[str, str, str]]
    short: str
    told: str
    title: str
    unseen: str
    unseen_text: str


def shortfall_columns(columns: Iterable[str]) -> tuple[str, str, str]:
    """Expected shortfall of bad debt with its interval, at whatever level the job asks for."""
    found = next(column for column in columns if wording.metric_family(column) == "bad_debt_es")
    return found, f"{found}_low", f"{found}_high"


HORIZONTAL = {
    "max_leverage": Horizontal(
        column="max_leverage",
        error=None,
        short="leverage",
        told="leverage offered",
        title="Highest leverage at the initial margin (position / collateral)",
        labels=f"datum.label + '{wording.TIMES}'",
        better="further right",
        text=wording.leverage,
    ),
    "user_cost": Horizontal(
        column="user_cost",
        error="user_cost_standard_error",
        short="cost to users",
        told="what liquidated users pay",
        title="Paid by liquidated users within {horizon} (per cent of open interest)",
        labels=PERCENT_LABELS,
        better="further left",
        text=wording.percent,
    ),
}
VERTICAL = {
    "insolvency_probability": Vertical(
        columns=lambda columns: ("insolvency_probability", "low", "high"),
        short="insolvency",
        told="Chance that losses exceed the insurance fund within {horizon}",
        title="{risk} within {horizon} (per cent, logarithmic axis)",
        unseen="no insolvency seen: upper limit",
        unseen_text="below {}",
    ),
    "bad_debt_es": Vertical(
        columns=shortfall_columns,
        short="worst losses",
        told="Mean bad debt in the worst outcomes within {horizon}, as a share of open interest",
        title="{risk}, within {horizon} (per cent of open interest, logarithmic axis)",
        unseen="no loss seen",
        unseen_text="no loss seen",
    ),
}


def subject(x: str, y: str) -> str:
    """What a picture on these axes shows: `insolvency against leverage`."""
    return f"{VERTICAL[y].short} against {HORIZONTAL[x].short}"
