"""Volatility that follows returns, and histories that are drawn again: recursions, moments and laws."""

import jax
import jax.numpy as jnp
import market_truth as truth
import numpy as np
import pytest
from markets import SINGLE, journey, walk
from scipy.stats import t as student
from statistical import assert_law, assert_mean

from calibrate.market.filtered_historical import FilteredHistorical
from calibrate.market.garch import Garch, VarianceRecursion, stationary_log_variance, student_mixing
from calibrate.market.market import Market
from calibrate.market.model import StepShocks

DAY = 1 / 365
single = jnp.float32


def recursion(alpha: float, beta: float, gamma: float = 0.0, *, volatility: float = 0.2, steps: int = 1):
    return VarianceRecursion(*(single(x) for x in (volatility, alpha, beta, gamma)), steps)


def garch(rule: VarianceRecursion, freedom: float, *, stationary: bool = False, drift: float = 0.0) -> Market:
    start, law = rule.volatility**2, None
    if stationary:
        ranks = (np.arange(100_000) + 0.5) / 100_000
        innovations = student.ppf(ranks, freedom) * np.sqrt(1 - 2 / freedom)
        start, law = None, stationary_log_variance(rule, innovations, SINGLE)
    return Market(Garch(rule, student_mixing(freedom, SINGLE), start, law), single(drift))


def noise_of(made, volatility: float, dt: float) -> np.ndarray:
    """Returns without what was to be expected of them, and the variance that was forecast for each."""
    forecast = volatility**2 * np.exp(2 * made.log_volatility[:-1])
    return made.returns + forecast / 2 * dt, forecast


@pytest.mark.parametrize("freedom", [4.0, 6.5])
@pytest.mark.parametrize("steps", [1, 6])
def test_returns_of_whole_bars_are_student_whatever_the_step(freedom: float, steps: int) -> None:
    """Sees a gap of 1.5 % in the distribution function, and of 6 % in that of the far hundredth."""
    market = garch(recursion(0.1, 0.8, steps=steps), freedom)
    made = walk(market, dt=DAY / steps, steps=steps, paths=200_000, seed=1)
    noise = (made.log_price[-1] + 0.04 / 2 * DAY) / (0.2 * np.sqrt(DAY)) / np.sqrt(1 - 2 / freedom)
    assert_law(noise, student(freedom).cdf, resolution=0.015)
    edge = student.ppf(0.01, freedom)
    assert_law(noise[noise < edge], lambda x: 100 * student.cdf(x, freedom), resolution=0.15)


@pytest.mark.parametrize("steps", [1, 3])
def test_the_recursion_is_the_one_of_the_model(steps: int) -> None:
    """Not statistical: every bar's variance from the bar before, bar by bar, in GJR's form."""
    market = garch(recursion(0.05, 0.85, 0.1, steps=steps), 5.0)
    made = walk(market, dt=DAY / steps, steps=12 * steps, paths=500, seed=2)
    noise, forecast = noise_of(made, 0.2, DAY / steps)
    bars, variance = noise.reshape(12, steps, -1).sum(axis=1), forecast[::steps]
    assert np.ptp(forecast.reshape(12, steps, -1), axis=1).max() < 1e-6
    following = (1 - 0.95) * 0.04 + (0.05 + 0.1 * (bars < 0)) * bars**2 / DAY + 0.85 * variance
    np.testing.assert_allclose(variance[1:], following[:-1], rtol=2e-4)
    assert (variance.max(axis=1) > 1.2 * variance.min(axis=1))[1:].all(), "or nothing was tested"


def test_garch_has_its_long_run_moments() -> None:
    """w = 5e-6, alpha 0.1, beta 0.85 with normal innovations: variance 1e-4, kurtosis 3.774, correlation of neighbouring squares
    0.179 (Bollerslev 1986). Sees errors of 4 % in the variance, 0.6 in kurtosis, which would be 3 without feedback, and 0.09 in
    correlation."""
    annual = np.sqrt(1e-4 / DAY)
    market = garch(recursion(0.1, 0.85, volatility=annual), 1000.0, stationary=True)
    made = walk(market, dt=DAY, steps=40, paths=60_000, seed=3)
    noise, _ = noise_of(made, annual, DAY)
    square = noise**2 / 1e-4
    assert_mean(square.mean(axis=0), 1.0, resolution=0.04)
    assert_mean((square**2).mean(axis=0), 3.774193548, resolution=0.6)
    assert_mean((square[1:] * square[:-1]).mean(axis=0), 1 + 0.1790697674 * 2.774193548, resolution=0.25)


def test_the_long_run_law_of_variance_stays_as_it_starts() -> None:
    """Sees a change of 4 % in mean log-variance over 60 bars, which from a start at the long-run mean would be 7 %."""
    rule = recursion(0.1, 0.85, 0.05)
    start, end = (
        journey(garch(rule, 5.0, stationary=True), dt=DAY, steps=steps, paths=100_000, seed=4).state.volatility.variance
        for steps in (0, 60)
    )
    gap = np.log(np.asarray(end, float)) - np.log(np.asarray(start, float))
    assert_mean(gap, 0.0, resolution=0.04)
    assert np.log(np.asarray(start, float) / 0.04).mean() < -0.07


