"""The part of the report on scenarios: the trade-off in each of them, as small multiples and as a table."""

from collections.abc import Iterator

from calibrate import markup, wording
from calibrate import report_words as words
from calibrate.job_frontier import OWN
from calibrate.report_data import OfWorld, Recommended, Run, Standing
from calibrate.trade_off_words import BEYOND


def in_every_scenario(run: Run, drawn: str | None) -> str:
    """Figure and table; nothing where no scenario was swept."""
    if drawn is None:
        return ""
    told = markup.paragraph(words.SCENARIOS)
    if tolerated_on_average(run.recommended):
        told += markup.paragraph(words.SCENARIOS_ON_AVERAGE)
    heads = [
        "Scenario",
        "Policy",
        "Leverage",
        f"Insolvency within {wording.horizon(run.recommended.horizon_days)}",
        "Leverage on the line at that probability",
    ]
    return f"{told}\n<figure>{drawn}</figure>\n{markup.table(heads, list(_rows(run)))}"


def tolerated_on_average(recommended: Recommended) -> bool:
    """Whether limits hold on average over the scenarios, and not in each."""
    limits = recommended.certificate.constraints if recommended.certificate else []
    return any(limit.by_scenario for limit in limits)


def _rows(run: Run) -> Iterator[list[markup.Cell]]:
    worlds: dict[str, OfWorld] = {OWN: run.trade_off} | run.trade_off.scenarios
    for scenario, world in worlds.items():
        for standing in world.standings:
            if standing.label == "recommended" and run.proposed() is None:
                continue
            label = run.role() if standing.label == "recommended" else standing.label
            yield [scenario, wording.role(label), *_figures(standing)]


def _figures(standing: Standing) -> tuple[str, str, str]:
    leverage, probability, more = standing.max_leverage, standing.insolvency_probability, standing.more_leverage
    insolvent = (
        wording.percent(probability.value, probability.standard_error)
        if probability.value > 0
        else f"none seen, below {wording.percent(probability.interval[1])}"
    )
    offered = BEYOND
    if more is not None:
        # The error of the difference holds that of the policy's own leverage already.
        offered = wording.leverage(leverage.value + more.value, more.standard_error)
    return wording.leverage(leverage.value, leverage.standard_error), insolvent, offered
