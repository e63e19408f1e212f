"""What the venue sees: reports and delays by hand, and the extremes between two steps against the Brownian bridge."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import ndtr
from statistical import assert_law, assert_mean

from calibrate.delay import delay_of
from calibrate.oracle import ContinuousOracle, ExactOracle, Oracle, OracleView, PushOracle, StepOfPrice
from calibrate.shocks import path_ids, seed_words, shocks_of_steps

MINUTE = 1 / (365 * 1440)


def plain(price: float) -> StepOfPrice:
    here = jnp.float32([price])
    return StepOfPrice(here, here, here, jnp.zeros(1), None, None)


def seen(oracle: Oracle, prices: Sequence[float], dt: float = MINUTE) -> list[float]:
    """What the venue sees after each step of a path that starts at 0."""
    state, views = oracle.start(jnp.zeros(1)), []
    for index, price in enumerate(prices):
        state, view = oracle.step(state, plain(price), jnp.int32(index), jnp.float32(dt))
        assert view.lowest == view.log_price == view.highest
        views.append(float(view.log_price[0]))
    return views


def push(deviation: float, heartbeat_minutes: float, delay: int = 0) -> PushOracle:
    return PushOracle(jnp.float32(deviation), jnp.float32(heartbeat_minutes * MINUTE), delay_of(delay))


# --- exact and push oracles, by hand --------------------------------------------------------------------------------------


def test_an_exact_oracle_shows_every_price_some_steps_late() -> None:
    prices = [0.125, 0.25, -0.5, 0.75, 1.0]
    assert seen(ExactOracle(delay_of(0)), prices) == prices
    assert seen(ExactOracle(delay_of(1)), prices) == [0.0, *prices[:-1]]
    assert seen(ExactOracle(delay_of(3)), prices) == [0.0, 0.0, 0.0, 0.125, 0.25]


def test_a_push_oracle_reports_once_the_price_has_moved_enough() -> None:
    prices = [0.0625, 0.125, 0.1875, 0.25, 0.125, 0.0625, -0.125, 0.0]
    # Moves are counted from the last report; one that just reaches the threshold is reported.
    assert seen(push(0.125, 1e6), prices) == [0.0, 0.125, 0.125, 0.25, 0.125, 0.125, -0.125, 0.0]


def test_a_push_oracle_reports_when_its_heartbeat_has_run_out() -> None:
    prices = [0.125 * i for i in range(1, 9)]
    assert seen(push(10.0, 3), prices) == [0.0, 0.0, 0.375, 0.375, 0.375, 0.75, 0.75, 0.75]


def test_a_clock_runs_on_whatever_is_reported_in_between() -> None:
    prices = [0.0, 1.0, 1.125, 1.25, 1.375, 1.5]
    clock = PushOracle(jnp.float32(0.5), jnp.float32(3 * MINUTE), delay_of(0), restarts=False)
    # Reported in the second minute for its size, and in the third and sixth because the clock strikes.
    assert seen(clock, prices) == [0.0, 1.0, 1.125, 1.125, 1.125, 1.5]


def test_a_clock_keeps_its_pace_whatever_the_step() -> None:
    """A beat of two and a quarter minutes is heard in the nearest minute, and not a quarter of a minute later every time."""
    prices = [float(i) for i in range(1, 19)]
    clock = PushOracle(jnp.float32(100.0), jnp.float32(2.25 * MINUTE), delay_of(0), restarts=False)
    reports = 1 + np.flatnonzero(np.diff([0.0, *seen(clock, prices)]))
    assert reports.tolist() == [2, 4, 7, 9, 11, 13, 16, 18]


def test_a_delay_that_grows_with_volatility_by_hand() -> None:
    """Twice the volatility, twice the delay, at most four steps; and never anything older than what was seen before."""
    oracle = ExactOracle(delay_of(1, growth=jnp.float32(1.0), longest=4))
    levels = [1, 1, 1, 2, 4, 8, 8, 8, 8, 1, 0.25, 0.25]
    state, views = oracle.start(jnp.zeros(1)), []
    for index, level in enumerate(levels):
        price = plain(float(index + 1))._replace(log_volatility=jnp.log(jnp.float32([level])))
        state, view = oracle.step(state, price, jnp.int32(index), jnp.float32(MINUTE))
        views.append(float(view.log_price[0]))
    assert views == [0.0, 1.0, 2.0, 2.0, 2.0, 2.0, 3.0, 4.0, 5.0, 9.0, 11.0, 12.0]


def test_paths_are_late_each_for_itself() -> None:
    oracle = ExactOracle(delay_of(1, growth=jnp.float32(1.0), longest=4))
    state, views = oracle.start(jnp.zeros(2)), []
    for index in range(5):
        price = jnp.float32([1.0, -1.0]) * (index + 1)
        step = StepOfPrice(price, price, price, jnp.zeros(2), None, None, jnp.log(jnp.float32([1.0, 3.0])))
        state, view = oracle.step(state, step, jnp.int32(index), jnp.float32(MINUTE))
        views.append(np.asarray(view.log_price).tolist())
    assert views == [[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [3.0, -1.0], [4.0, -2.0]]


def test_a_report_for_its_size_winds_the_heartbeat_up_again() -> None:
    prices = [0.0, 1.0, 1.125, 1.25, 1.375, 1.5]
    # Reported in the second minute for its size, and three minutes later for its age.
    assert seen(push(0.5, 3), prices) == [0.0, 1.0, 1.0, 1.0, 1.375, 1.375]


@pytest.mark.parametrize("delay", [1, 2, 4])
def test_a_push_oracle_is_some_steps_late(delay: int) -> None:
    prices = [0.0625, 0.125, 0.1875, 0.25, 0.125, 0.0625, -0.125, 0.0, 0.5, 0.5]
    at_once = seen(push(0.125, 1e6), prices)
    assert seen(push(0.125, 1e6, delay), prices) == [0.0] * delay + at_once[:-delay]


@pytest.mark.parametrize("minutes", [30, 60, 120])
def test_rounding_does_not_put_a_heartbeat_off(minutes: int) -> None:
    """Ages are sums of single-precision steps; still every heartbeat comes in its very minute."""
    number = 2 * minutes
    prices = np.arange(1, number + 1) / 1024
    views = seen(push(1e6, minutes), prices.tolist())
    reports = 1 + np.flatnonzero(np.diff([0.0, *views]))
    assert reports.tolist() == [minutes, 2 * minutes]


def test_paths_report_each_for_itself() -> None:
    oracle = push(0.125, 1e6)
    prices = jnp.float32([[0.0625, 0.25], [0.125, 0.3125]])
    state = oracle.start(jnp.zeros(2))
    views = []
    for index, price in enumerate(prices):
        step = StepOfPrice(price, price, price, jnp.zeros(2), None, None)
        state, view = oracle.step(state, step, jnp.int32(index), jnp.float32(MINUTE))
        views.append(np.asarray(view.log_price).tolist())
    assert views == [[0.0, 0.25], [0.125, 0.25]]


# --- between the steps ----------------------------------------------------------------------------------------------------

PATHS, SPREAD = 1_000_000, 0.02


def look(start: np.ndarray, before_jump: np.ndarray, jump: np.ndarray, uniforms: np.ndarray) -> OracleView:
    """The view of a continuous oracle, for many steps of standard deviation `SPREAD` at once."""
    oracle = ContinuousOracle(delay_of(0))
    as_array = lambda x: jnp.asarray(np.broadcast_to(x, uniforms.shape[1:]), jnp.float32)  # noqa: E731
    start, before_jump, end, variance = (as_array(x) for x in (start, before_jump, before_jump + jump, SPREAD**2))
    step = StepOfPrice(start, before_jump, end, variance, as_array(uniforms[0]), as_array(uniforms[1]))
    _, view = oracle.step(oracle.start(as_array(0.0)), step, jnp.int32(0), jnp.float32(MINUTE))
    return OracleView(*(np.asarray(x, np.float64) for x in view))


@pytest.fixture(scope="module")
def shocks() -> tuple[np.ndarray, np.ndarray]:
    """A normal and two uniforms for every path."""
    drawn = shocks_of_steps(
        seed_words(3),
        path_ids(np.arange(PATHS)),
        jnp.arange(1, dtype=jnp.uint32),
        np.dtype(np.float32),
        continuous=True,
    )
    pair = np.stack([drawn.low_uniform[0], drawn.high_uniform[0]])
    return np.asarray(drawn.return_normal[0], np.float64), pair


@pytest.mark.parametrize("move", [-1.5, -0.3, 0.0, 0.5, 2.0])
def test_extremes_have_the_law_of_a_brownian_bridge(shocks: tuple[np.ndarray, np.ndarray], move: float) -> None:
    """P(lowest < x) = exp(-2 (a - x) (b - x) / variance) below both ends a, b of a bridge (Glasserman 2004, section 6.4), and
    mirrored; sees a gap of 0.6 % in the distribution function."""
    a, b = 0.01, 0.01 + move * SPREAD
    view = look(a, b, 0.0, shocks[1])

    def beyond(inward: np.ndarray) -> np.ndarray:
        """Probability that the extreme lies further out than `inward`, given as distances from the ends."""
        return np.exp(-2 * np.maximum(inward[0], 0.0) * np.maximum(inward[1], 0.0) / SPREAD**2)

    assert_law(view.lowest, lambda x: beyond(np.array([a - x, b - x])), resolution=0.006)
    assert_law(-view.highest, lambda x: beyond(np.array([-x - a, -x - b])), resolution=0.006)


def test_over_a_whole_step_the_lowest_price_obeys_the_reflection_principle(
    shocks: tuple[np.ndarray, np.ndarray],
) -> None:
    """The minimum of a Brownian motion over the step, its end drawn too: P(lowest < -x) = 2 N(-x / spread). Sees a gap of 0.6 %
    in the distribution function, and an error of 0.7 % in the mean, which looks at the end only would give wrongly by half."""
    view = look(0.0, SPREAD * shocks[0], 0.0, shocks[1])
    for extreme in (-view.lowest, view.highest):
        assert_law(extreme, lambda x: 1 - 2 * ndtr(-np.maximum(x, 0.0) / SPREAD), resolution=0.006)
        expected = SPREAD * np.sqrt(2 / np.pi)
        assert_mean(extreme, expected, resolution=0.008 * expected)


@pytest.mark.parametrize("jump", [-0.05, 0.0, 0.03])
def test_extremes_enclose_both_ends_of_the_step(shocks: tuple[np.ndarray, np.ndarray], jump: float) -> None:
    before_jump = SPREAD * shocks[0]
    view = look(0.0, before_jump, jump, shocks[1])
    np.testing.assert_allclose(view.log_price, before_jump + jump, atol=1e-7)
    for end in (np.zeros(PATHS), before_jump, view.log_price):
        assert (view.lowest <= end + 1e-8).all()
        assert (view.highest >= end - 1e-8).all()
    assert (view.lowest <= view.log_price).all(), "exactly, else an account would be triggered at a price never seen"
    assert (view.highest >= view.log_price).all()


def test_a_jump_is_seen_where_it_lands(shocks: tuple[np.ndarray, np.ndarray]) -> None:
    calm = look(0.0, 0.0, 0.0, shocks[1])
    crash = look(0.0, 0.0, -1.0, shocks[1])
    np.testing.assert_array_equal(crash.lowest, -1.0)
    np.testing.assert_array_equal(crash.highest, calm.highest)


def test_without_variance_nothing_lies_between_the_ends() -> None:
    oracle = ContinuousOracle(delay_of(0))
    one = jnp.ones(4, jnp.float32)
    uniforms = jnp.float32([1e-9, 0.3, 0.999, 1.0])
    step = StepOfPrice(0.25 * one, 0.5 * one, 0.5 * one, 0 * one, uniforms, uniforms)
    _, view = oracle.step(oracle.start(one), step, jnp.int32(0), jnp.float32(MINUTE))
    np.testing.assert_array_equal(view.lowest, 0.25)
    np.testing.assert_array_equal(view.highest, 0.5)


@pytest.mark.parametrize("uniform", [2.0**-33, 0.5, 1 - 2.0**-24, 1.0])
def test_the_ends_of_the_unit_interval_give_finite_extremes_and_derivatives(uniform: float) -> None:
    def lowest(a: jax.Array) -> jax.Array:
        oracle, one = ContinuousOracle(delay_of(0)), jnp.ones(1, jnp.float32)
        step = StepOfPrice(0 * one, a * one, a * one, SPREAD**2 * one, uniform * one, uniform * one)
        return oracle.step(oracle.start(one), step, jnp.int32(0), jnp.float32(MINUTE))[1].lowest[0]

    value, slope = jax.value_and_grad(lowest)(jnp.float32(0.0))
    assert -7 * SPREAD < value <= 0
    assert 0 <= slope <= 1


def test_normals_and_extremes_come_from_different_numbers(shocks: tuple[np.ndarray, np.ndarray]) -> None:
    """Given the ends, what lies between them is new: sees a correlation of 0.011 between the return and a uniform."""
    for uniform in shocks[1]:
        assert_mean(shocks[0] * (uniform - 0.5) * np.sqrt(12), 0.0, resolution=0.011)
    assert_mean((shocks[1][0] - 0.5) * (shocks[1][1] - 0.5) * 12, 0.0, resolution=0.011)
