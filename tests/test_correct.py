"""The last step before a certificate: along a line, until the limits hold on fresh paths."""

import numpy as np
import pytest
from venues import EVERYTHING_ON, LONGS_AND_SHORTS, Case

from calibrate.constraints import Constraint, InsolvencyProbability, constraint_of
from calibrate.correct import FreshPaths, Line, corrected
from calibrate.optimise import FreeParameter, FrozenSample, Problem
from calibrate.simulate import simulate

PATHS, SEED = 4000, 5
LOW, HIGH = np.array([0.002, 0.001]), np.array([0.2, 0.05])
LINE = Line(np.array([0.02, 0.01]), np.array([0.03, 0.012]), LOW, HIGH)


def problem(*constraints: Constraint) -> Problem:
    case = Case(EVERYTHING_ON, LONGS_AND_SHORTS, 60, np.float32)
    free = (FreeParameter("base_margin", LOW[0], HIGH[0]), FreeParameter("penalty", LOW[1], HIGH[1]))
    return Problem(case.scenario(), case.parameters(), free, constraints, 0.0)


def losses(of: Problem, point: np.ndarray) -> dict[str, np.ndarray]:
    return simulate(of.scenario, of.at(point), seed=SEED, paths=PATHS, fields=("distance", "bad_debt")).values


def fresh_paths(of: Problem) -> FreshPaths:
    sample = FrozenSample(of, seed=SEED, paths=PATHS)
    sample.screen(LINE.at(0), np.ones(len(of.constraints)))
    return FreshPaths(sample)


@pytest.mark.parametrize("share", [0.4, 1.0, 2.0])
def test_the_limit_just_holds_on_the_fresh_paths(share: float) -> None:
    """On all of them, although only those near insolvency are simulated again; a looser policy would exceed it."""
    target = share * np.mean(losses(problem(InsolvencyProbability(0.1)), LINE.at(0))["distance"] > 0)
    of = problem(InsolvencyProbability(float(target)))
    point = corrected(fresh_paths(of), LINE, np.array([target]))
    place = (point - LINE.solution) / (LINE.tighter - LINE.solution)
    np.testing.assert_allclose(place, place[0], rtol=1e-6)
    assert np.mean(losses(of, point)["distance"] > 0) <= target
    assert np.mean(losses(of, LINE.at(place[0] - 0.1))["distance"] > 0) > target


def test_of_several_limits_the_tightest_decides() -> None:
    here = losses(problem(InsolvencyProbability(0.1)), LINE.at(0))
    probability = float(np.mean(here["distance"] > 0))
    shortfall = float(np.sort(here["bad_debt"])[-PATHS // 20 :].mean())
    of = problem(InsolvencyProbability(2 * probability), constraint_of("bad_debt_es", 0.5 * shortfall, 0.95))
    point = corrected(fresh_paths(of), LINE, np.array([2 * probability, 0.5 * shortfall]))
    there = np.sort(losses(of, point)["bad_debt"])[-PATHS // 20 :].mean()
    assert 0.4 * shortfall < there <= 0.5 * shortfall


def test_the_ends_of_the_line_are_taken_where_nothing_on_it_fits() -> None:
    of = problem(InsolvencyProbability(0.1))
    fresh = fresh_paths(of)
    np.testing.assert_allclose(corrected(fresh, LINE, np.array([1e-9])), LINE.at(3.0))
    np.testing.assert_allclose(corrected(fresh, LINE, np.array([0.999])), LINE.at(-2.0))
    # Nowhere on a line that leads away from the limits, but best where it begins.
    away = Line(LINE.at(0), LINE.at(-0.2), LOW, HIGH)
    np.testing.assert_allclose(corrected(fresh, away, np.array([1e-9]), -3.0), away.at(-3.0))
    beyond = Line(LINE.solution, np.array([0.19, 0.049]), LOW, HIGH)
    assert (corrected(fresh, beyond, np.array([1e-9])) <= HIGH).all()
