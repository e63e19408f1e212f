"""The truths the engine is tested against, checked in turn against printed reference values.

Every table value is kept as the text it was printed as, and must be met to the last digit printed.
"""

from __future__ import annotations

import math
from dataclasses import replace
from decimal import Decimal
from functools import partial

import numpy as np
import pytest
from truth import (
    Setting,
    jump_insolvency,
    jump_margin,
    kou_passage_probability,
    loss,
    loss_by_margin,
    loss_by_volatility,
    margin_for,
    observed_passage_probability,
    over_bands,
    over_shifted_exponential,
    passage_probability,
)

DAY = 1 / 365
HOUR = DAY / 24


def printed(text: str) -> object:
    """Equal to the printed number up to one unit of its last digit."""
    last_digit = Decimal(text).as_tuple().exponent
    return pytest.approx(float(text), rel=0, abs=1.01 * 10.0**last_digit)


# Start, barrier, volatility, then the probability under continuous monitoring and with 24, 96, 288 observations.
PASSAGE = [
    (100, 90, 0.8, "0.0125044822822", "0.00926630704856", "0.0106641602061", "0.0113824518353"),
    (100, 95, 0.8, "0.226296816456", "0.186426421674", "0.204999741353", "0.213660663026"),
    (100, 90, 0.6, "0.000836945032415", "0.000581397937234", "0.000685994924304", "0.000743306913548"),
]


@pytest.mark.parametrize(("start", "barrier", "volatility", "continuous"), [row[:4] for row in PASSAGE])
def test_continuous_passage_has_its_reference_value(start, barrier, volatility, continuous):
    probability = passage_probability(math.log(start / barrier), -(volatility**2) / 2, volatility, DAY)
    assert probability == printed(continuous)


@pytest.mark.parametrize(
    ("start", "barrier", "volatility", "observations", "expected"),
    [(*row[:3], n, row[column]) for row in PASSAGE for column, n in [(4, 24), (5, 96), (6, 288)]],
)
def test_observed_passage_has_its_reference_value(start, barrier, volatility, observations, expected):
    distance = math.log(start / barrier)
    probability = observed_passage_probability(distance, -(volatility**2) / 2, volatility, DAY, observations)
    assert probability[0] == printed(expected)


# Collateral, setting; P(liquidated), P(insolvent), E[bad debt] per 100; margin derivatives of the last two.
ACCOUNTS = [
    (
        1 / 10,
        Setting(margin=0.01, volatility=0.8, horizon_years=DAY, latency_years=HOUR),
        ("0.02394926689", "0.002890404913", "0.001091375283", "-0.3872319638", "-0.1932386639"),
    ),
    (
        1 / 10,
        Setting(margin=0.02, volatility=0.8, horizon_years=DAY, latency_years=HOUR),
        ("0.04380372404", "0.0004009963892", "0.0001032816228", "-0.1057362849", "-0.03072530676"),
    ),
    (
        1 / 25,
        Setting(margin=0.01, volatility=1.0, horizon_years=DAY, latency_years=HOUR / 2),
        ("0.5651646949", "0.05218410787", "0.0175797871", "-11.31759926", "-4.642207625"),
    ),
    (
        1 / 10,
        Setting(margin=0.01, volatility=0.8, horizon_years=DAY, latency_years=HOUR, observations=24),
        ("0.01809131509", "0.005240963475", "0.002926955902", "-0.30623711", "-0.28327169"),
    ),
    (
        1 / 10,
        Setting(margin=0.02, volatility=0.8, horizon_years=DAY, latency_years=HOUR, observations=24),
        ("0.03374769304", "0.001950636103", "0.0007852652179", "-0.27105554", "-0.13077168"),
    ),
    (
        1 / 10,
        Setting(margin=0.02, volatility=0.8, horizon_years=DAY, latency_years=HOUR, observations=48, haircut=0.005),
        ("0.03624051368", "0.003616612412", "0.001436649676", "-0.48353235", "-0.24482995"),
    ),
]


@pytest.mark.parametrize(("collateral", "setting", "expected"), ACCOUNTS)
def test_losses_of_one_account_have_their_reference_values(collateral, setting, expected):
    liquidated, insolvent, bad_debt = (float(row[0]) for row in loss(setting, collateral))
    assert liquidated == printed(expected[0])
    assert insolvent == printed(expected[1])
    assert 100 * bad_debt == printed(expected[2])


@pytest.mark.parametrize(("collateral", "setting", "expected"), ACCOUNTS)
def test_margin_derivatives_of_one_account_have_their_reference_values(collateral, setting, expected):
    slope = loss_by_margin(setting, collateral)
    assert slope.insolvent[0] == printed(expected[3])
    assert 100 * slope.bad_debt[0] == printed(expected[4])


def test_a_rare_insolvency_has_its_reference_value():
    setting = Setting(margin=0.05, volatility=0.8, horizon_years=DAY, latency_years=HOUR, observations=24)
    assert loss(setting, 1 / 10).insolvent[0] == printed("1.046915e-6")


@pytest.mark.parametrize("setting", [setting for _, setting, _ in ACCOUNTS])
@pytest.mark.parametrize("drift", [0.0, 3.0])
@pytest.mark.parametrize(("field", "derivative"), [("margin", loss_by_margin), ("volatility", loss_by_volatility)])
def test_derivatives_are_the_slopes_of_the_losses(setting, drift, field, derivative):
    collateral = np.array([0.05, 0.1])
    step = 1e-4 * getattr(setting, field)

    def shifted(steps: int) -> np.ndarray:
        moved = replace(setting, drift=drift, **{field: getattr(setting, field) + steps * step})
        return np.array(loss(moved, collateral))

    difference = (8 * (shifted(1) - shifted(-1)) - (shifted(2) - shifted(-2))) / (12 * step)
    slope = np.array(derivative(replace(setting, drift=drift), collateral))
    np.testing.assert_allclose(slope, difference, rtol=1e-7)


