"""How markets that were simulated together read in a terminal."""

from typing import Any

from rich import box
from rich.table import Table

from calibrate.market.joint_files import JointModel

Entry = dict[str, Any]


def joint_tables(told: dict[str, Any]) -> list[Table]:
    """Each market by itself, insolvencies together, and one fund for all; every figure with its standard error."""
    return [_markets(told), _together(told), _one_fund(told)]


def _markets(told: dict[str, Any]) -> Table:
    level = f"{100 * told['tail_level']:g}"
    title = f"each market by itself: {told['paths']:,} paths over {told['horizon_days']:g} day(s), ± one standard error"
    headings = (
        "asset",
        "fund, USD",
        "insolvency probability",
        "needed fund, mean, USD",
        f"needed fund, ES {level} %, USD",
    )
    table = _table(title, headings)
    for name, row in told["markets"].items():
        figures = (_usd(row["insurance_fund_usd"]), _share(row["insolvency_probability"]))
        table.add_row(name, row["asset"], *figures, _money(row["need_usd"]), _money(row["need_es_usd"]))
    return table


def _together(told: dict[str, Any]) -> Table:
    table = _table("insolvent on the same path", ("in this world", "if markets were independent"))
    for count, row in told["insolvent_at_least"].items():
        table.add_row(f"{count} or more markets", _share(row["joint"]), _share(row["independent"]))
    for one, others in told["insolvent_given"].items():
        for other, entry in others.items():
            alone = told["markets"][other]["insolvency_probability"]
            given = "never seen" if entry is None else _share(entry)
            table.add_row(f"{other}, where {one} is", given, _share(alone))
    return table


def _one_fund(told: dict[str, Any]) -> Table:
    fund, level = told["one_fund"], f"{100 * told['tail_level']:g}"
    table = _table(
        f"one insurance fund of {_usd(fund['fund_usd'])} USD", ("in this world", "if markets were independent")
    )
    table.add_row("is not enough", _share(fund["not_enough"]["joint"]), _share(fund["not_enough"]["independent"]))
    rows = {
        "needed, mean, USD": "need_usd",
        f"needed, quantile {level} %, USD": "need_var_usd",
        f"needed, ES {level} %, USD": "need_es_usd",
    }
    for what, key in rows.items():
        table.add_row(what, _money(fund[key]["joint"]), _money(fund[key]["independent"]))
    table.add_row(f"ES {level} % over the sum of each market's own", _share(fund["share_of_separate_es"]), "")
    return table


def _table(title: str, headings: tuple[str, ...]) -> Table:
    table = Table(title=title, box=box.SIMPLE, title_justify="left", title_style="")
    table.add_column("")
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def _share(entry: Entry) -> str:
    return f"{100 * entry['value']:.3g} % ± {100 * entry['standard_error']:.2g}{_mark(entry)}"


def _money(entry: Entry) -> str:
    return f"{_usd(entry['value'])} ± {_usd(entry['standard_error'])}{_mark(entry)}"


def _mark(entry: Entry) -> str:
    """A star where the figure does not mean what its name suggests: JSON says why."""
    return " *" if entry.get("warning") else ""


def _usd(value: float) -> str:
    return f"{value:,.0f}" if abs(value) < 1e7 else f"{value / 1e6:,.4g} M"


def fit_tables(fitted: JointModel) -> list[Table]:
    """Parameters with standard errors, correlations, and how assets fall together in the data and in the model."""
    title = f"{', '.join(fitted.assets)}: {fitted.fit['bars']:,} bars that all files have, ± one standard error"
    shared, own, matrix = _table(title, ("all",)), _table("", fitted.assets), _table("correlations", fitted.assets)
    for name, value in fitted.parameters.items():
        shared.add_row(name, _sure(value, fitted.standard_errors.get(name)))
    for name in fitted.own[fitted.assets[0]][1]:
        figures = (_sure(fitted.own[a][1][name], fitted.own_standard_errors[a].get(name)) for a in fitted.assets)
        own.add_row(name, *figures)
    for name, values in fitted.correlation.items():
        errors = fitted.correlation_standard_errors[name]
        for k, asset in enumerate(fitted.assets):
            row = (f"{values[k, j]:.3f} ± {errors[k, j]:.2g}" if j < k else "" for j in range(len(values)))
            matrix.add_row(f"{name}: {asset}", *row)
    return [shared, own, matrix, _dependence(fitted), _far_quantiles(fitted)]


def _dependence(fitted: JointModel) -> Table:
    table = _table("how assets move together", ("data", "standard error", "model"))
    for row in fitted.dependence:
        figures = (f"{row['data']:.3f}", f"{row['data_standard_error']:.2g}", f"{row['model']:.3f}")
        table.add_row(f"{row['what']}, {row['first']} and {row['second']}", *figures)
    return table


def _far_quantiles(fitted: JointModel) -> Table:
    table = _table("return quantiles, model / data", fitted.assets)
    for horizon, quantile in dict.fromkeys((row["horizon"], row["quantile"]) for row in fitted.goodness):
        rows = [row for row in fitted.goodness if (row["horizon"], row["quantile"]) == (horizon, quantile)]
        table.add_row(f"{horizon}, {quantile:g}", *(f"{row['ratio']:.2f}" for row in rows))
    return table


def _sure(value: float, error: float | None) -> str:
    return f"{value:.4g} " + ("fixed" if error is None else f"± {error:.2g}")
