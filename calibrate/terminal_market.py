"""How a fitted market model and a comparison of families read in a terminal."""

from rich import box
from rich.table import Table

from calibrate.market.comparison import Comparison
from calibrate.market.fit import Fit


def fit_tables(fitted: Fit) -> list[Table]:
    """Parameters with standard errors, and how well the model's return quantiles meet the data's."""
    name = " + ".join([fitted.family, *fitted.parts.values()])
    parameters = Table(title=f"{name}, {fitted.bars:,} bars", box=box.SIMPLE, title_justify="left")
    for heading in ("", "value", "standard error"):
        parameters.add_column(heading, justify="right" if heading else "left")
    for key, value in fitted.parameters.items():
        error = fitted.standard_errors.get(key)
        parameters.add_row(key, f"{value:.4g}", "fixed" if error is None else f"{error:.2g}")
    goodness = Table(title="return quantiles", box=box.SIMPLE, title_justify="left")
    for heading in ("horizon", "quantile", "data", "model", "model / data"):
        goodness.add_column(heading, justify="right")
    for row in fitted.goodness:
        goodness.add_row(
            str(row["horizon"]),
            f"{row['quantile']:g}",
            f"{row['data']:+.4f}",
            f"{row['model']:+.4f}",
            f"{row['ratio']:.2f}",
        )
    return [parameters, goodness]


def comparison_tables(found: Comparison) -> list[Table]:
    """The ranking, and coverage of the 99 % and 99.9 % quantiles."""
    ranking = Table(
        title=f"{found.train.source}: fitted before {found.until[:10]}, scored to {found.last[:10]}",
        box=box.SIMPLE,
        title_justify="left",
        caption="skill: share of constant volatility's ranked probability score (CRPS) that is saved, mean over horizons",
    )
    ranking.caption_justify = "left"
    for heading in ("", "family", "state", "skill, %", "±", "behind, %", "±"):
        ranking.add_column(heading, justify="left" if heading in ("family", "state") else "right")
    hours = list(dict.fromkeys(row.hours for row in found.scores))
    for name in hours:
        ranking.add_column(f"CRPS {name:g} h, bps", justify="right")
    coverage = Table(
        title="returns that were no worse than the forecast quantile, %, for longs / for shorts",
        box=box.SIMPLE,
        title_justify="left",
    )
    coverage.add_column("family")
    for name in hours:
        errors = next((row.coverage_99_se, row.coverage_999_se) for row in found.scores if row.hours == name)
        for level, error in zip((99, 99.9), errors, strict=True):
            coverage.add_column(f"{name:g} h, {level:g} ± {100 * error:.2g}", justify="right")
    for place in found.ranking:
        rows = [row for row in found.scores if row.family == place.family]
        figures = (f"{100 * value:.2f}" for value in (place.skill, place.skill_se, place.behind, place.behind_se))
        scores = (f"{row.crps_bps:.1f}" for row in rows)
        ranking.add_row(str(place.rank), place.family, place.state, *figures, *scores)
        pairs = [pair for row in rows for pair in ((row.long_99, row.short_99), (row.long_999, row.short_999))]
        coverage.add_row(place.family, *(f"{100 * long:.2f} / {100 * short:.2f}" for long, short in pairs))
    return [ranking, coverage]
