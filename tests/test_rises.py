"""Rises of the margin within sliding windows, against values that are all kept, and as a job asks for them."""

from dataclasses import replace
from itertools import pairwise

import brute_force
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_job
from jax import lax
from small_job import problems_of
from test_engine import ANTI_PROCYCLICAL, EVERYTHING, worst_paths

from calibrate import rise_windows
from calibrate.assemble import assemble
from calibrate.compare import contributions
from calibrate.constraints import constraint_of
from calibrate.gradient import check_gradients
from calibrate.job import load_job
from calibrate.ledger import start_tally
from calibrate.metrics import metrics_of
from calibrate.pieces import fingerprint
from calibrate.rise_windows import Window
from calibrate.rises import risen, start_rise
from calibrate.simulate import Sample, simulate

# --- the window -----------------------------------------------------------------------------------------------------------


def test_a_window_is_never_shorter_than_it_says_and_hardly_longer() -> None:
    for steps in range(1, 5000):
        window = Window("any", steps)
        assert window.blocks <= rise_windows.BLOCKS
        assert window.blocks * window.block >= steps
        assert window.longest - steps < steps / 12
        if steps % rise_windows.BLOCKS == 0:
            assert window.longest - steps < steps / 24
        if steps <= rise_windows.BLOCKS:
            assert window.longest == steps


def largest(charged: np.ndarray, window: Window) -> np.ndarray:
    """What the engine finds on values given by [step, path]."""
    with jax.enable_x64(True):

        def step(rise, value_and_index):
            return risen(rise, window, *value_and_index), None

        values = jnp.asarray(charged)
        rise, _ = lax.scan(step, start_rise(window, values[0]), (values, jnp.arange(len(charged))))
        return np.asarray(rise.largest)


def sliding(charged: np.ndarray, steps: int) -> float:
    """The largest rise within exactly so many steps."""
    return max(value - charged[max(t - steps, 0) : t + 1].min() for t, value in enumerate(charged))


@pytest.mark.parametrize("steps", [1, 2, 24, 25, 48, 50, 97, 240, 400])
def test_the_largest_rise_lies_between_those_of_the_shortest_and_the_longest_window(steps: int) -> None:
    charged = np.random.default_rng(steps).normal(size=(300, 40)).cumsum(axis=0)
    window = Window("any", steps)
    found = largest(charged, window)
    np.testing.assert_array_equal(found, [brute_force.rise_within(path, steps) for path in charged.T])
    low, high = (np.array([sliding(path, n) for path in charged.T]) for n in (steps, window.longest))
    assert (low <= found).all()
    assert (found <= high).all()
    if steps <= rise_windows.BLOCKS:
        np.testing.assert_array_equal(found, low)
    if steps >= len(charged):
        np.testing.assert_array_equal(found, [np.max(path - np.minimum.accumulate(path)) for path in charged.T])


def test_a_margin_that_only_falls_never_rises() -> None:
    falling = -np.arange(200.0)[:, None] * np.ones(3)
    np.testing.assert_array_equal(largest(falling, Window("any", 60)), 0.0)


# --- in the engine --------------------------------------------------------------------------------------------------------

# 300 steps of two minutes: one window of single steps, one in blocks of three, one as long as the path.
WATCHED = EVERYTHING.but(
    depth=1e12,
    rise_windows=(("margin_rise_1d", 20), ("margin_rise_5d", 50), ("margin_rise_30d", 300)),
    **ANTI_PROCYCLICAL,
)


def test_rises_agree_to_rounding_with_a_simulator_that_keeps_every_requirement() -> None:
    paths, engine = worst_paths(WATCHED)
    accounts = WATCHED.brute_force(seed=3, paths=paths, accounts=4)
    names = [name for name, _ in WATCHED.rules.rise_windows]
    for name in names:
        np.testing.assert_allclose(engine[name], accounts[name], rtol=1e-9, atol=1e-12, err_msg=name)
    np.testing.assert_array_equal(engine["margin_rise_30d"], engine["margin_rise"])
    for shorter, longer in pairwise(names):
        assert (engine[shorter] <= engine[longer]).all()
        assert (engine[shorter] < 0.99 * engine[longer]).mean() > 0.5, "the window should matter"


