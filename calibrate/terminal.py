"""What a person sees in the terminal: live progress on stderr, short tables on stdout."""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from calibrate.evidence_words import by_kind_and_size, by_scenario, doubling_briefly, drawn_briefly, forced_change
from calibrate.trade_off_words import hypervolume_briefly, standing_briefly
from calibrate.wording import MINUS

if TYPE_CHECKING:
    from calibrate.evidence import Compared, Verification
    from calibrate.gradient import GradientCheck

# What is shown comes from users' files: square brackets in it are no markup.
talk = Console(stderr=True, markup=False, emoji=False)


class Live:
    """A listener that shows each stage as a progress bar on stderr, or nothing at all. A stage that comes again, as screenings
    do in a search, has its bar again and is not announced anew. Use as a context manager."""

    def __init__(self, *, shown: bool = True) -> None:
        self.shown = shown
        self._progress = Progress(
            TextColumn("{task.description:<26}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=talk,
            disable=not (talk.is_terminal and shown),
        )
        self._lock = threading.Lock()
        self._stages: dict[tuple[str, int], TaskID] = {}
        self._status: TaskID | None = None

    def __enter__(self) -> "Live":
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def stage(self, name: str, total: int) -> Callable[[int], None]:
        task = self._stages.get((name, total))
        if task is not None:
            self._progress.reset(task)
        else:
            task = self._stages[name, total] = self._progress.add_task(name, total=total)
            if self.shown and not talk.is_terminal:
                talk.print(f"{name} ({total:,})")

        def done(units: int) -> None:
            with self._lock:
                self._progress.advance(task, units)

        return done

    def note(self, text: str) -> None:
        if self.shown:
            talk.print(text)

    def status(self, text: str) -> None:
        with self._lock:
            if self._status is None:
                self._status = self._progress.add_task(text, total=None)
            self._progress.update(self._status, description=text)


def number(value: float, digits: int = 4) -> str:
    """A plain figure for a table."""
    return f"{value:.{digits}g}"


def percent(value: float, digits: int = 3) -> str:
    return f"{100 * value:.{digits}g} %"


def policy_table(recommended: dict[str, Any]) -> Table:
    table = Table(title=f"{recommended['name']}: {recommended['status']}", box=box.SIMPLE, title_justify="left")
    for heading, side in (("", "left"), ("incumbent", "right"), ("recommended", "right"), ("change", "right")):
        table.add_column(heading, justify=side)  # type: ignore[arg-type]
    for name, row in recommended["policy"].items():
        if row["free"]:
            change = row["change"]
            table.add_row(name, number(row["incumbent"]), number(row["value"]), f"{change:+.4g}")
    return table


_HEADLINES = (
    ("insolvency_probability", "insolvency probability"),
    ("bad_debt_es", "expected shortfall of bad debt"),
    ("margin_per_oi", "margin per open interest"),
    ("max_leverage", "highest leverage"),
    ("user_cost", "user cost"),
)


def headline_table(metrics: dict[str, Any]) -> Table:
    """The figures that decide, incumbent beside recommended, with 95 % intervals."""
    first = metrics["incumbent"]
    title = f"over {first['horizon_days']:g} day(s), {first['paths']:,} paths, 95 % intervals; shares of open interest"
    table = Table(title=title, box=box.SIMPLE, title_justify="left", title_style="")
    table.add_column("")
    for side in metrics:
        table.add_column(side, justify="right")
    for prefix, label in _HEADLINES:
        name = next((name for name in first["metrics"] if name.startswith(prefix)), None)
        if name is not None:
            table.add_row(label, *(_with_interval(name, part["metrics"][name]) for part in metrics.values()))
    return table


def _with_interval(name: str, entry: dict[str, Any]) -> str:
    low, high = entry["interval"]
    if name == "max_leverage":
        return f"{entry['value']:.2f}x [{low:.2f}, {high:.2f}]"
    return f"{percent(entry['value'])} [{100 * low:.3g}, {100 * high:.3g}]"


def sensitivity_table(recommended: dict[str, Any]) -> Table:
    title = "what drives the insolvency probability: its change in % for +1 % in"
    table = Table(title=title, box=box.SIMPLE, title_justify="left", title_style="")
    table.add_column("", overflow="fold")
    table.add_column("kind")
    table.add_column("elasticity", justify="right")
    table.add_column("standard\nerror", justify="right")
    rows = sorted(recommended["sensitivities"], key=by_kind_and_size)
    forced = any(forced_change(row) for row in rows)
    if forced:
        table.add_column("+10 % forces\nmargin by %", justify="right", no_wrap=True)
    for row in rows:
        shown = [row["parameter"], row["kind"], f"{row['elasticity']:+.3g}", f"{row['standard_error']:.2g}"]
        table.add_row(*shown, *([forced_change(row).replace(" %", "").replace(MINUS, "-")] if forced else []))
    return table


def evidence_lines(recommended: dict[str, Any]) -> list[str]:
    """How the evidence was drawn, where that was not plainly, and what twice as high limits would buy, where that is known."""
    certificate = recommended["certificate"]
    lines = drawn_briefly(certificate), *by_scenario(certificate), doubling_briefly(recommended.get("limits_doubled"))
    return [line for line in lines if line]


def metrics_table(result: dict[str, Any]) -> Table:
    title = f"{result['paths']:,} paths over {result['horizon_days']:g} day(s); losses as shares of open interest"
    table = Table(title=title, box=box.SIMPLE, title_justify="left", title_style="")
    for heading in ("", "value", "standard error", "95 % interval", ""):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=not table.columns)
    for name, entry in result["metrics"].items():
        low, high = entry["interval"]
        table.add_row(
            name,
            f"{entry['value']:.4g}",
            f"{entry['standard_error']:.2g}",
            f"{low:.4g} to {high:.4g}",
            entry.get("warning", ""),
        )
    return table


