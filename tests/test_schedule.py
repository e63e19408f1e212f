"""Margin by size of position: the venues' own figures, and the engine against accounts followed one by one."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from venues import EVERYTHING_ON, LONGS_AND_SHORTS, Case, assert_followed

from calibrate.gradient import check_gradients
from calibrate.simulate import METRIC_FIELDS, Outcome, simulate
from calibrate.venue.schedule import SizeSchedule, open_interest_share, tier_factor

# The large pay half as much again, or what a power law of size adds to four fifths of the margin.
BY_SIZE = replace(LONGS_AND_SHORTS, sizes=((1.0, 1.0, 0.0), (1.5, 1.0, 0.0), (1.2, 0.8, 0.006)), opened=0.02)
SIZED = Case(EVERYTHING_ON, BY_SIZE, 300)
SAME = {"margin_mean": "initial_margin"} | {
    name: name
    for name in ("bad_debt", "liquidated", "penalty", "slippage", "returned", "false_liquidation", "collateral_closed",
                 "margin_peak_to_trough", "margin_rise", "open_deficit")
}  # fmt: skip


def schedule(factor: float = 1.0, floor_part: float = 1.0, add_on: float = 0.0, opened: float = 0.0) -> SizeSchedule:
    return SizeSchedule(*(jnp.asarray([value]) for value in (factor, floor_part, add_on)), jnp.asarray(opened))


@pytest.mark.parametrize(
    ("size", "rate", "bounds", "factors", "requirement"),
    [
        (200e6, 0.0125, [0, 150e6], [1, 2], 3_125_000),
        (30e6, 0.05, [0, 20e6], [1, 2], 2_000_000),
        (150e6, 0.0125, [0, 150e6], [1, 2], 1_875_000),
        (10e6, 0.0125, [0, 150e6], [1, 2], 125_000),
        # Five tiers whose cumulative amounts are published as 0, 20, 395, 5,395 and 25,395.
        (1.5e6, 0.006, [0, 5e3, 25e3, 200e3, 400e3, 1e6], [1, 5 / 3, 25 / 6, 25 / 3, 50 / 3, 125 / 6], 1.5e6 * 0.125 - 50_395),
    ],
)  # fmt: skip
def test_tiers_ask_for_what_the_venues_publish(size, rate, bounds, factors, requirement) -> None:
    assert tier_factor(size, bounds, factors) * rate * size == pytest.approx(requirement, rel=1e-12)


def test_open_interest_between_its_caps_raises_the_initial_requirement_alone() -> None:
    raised = schedule(opened=open_interest_share(35e6, 20e6, 50e6))
    margin = jnp.asarray([0.05])
    np.testing.assert_allclose(raised.initial(jnp.asarray(2.0), margin), 0.55, rtol=1e-6)
    np.testing.assert_allclose(raised.maintenance(margin), 0.05, rtol=1e-6)
    assert open_interest_share(10e6, 20e6, 50e6) == 0
    assert open_interest_share(90e6, 20e6, 50e6) == 1


@pytest.mark.parametrize(("ratio", "size", "expected"), [(0.05, 10, 0.05), (0.05, 100, 0.05), (0.05, 1000, 0.0716),
                                                         (0.03, 10, 0.03), (0.03, 100, 0.034), (0.03, 1000, 0.0556)])  # fmt: skip
def test_an_add_on_in_the_root_of_size_is_that_of_its_venue(ratio: float, size: float, expected: float) -> None:
    added = schedule(floor_part=0.8, add_on=0.001 * size**0.5)
    np.testing.assert_allclose(added.maintenance(jnp.asarray([ratio])), expected, rtol=1e-3)


def test_large_positions_are_closed_as_accounts_followed_one_by_one_are() -> None:
    v = simulate(SIZED.scenario(), SIZED.parameters(), seed=3, paths=400, fields=Outcome._fields, chunk=400).values
    worst = np.sort(np.argsort(-v["distance"])[:12])
    on_worst = {ours: v[ours][worst] for ours in SAME.values()}
    assert_followed(SIZED, on_worst, worst, SAME, accounts=(250, 2000), within=1e-2)
    assert np.median(v["bad_debt"][worst]) > 1e-4


@pytest.mark.slow
def test_a_schedule_without_tiers_or_add_ons_changes_nothing() -> None:
    plain = replace(LONGS_AND_SHORTS, sizes=((1.0, 1.0, 0.0),) * 3)
    without, flat = (
        simulate(case.scenario(), case.parameters(), seed=3, paths=200, chunk=400).values
        for case in (Case(EVERYTHING_ON, LONGS_AND_SHORTS, 300), Case(EVERYTHING_ON, plain, 300))
    )
    for name in METRIC_FIELDS:
        np.testing.assert_allclose(flat[name], without[name], rtol=1e-12, atol=1e-15, err_msg=name)


def test_derivatives_with_a_schedule_are_limits_of_difference_quotients() -> None:
    case = replace(SIZED, steps=60).but(oracle="exact")
    for row in check_gradients(
        case.scenario(), case.parameters(), ("base_margin", "penalty"), seed=5, paths=1024, bump=1e-7
    ):
        np.testing.assert_allclose(row.pathwise, row.finite_difference, rtol=1e-4, atol=1e-12, err_msg=str(row))