@pytest.mark.parametrize("haircut", [0.0, 0.005, 0.03])
def test_a_vanishing_latency_tends_to_no_latency(haircut):
    def losses(latency: float) -> np.ndarray:
        setting = dict(margin=0.02, volatility=0.8, horizon_years=DAY, observations=24, haircut=haircut)
        return np.array(loss(Setting(latency_years=latency, **setting), [0.05, 0.1]))

    np.testing.assert_allclose(losses(1e-4 * HOUR), losses(0.0), rtol=1e-3)


POPULATION = Setting(margin=0.01, volatility=0.8, horizon_years=DAY, latency_years=HOUR)


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        (loss, ("0.109034300", "0.0131592035", "5.21037636e-5")),
        (loss_by_volatility, ("0.273024614", "0.0652552474", "3.50145475e-4")),
    ],
)
def test_the_exponential_population_has_its_reference_values(losses, expected):
    mean = over_shifted_exponential(partial(losses, POPULATION), low=0.04, mean=0.08)
    assert [float(value) for value in mean] == [printed(text) for text in expected]


def test_margin_derivatives_of_the_exponential_population_have_their_reference_values():
    # The printed values are themselves numerical derivatives, good to about seven digits; the next test is sharper.
    slope = over_shifted_exponential(partial(loss_by_margin, POPULATION), low=0.04, mean=0.08)
    np.testing.assert_allclose(slope, [4.28206578, -2.07116866, -0.0104518462], rtol=2e-7)


def test_margin_derivatives_of_the_exponential_population_are_the_slopes_of_its_losses():
    def mean(margin: float) -> np.ndarray:
        setting = replace(POPULATION, margin=margin)
        return np.array(over_shifted_exponential(partial(loss, setting), low=0.04, mean=0.08))

    step = 1e-5
    difference = (8 * (mean(0.01 + step) - mean(0.01 - step)) - (mean(0.01 + 2 * step) - mean(0.01 - 2 * step))) / (
        12 * step
    )
    slope = over_shifted_exponential(partial(loss_by_margin, POPULATION), low=0.04, mean=0.08)
    np.testing.assert_allclose(slope, difference, rtol=1e-9)


def test_narrow_bands_weighted_like_the_exponential_have_its_losses():
    edges = np.linspace(0.04, 0.6, 1121)
    shares = np.diff(-np.exp(-(edges - 0.04) / 0.08))
    bands = list(zip(edges[:-1], edges[1:], shares, strict=True))
    exponential = over_shifted_exponential(partial(loss, POPULATION), low=0.04, mean=0.08)
    np.testing.assert_allclose(over_bands(partial(loss, POPULATION), bands), exponential, rtol=1e-4)


@pytest.mark.parametrize("observations", [None, 24])
def test_a_band_holds_the_mean_of_its_accounts(observations):
    setting = Setting(
        margin=0.02, volatility=0.8, horizon_years=DAY, latency_years=HOUR, observations=observations, haircut=0.005
    )
    accounts = 0.05 + 0.1 * (np.arange(4_000) + 0.5) / 4_000
    band = over_bands(partial(loss, setting), [(0.05, 0.15, 0.6)])
    np.testing.assert_allclose(band, 0.6 * np.mean(loss(setting, accounts), axis=1), rtol=1e-5)


def test_the_optimal_margin_has_its_reference_value():
    def insolvent(margin: float) -> float:
        setting = Setting(margin=margin, volatility=0.8, horizon_years=DAY, latency_years=HOUR)
        return float(loss(setting, 1 / 10).insolvent[0])

    assert margin_for(1e-3, insolvent, 0.005, 0.05) == printed("0.0161552879")


def test_collateral_below_the_margin_is_refused():
    with pytest.raises(ValueError, match="collateral must lie between"):
        loss(POPULATION, 0.01)


@pytest.mark.parametrize(
    ("log_drift", "jumps_per_year", "expected"),
    [
        (0.1, 3, "0.255843040081"),
        (0.1, 0.01, "0.260598054779"),
        (-0.1, 3, "0.0612227959623"),
        (-0.1, 0.01, "0.0581617316954"),
    ],
)
def test_kou_passage_has_its_reference_value(log_drift, jumps_per_year, expected):
    probability = kou_passage_probability(
        0.3,
        1.0,
        log_drift=log_drift,
        volatility=0.2,
        jumps_per_year=jumps_per_year,
        up_probability=0.5,
        up_rate=1 / 0.02,
        down_rate=1 / 0.03,
    )
    assert probability == printed(expected)


def test_kou_passage_with_almost_no_jumps_is_passage_of_a_brownian_motion():
    jumps = dict(jumps_per_year=1e-9, up_probability=0.5, up_rate=50, down_rate=30)
    probability = kou_passage_probability(0.3, 1.0, log_drift=0.1, volatility=0.2, **jumps)
    assert probability == pytest.approx(float(passage_probability(0.3, -0.1, 0.2, 1.0)), rel=1e-8)


@pytest.mark.parametrize("margin", [0.0, 0.02, 0.1])
def test_jump_insolvency_is_an_exponential_overshoot_beyond_the_debt(margin):
    rate, jump_crossing = 25.0, 0.2
    overshoot_to_debt = -math.log(1 - margin)
    insolvency = jump_insolvency(jump_crossing, margin, rate)
    assert insolvency == pytest.approx(jump_crossing * math.exp(-rate * overshoot_to_debt), rel=1e-14)
    assert jump_margin(jump_crossing, insolvency, rate) == pytest.approx(margin, abs=1e-14)