def test_a_student_walk_jumps_over_the_debt_as_often_as_it_should() -> None:
    """t(4), daily standard deviation 5 %, 24 steps, leverage 10, maintenance 2 %: P(liquidated) 0.0651137917 and, in the same
    step, P(insolvent) 0.0061418664. The walk is symmetric, so that each path counts both ways up. Sees errors of 6 and 18 %."""
    step_sd = 0.05 / np.sqrt(24)
    size, trigger, debt = step_sd / np.sqrt(2), -np.log(0.9 / 0.98), -np.log(0.9)
    law = student(4, scale=size)
    true = truth.gap_insolvency(law.cdf, law.pdf, 24, trigger=trigger, debt=debt)
    assert true == pytest.approx((0.0651137917, 0.0061418664), abs=1e-7)
    annual = 0.05 / np.sqrt(DAY)
    # The log-price of the reference has no drift.
    market = garch(recursion(0.0, 0.0, volatility=annual), 4.0, drift=annual**2 / 2)
    price = walk(market, dt=DAY / 24, steps=24, paths=300_000, seed=5).log_price
    liquidated, insolvent = (np.zeros(price.shape[1]) for _ in range(2))
    for way_up in (price, -price):
        below = way_up < -trigger
        first = below.argmax(axis=0)
        liquidated += below.any(axis=0) / 2
        insolvent += (below.any(axis=0) & (np.take_along_axis(way_up, first[None], axis=0)[0] < -debt)) / 2
    assert_mean(liquidated, true[0], resolution=0.06 * true[0])
    assert_mean(insolvent, true[1], resolution=0.18 * true[1])


def test_derivatives_in_the_recursion_are_those_of_a_bump() -> None:
    """Not statistical: in double precision, against central differences on the same numbers."""
    with jax.enable_x64(True):
        mixing = student_mixing(5.0, np.dtype(np.float64))
        normals = jnp.asarray(np.random.default_rng(6).standard_normal((30, 2, 200)))

        @jax.jit
        def last_variance(alpha, gamma):
            rule = VarianceRecursion(jnp.float64(0.5), alpha, jnp.float64(0.8), gamma, 1)
            part = Garch(rule, mixing, jnp.float64(0.25))

            def step(state, pair):
                return part.step(state, _shocks(pair), jnp.float64(0.0), jnp.float64(DAY), jnp.float64(1.0))

            state, _ = jax.lax.scan(step, part.usual(normals[0, 0]), normals)
            return state.variance

        at = (jnp.float64(0.08), jnp.float64(0.1))
        for k in (0, 1):
            tangent = tuple(jnp.float64(j == k) for j in (0, 1))
            _, slope = jax.jvp(last_variance, at, tangent)
            up, down = (
                last_variance(*(a + sign * 1e-6 * d for a, d in zip(at, tangent, strict=True))) for sign in (1, -1)
            )
            np.testing.assert_allclose(slope, (up - down) / 2e-6, rtol=1e-5)
            assert np.abs(slope).min() > 0


def _shocks(pair):
    return StepShocks(pair[0], pair[1], None, None)


# --- history --------------------------------------------------------------------------------------------------------------

BARS = 400


@pytest.fixture(scope="module")
def residuals() -> np.ndarray:
    values = np.random.default_rng(7).standard_t(5, BARS)
    return values / np.sqrt((values**2).mean())


def history(
    residuals: np.ndarray, *, steps: int = 1, block: float = 20.0, rule: VarianceRecursion | None = None
) -> Market:
    rule = rule or recursion(0.08, 0.85, 0.05, steps=steps)
    start = rule.volatility**2
    return Market(FilteredHistorical(rule, jnp.asarray(residuals, SINGLE), single(block), start), single(0.0))


def drawn_places(made, residuals: np.ndarray, steps: int, dt: float) -> np.ndarray:
    """The places in the history that bars came from, found by their returns; bar by path."""
    noise, forecast = noise_of(made, 0.2, dt)
    bars = noise.reshape(-1, steps, noise.shape[1]).sum(axis=1) / np.sqrt(forecast[::steps] * dt * steps)
    order = np.argsort(residuals)
    found = order[np.clip(np.searchsorted(residuals[order], bars - 1e-4), 0, BARS - 1)]
    np.testing.assert_allclose(residuals[found], bars, atol=2e-4)
    return found


@pytest.mark.parametrize("steps", [1, 4])
def test_every_bar_is_one_of_the_past_at_the_volatility_of_now(residuals: np.ndarray, steps: int) -> None:
    """Blocks go on with probability 19 / 20, in the order of time, else anywhere. Sees an error of 0.006 in that; places are even
    to within 10 % of the standard deviation of their mean."""
    spaced = np.sort(residuals)
    assert np.diff(spaced).min() > 0
    made = walk(history(residuals, steps=steps), dt=DAY / steps, steps=40 * steps, paths=20_000, seed=8)
    places = drawn_places(made, residuals, steps, DAY / steps)
    # Neighbours in size are told apart to 2e-4; where two are nearer than that, either may be found.
    goes_on = places[1:] == (places[:-1] + 1) % BARS
    crowded = np.isin(places, np.flatnonzero(too_near(residuals)))
    told = ~(crowded[1:] | crowded[:-1])
    assert told.mean() > 0.6
    assert_mean(goes_on[told], 0.95 + 0.05 / BARS, resolution=0.006)
    assert_mean(places[-1] / BARS, 0.5, resolution=0.03)


def too_near(residuals: np.ndarray) -> np.ndarray:
    order = np.argsort(residuals)
    near = np.diff(residuals[order]) < 6e-4
    result = np.zeros(len(residuals), bool)
    result[order[1:]] |= near
    result[order[:-1]] |= near
    return result


def test_a_history_has_the_variance_of_its_recursion(residuals: np.ndarray) -> None:
    """With every bar drawn anew, bars are independent, and variance stays at its long-run mean: sees an error of 2 % after 30."""
    rule = recursion(0.1, 0.8)
    made = journey(history(residuals, rule=rule, block=1.0), dt=DAY, steps=30, paths=100_000, seed=9)
    assert_mean(np.asarray(made.state.volatility.variance, float) / 0.04, 1.0, resolution=0.02)