def standing_lines(trade_off: dict[str, Any]) -> list[str]:
    """A line for every named policy."""
    return [standing_briefly(standing) for standing in trade_off["standings"]]


def scenario_lines(trade_off: dict[str, Any]) -> list[str]:
    """Where scenarios were swept, a line for what is and what may be in force under each of them."""
    return [
        f"{scenario}: {standing_briefly(standing)}"
        for scenario, world in trade_off.get("scenarios", {}).items()
        for standing in world["standings"]
        if standing["label"] in ("incumbent", "recommended")
    ]


def hypervolume_line(trade_off: dict[str, Any]) -> str:
    return hypervolume_briefly(trade_off["hypervolume"])


def verification_table(found: "Verification") -> Table:
    title = f"certificate made again on the same {found.paths:,} paths"
    table = Table(title=title, box=box.SIMPLE, title_justify="left")
    for heading in ("", "limit", "recorded", "again", "recorded upper limit", "again", ""):
        table.add_column(heading, justify="right" if heading else "left")
    for row in found.rows:
        figures = (row.limit, row.recorded, row.again, row.recorded_upper, row.again_upper)
        shown = ("none" if figure is None else number(figure) for figure in figures)
        table.add_row(row.name, *shown, "agrees" if row.agrees else "differs")
    return table


def verification_verdict(found: "Verification") -> str:
    if not found.as_prescribed:
        return "not verified: the recorded seed, paths or confidence are not those that the job prescribes"
    if not found.agrees:
        return "not verified: the figures above do not agree with the record, or a limit is not kept"
    return "verified: every figure agrees, and every limit is kept"


def comparison_table(found: "Compared", first: str, second: str) -> Table:
    title = f"{second} less {first}: {found.paths:,} shared paths over {found.horizon_days:g} day(s)"
    table = Table(title=title, box=box.SIMPLE, title_justify="left")
    for heading in ("", first, second, "difference", "standard error", "95 % interval", ""):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=not table.columns)
    for row in found.rows:
        low, high = row.interval
        figures = (number(row.first), number(row.second), f"{row.difference:+.4g}", f"{row.standard_error:.2g}")
        table.add_row(row.metric, *figures, f"{low:+.4g} to {high:+.4g}", row.verdict)
    return table


def comparison_notes(found: "Compared") -> list[str]:
    """Where weighted paths do not suffice for a verdict, and why."""
    return [f"{row.metric}: no verdict, since of the difference {row.poor}" for row in found.rows if row.poor]


def gradient_table(rows: list["GradientCheck"]) -> Table:
    table = Table(title="derivatives along the path against central differences", box=box.SIMPLE, title_justify="left")
    for heading in (
        "metric",
        "parameter",
        "pathwise",
        "standard error",
        "difference quotient",
        "gap",
        "error of gap",
        "",
    ):
        table.add_column(heading, justify="left" if heading in ("metric", "parameter", "") else "right")
    for row in rows:
        table.add_row(
            row.metric,
            row.parameter,
            f"{row.pathwise:+.6g}",
            f"{row.standard_error:.1g}",
            f"{row.finite_difference:+.6g}",
            f"{row.pathwise - row.finite_difference:+.1e}",
            f"{row.difference_standard_error:.1e}",
            "agrees" if row.agrees else "differs",
        )
    return table