def test_derivatives_of_rises_are_those_of_difference_quotients() -> None:
    fields = tuple(name for name, _ in WATCHED.rules.rise_windows)
    rows = check_gradients(
        WATCHED.scenario(),
        WATCHED.parameters(),
        ("volatility_multiplier",),
        seed=5,
        paths=512,
        bump=1e-7,
        fields=fields,
    )
    assert len(rows) == len(fields)
    assert all(row.agrees for row in rows)
    assert min(abs(row.pathwise) for row in rows) > 1e-4


def test_what_nobody_asked_for_is_not_carried() -> None:
    scenario = replace(EVERYTHING, dtype=np.float32).scenario()
    assert scenario.rise_windows == ()
    assert jax.tree.leaves(start_tally(scenario.venue, (), jnp.zeros(3)).rises) == []


def test_samples_with_other_windows_are_other_samples() -> None:
    """What is remembered of an interrupted run is found by a fingerprint of the scenario."""

    def told(*windows: tuple[str, int]) -> bytes:
        heard = bytearray()
        fingerprint(EVERYTHING.but(rise_windows=windows).scenario(), heard.extend)
        return bytes(heard)

    assert told() == told()
    assert len({told(), told(("margin_rise_1d", 20)), told(("margin_rise_1d", 21))}) == 3


# --- in a job -------------------------------------------------------------------------------------------------------------


def test_windows_follow_from_what_is_listed_and_what_is_limited(tmp_path) -> None:
    path = small_job.write(tmp_path)
    assert assemble(load_job(path)).scenario.rise_windows == ()
    sets = ["simulation.horizon_days=7", "simulation.margin_rise_windows_days=[1]", "constraints.margin_rise_5d=0.2"]
    scenario = assemble(load_job(path, sets)).scenario
    assert scenario.rise_windows == (Window("margin_rise_1d", 12), Window("margin_rise_5d", 60))
    assert rise_windows.windows((1,), 7000.0) == (Window("margin_rise_1d", 13),), "none is shorter than it says"


def test_rises_are_metrics_and_limits_where_they_are_watched(tmp_path) -> None:
    sets = ["simulation.horizon_days=2", "simulation.margin_rise_windows_days=[1]"]
    assembled = assemble(load_job(small_job.write(tmp_path), sets))
    sample = simulate(assembled.scenario, assembled.incumbent, seed=1, paths=1024)
    found = metrics_of(sample, 0.99)
    assert 0 < found["margin_rise_1d"].value < found["margin_rise"].value
    assert found["margin_rise_1d"].standard_error > 0
    assert "margin_rise_5d" not in found
    assert "margin_rise_1d" in contributions(sample, 0.99)
    limit = constraint_of("margin_rise_1d", 0.05, 0.99)
    assert limit.estimate(limit.contribution(sample.values), None) == found["margin_rise_1d"]
    plain = Sample({k: v for k, v in sample.values.items() if k != "margin_rise_1d"}, {}, ())
    assert "margin_rise_1d" not in metrics_of(plain, 0.99)


@pytest.mark.parametrize(
    ("override", "place", "words"),
    [
        (
            "constraints.margin_rise_5d=0.1",
            "constraints.margin_rise_5d",
            "within 5 days, longer than the horizon of 1 day;",
        ),
        (
            "simulation.margin_rise_windows_days=[1, 30]",
            "simulation.margin_rise_windows_days.1",
            "within 30 days, longer",
        ),
        ("simulation.margin_rise_windows_days=[7]", "simulation.margin_rise_windows_days.0", "1, 5 or 30 (found 7)"),
        ("constraints.margin_rise_1d=2", "constraints.margin_rise_1d", "less than 1"),
    ],
)
def test_a_window_that_cannot_be_watched_is_refused(override: str, place: str, words: str, tmp_path) -> None:
    path = small_job.write(tmp_path)
    (found,) = problems_of(path, override)
    assert found.place == f"{path}: {place}"
    assert words in found.message


def test_a_window_shorter_than_a_step_is_refused(tmp_path) -> None:
    path = small_job.write(tmp_path)
    sets = ("simulation.horizon_days=10", "simulation.step_s=172_800", "constraints.margin_rise_1d=0.1")
    (found,) = problems_of(path, *sets)
    assert "shorter than a step of 172800 s" in found.message
