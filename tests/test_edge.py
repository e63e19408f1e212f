"""The derivative of the insolvency probability of a venue, whose law of distances has a kink where losses begin."""

import functools
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
from statistical import assert_close
from venues import EVERYTHING_ON, LONGS_AND_SHORTS, Case

from calibrate.gradient import Edge, Gradient, bandwidth, edge_of, placed, probability_gradient, slope_of_place
from calibrate.policy import Parameters
from calibrate.simulate import simulate, values_of, with_values

PATHS, SEED, STEPS = 400_000, 77, 60
NAMES = ("penalty", "volatility_scale", "base_margin")
# Of each parameter, either way: the third-order error of so wide a difference stays below 2 % of it.
CHANGE = 0.1


# What the fund holds, and the error, relative to each derivative, that is seen.
FUNDS = {
    "small fund": ({"fund": 0.0004}, 0.45),
    "large fund": ({"fund": 0.003}, 0.75),
    "no fund": ({"fund": 0.0, "keeper_share": 1.0}, 0.45),
}


class Simulated(NamedTuple):
    """Distances, derivatives of those near insolvency, and by parameter the paired differences of two policies or worlds, per unit
    of relative change."""

    edge: Edge
    distance: np.ndarray
    slopes: np.ndarray
    differences: np.ndarray


@functools.cache
def simulated(name: str) -> Simulated:
    rules, _ = FUNDS[name]
    case = Case(replace(EVERYTHING_ON, base=0.012, **rules), LONGS_AND_SHORTS, STEPS, np.float32)
    scenario, parameters = case.scenario(), case.parameters()
    values = values_of(parameters, NAMES)

    def distances(parameters: Parameters) -> np.ndarray:
        return simulate(scenario, parameters, seed=SEED, paths=PATHS, fields=("distance",)).values["distance"]

    def change(k: int) -> np.ndarray:
        more, fewer = (
            distances(with_values(parameters, NAMES[k : k + 1], np.float32([factor * values[k]]))) > 0
            for factor in (1 + CHANGE, 1 - CHANGE)
        )
        return (more.astype(float) - fewer) / (2 * CHANGE)

    distance = distances(parameters)
    edge = edge_of(distance, None, scenario.venue.covered)
    width = bandwidth(distance, np.count_nonzero(distance > 0))
    near = np.flatnonzero(edge.tells(distance) | (np.abs(distance) < 4 * width))
    sample = simulate(scenario, parameters, seed=SEED, paths=near, fields=("distance",), derivatives=NAMES)
    slopes = np.zeros((PATHS, len(NAMES)))
    slopes[near] = sample.derivatives["distance"] * values
    return Simulated(edge, distance, slopes, np.stack([change(k) for k in range(len(NAMES))]))


def assert_equal(found: Gradient, differences: np.ndarray, resolution: float) -> None:
    """Errors are counted as if those of the two were independent."""
    for k, of_one in enumerate(differences):
        error = np.hypot(of_one.std() / np.sqrt(PATHS), found.standard_error[k])
        assert_close(found.value[k], error, of_one.mean(), resolution=resolution * abs(of_one.mean()))


@pytest.mark.parametrize("name", FUNDS)
def test_the_derivative_of_insolvency_is_that_of_paired_differences(name: str) -> None:
    """The errors that are seen are those of the derivative in the penalty; the others' are half as large."""
    case = simulated(name)
    assert_equal(case.edge.gradient(case.distance, case.slopes, PATHS), case.differences, FUNDS[name][1])


@pytest.mark.parametrize("name", FUNDS)
def test_a_kernel_that_reaches_over_the_kink_would_be_caught(name: str) -> None:
    """The test of the test: in the distance itself the derivative in the penalty is off by factors of 2.3, 0.4 and 0.7."""
    case = simulated(name)
    width = bandwidth(case.distance, np.count_nonzero(case.distance > 0))
    found = probability_gradient(case.distance, case.slopes, PATHS, width)
    with pytest.raises(AssertionError, match="standard errors from"):
        assert_equal(found, case.differences, FUNDS[name][1])


@pytest.mark.parametrize("fund", [0.0, 0.002])
def test_the_place_of_a_path_rises_with_its_distance_and_is_zero_at_insolvency(fund: float) -> None:
    distance = np.linspace(-0.01, 0.05, 4001)
    place = placed(distance, fund)
    assert (np.diff(place) > 0).all()
    assert placed(np.zeros(1), fund)[0] == 0
    step = 1e-9
    quotient = (placed(distance + step, fund) - placed(distance - step, fund)) / (2 * step)
    np.testing.assert_allclose(slope_of_place(distance, fund), quotient, rtol=1e-4)


def test_the_kernel_from_below_is_of_third_order() -> None:
    """Not statistical: on evenly spread distances below zero, slopes that are a parabola there count only with their value at 0,
    and nothing above zero counts."""
    width, points = 0.3, 200_001
    distance = np.linspace(-6 * width, 6 * width, points)
    density = points / (12 * width)
    for power, expected in ((0, density), (1, 0.0), (2, 0.0)):
        slopes = np.where(distance > 0, 7.0, (distance / width) ** power)[:, None]
        found = probability_gradient(distance, slopes, 1, width, from_below=True).value
        np.testing.assert_allclose(found, expected, atol=2e-4 * density)
    cubic = probability_gradient(distance, (distance[:, None] / width) ** 3, 1, width, from_below=True).value
    assert abs(cubic) > 0.5 * density, "the third power is the first that counts"
