"""How a fit reads in a terminal: its figures with standard errors, and how well it meets the data, on one screen."""

from rich import box
from rich.table import Table

from calibrate.fits.result import WorldFit


def tables_of(fit: WorldFit) -> list[Table]:
    figures = Table(
        title=fit.title, box=box.SIMPLE, title_justify="left", caption=f"standard errors: {fit.errors_from}"
    )
    figures.caption_justify = "left"
    for heading in ("", "value", "standard error", "what it is"):
        figures.add_column(heading, justify="right" if heading in ("value", "standard error") else "left")
    for row in fit.figures:
        error = "" if row.standard_error is None else f"{row.standard_error:.2g}"
        figures.add_row(row.name, _shown(row.value), error, row.meaning)
    goodness = Table(title="fit against data", box=box.SIMPLE, title_justify="left")
    for heading in ("", "data", "fit", "±"):
        goodness.add_column(heading, justify="right" if heading else "left")
    for entry in fit.goodness:
        spread = "" if entry.model_error is None else f"{entry.model_error:.2g}"
        goodness.add_row(entry.what, "" if entry.data is None else _shown(entry.data), _shown(entry.model), spread)
    return [figures, goodness]


def _shown(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1e5 else f"{value:.5g}" if abs(value) >= 1000 else f"{value:.4g}"
