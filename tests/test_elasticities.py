"""Elasticities of all metrics: against derivatives along the path, which are exact where the oracle is, and in closed form."""

import functools
from dataclasses import replace

import numpy as np
import pytest
from brute_force import Rules
from statistical import assert_close
from venues import EVERYTHING_ON, LONGS_AND_SHORTS, Case

from calibrate.constraints import MEANS, constraint_of
from calibrate.elasticities import Elasticity, elasticities
from calibrate.gradient import Edge
from calibrate.metrics import metrics_of
from calibrate.progress import Silent
from calibrate.simulate import Sample, simulate, values_of

PATHS, SEED, LEVEL = 16_384, 9, 0.95
EXACT = replace(EVERYTHING_ON, oracle="exact")
NAMES = {"base_margin": "base_margin", "volatility level": "volatility_scale", "market depth": "depth_scale"}
FIGURES = ("bad_debt", "bad_debt_es_95", "user_cost", "margin_peak_to_trough", "false_liquidation_rate")


@functools.cache
def found(rules: Rules) -> dict[tuple[str, str], Elasticity]:
    case = Case(rules, LONGS_AND_SHORTS, 60, np.float32)
    arguments = case.scenario(), case.parameters(), ("base_margin",), derivatives(rules), None
    rows = elasticities(*arguments, seed=SEED, tail_level=LEVEL, listener=Silent())
    return {(row.of, row.parameter): row for row in rows}


@functools.cache
def derivatives(rules: Rules) -> Sample:
    case = Case(rules, LONGS_AND_SHORTS, 60, np.float32)
    names = tuple(NAMES.values())
    return simulate(case.scenario(), case.parameters(), seed=SEED, paths=PATHS, derivatives=names)


def along_the_path(rules: Rules, figure: str, parameter: str) -> float:
    sample = derivatives(rules)
    limit = constraint_of(figure.removesuffix("_95"), 1.0, LEVEL)
    values, slopes = (limit.contribution(part) for part in (sample.values, sample.derivatives))
    smooth = limit.smooth(values, slopes, None, PATHS, Edge(0.0, 1.0))
    field = NAMES[parameter]
    unit = values_of(Case(rules, LONGS_AND_SHORTS, 60, np.float32).parameters(), (field,))[0]
    return float(unit * smooth.slope[sample.names.index(field)] / (smooth.value + limit.least))


@pytest.mark.parametrize("parameter", NAMES)
@pytest.mark.parametrize("figure", FIGURES)
def test_an_elasticity_is_the_derivative_along_the_path(figure: str, parameter: str) -> None:
    """On the same paths, so that they are closer to each other than the error says; sees two fifths of the largest elasticities of
    a metric, and a tenth where all are small."""
    row = found(EXACT)[figure, parameter]
    largest = max(abs(found(EXACT)[figure, name].elasticity) for name in NAMES)
    expected = along_the_path(EXACT, figure, parameter)
    assert_close(row.elasticity, row.standard_error, expected, resolution=max(0.4 * largest, 0.1))


def test_under_a_threshold_oracle_derivatives_along_the_path_are_not_to_be_trusted() -> None:
    """Reports come a step earlier or later, which no derivative sees: to volatility costs react by more than twice what it says,
    and false liquidations by half more. Losses hardly notice."""
    for figure, factor in (("user_cost", 2.0), ("false_liquidation_rate", 1.5)):
        row = found(EVERYTHING_ON)[figure, "volatility level"]
        along = along_the_path(EVERYTHING_ON, figure, "volatility level")
        assert row.elasticity - factor * along > 5 * row.standard_error
    row = found(EVERYTHING_ON)["bad_debt", "volatility level"]
    along = along_the_path(EVERYTHING_ON, "bad_debt", "volatility level")
    assert_close(row.elasticity, row.standard_error, along, resolution=0.3 * along)


def test_a_margin_that_is_all_base_grows_with_it() -> None:
    rules = replace(EXACT, multiplier=0.0, allowance=0.0, floor=0.0, lowest=0.0)
    row = found(rules)["margin_per_oi", "base_margin"]
    assert row.elasticity == pytest.approx(1.0, rel=1e-4)
    assert row.standard_error < 1e-4


def test_every_metric_but_quantiles_has_its_elasticities() -> None:
    case = Case(EXACT, LONGS_AND_SHORTS, 60, np.float32)
    measured = metrics_of(simulate(case.scenario(), case.parameters(), seed=SEED, paths=PATHS), LEVEL)
    apart = {"bad_debt_var_95", "liquidations_at_risk_95", "max_leverage"}
    assert set(measured) - apart == {of for of, _ in found(EXACT)}
    assert {"account_insolvency_rate", "user_cost"} <= set(MEANS) & {of for of, _ in found(EXACT)}


def test_more_paths_give_smaller_errors() -> None:
    case = Case(EXACT, LONGS_AND_SHORTS, 60, np.float32)
    arguments = case.scenario(), case.parameters(), ("base_margin",), derivatives(EXACT).some(np.arange(2048)), None
    few = elasticities(*arguments, seed=SEED, tail_level=LEVEL, listener=Silent())
    errors = np.array([[row.standard_error, found(EXACT)[row.of, row.parameter].standard_error] for row in few])
    ratio = np.median(errors[:, 0] / errors[:, 1])
    assert 1.8 < ratio < 4.5, "the root of eight is 2.8"
