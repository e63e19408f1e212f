"""How a history that was replayed from many starts reads in a terminal."""

from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

Entry = dict[str, Any]


def tables(told: Entry) -> list[Table]:
    """Means and quantiles over starts, and the worst starts."""
    return [_over_starts(told), _worst(told)]


def lines(told: Entry) -> list[str]:
    left_out = f"; {told['left_out']:,} starts left out, whose windows lack bars" if told["left_out"] else ""
    overlap = f"{told['windows_side_by_side']:.3g} windows side by side"
    entries = [*told["metrics"].values(), *(entry for row in told["quantiles"].values() for entry in row.values())]
    warnings = dict.fromkeys(entry["warning"] for entry in entries if "warning" in entry)
    return [
        f"errors: {told['error_method']}; the history holds {overlap}{left_out}",
        *(f"* {warning}" for warning in warnings),
        f"picture: {Path(told['folder']) / 'starts.html'}",
    ]


def _over_starts(told: Entry) -> Table:
    title = (
        f"{told['starts']:,} starts, one every {told['every_hours']:g} h, windows of {told['horizon_days']:g} day(s), "
        f"{told['paths']:,} ways each; shares of open interest, ± one standard error"
    )
    levels = list(told["quantiles"]["bad_debt"])
    table = _table(title, ("", "mean over starts", *(f"{level} % of starts below" for level in levels)))
    for name, entry in told["metrics"].items():
        of_levels = told["quantiles"].get(name, {})
        called = "share of starts insolvent" if name == "insolvency_probability" else name
        table.add_row(called, _figure(entry), *(_figure(of_levels[level]) for level in levels if of_levels))
    return table


def _worst(told: Entry) -> Table:
    headings = ("start", "lowest price", "highest price", "ways insolvent", "bad debt", "liquidated", "user cost")
    table = _table("worst starts, of windows that overlap the worst", headings)
    for row in told["worst"]:
        prices = (f"{100 * row[name]:+.1f} %" for name in ("lowest_return", "highest_return"))
        losses = (_percent(row[name]) for name in ("insolvency_probability", "bad_debt", "liquidated", "user_cost"))
        table.add_row(row["start"], *prices, *losses)
    return table


def _table(title: str, headings: tuple[str, ...]) -> Table:
    table = Table(title=title, box=box.SIMPLE, title_justify="left", title_style="")
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="right" if place else "left")
    return table


def _figure(entry: Entry) -> str:
    error = entry["standard_error"]
    mark = " *" if "warning" in entry else ""
    return f"{entry['value']:.3g}{mark}" if error is None else f"{entry['value']:.3g} ± {error:.2g}{mark}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
