"""The market models against their laws: forward prices, stationary volatility, jumps, and the limits without risk.

Models are stepped directly, without a venue. What each test would see is said in its docstring.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from drawn import shocks_of, start_of
from markets import SINGLE, Walk, constant_market, log_ou_kou, walk
from scipy.special import ndtr
from statistical import assert_law, assert_mean

from calibrate.market.market import Market, MarketState

HOUR = 1 / (365 * 24)

# Strong in everything, so that every term matters within days: per hour 4 % of a jump at median volatility.
FIELDS = {
    "volatility": 0.9,
    "log_volatility_sd": 0.5,
    "reversion_per_year": 365 * np.log(2) / 1.5,
    "leverage_correlation": -0.3,
    "jumps_per_year": 350.0,
    "jump_volatility_exponent": 1.0,
    "jump_up_probability": 0.4,
    "jump_up_mean": 0.015,
    "jump_down_mean": 0.025,
    "drift": 0.0,
}


def log_ou(*, start: float | None = None, dtype: np.dtype = SINGLE, **changes: float) -> Market:
    fields = {name: jnp.asarray(value, dtype) for name, value in (FIELDS | changes).items()}
    return log_ou_kou(**fields, initial_log_volatility=None if start is None else jnp.asarray(start, dtype))


def constant(volatility: float, drift: float) -> Market:
    return constant_market(jnp.float32(volatility), jnp.float32(drift))


@pytest.fixture(scope="module")
def everything() -> Walk:
    """Five days in hours, with everything at work."""
    return walk(log_ou(), dt=HOUR, steps=120, paths=60_000, seed=1)


@pytest.fixture(scope="module")
def riskier() -> Walk:
    """The same with a drift, and with all risks half as large again."""
    return walk(log_ou(drift=2.0), dt=HOUR, steps=120, paths=60_000, seed=4, scale=1.5)


# --- constant volatility --------------------------------------------------------------------------------------------------


def test_at_constant_volatility_prices_are_lognormal() -> None:
    """Sees a gap of 0.8 % in the distribution function of the log-return, and an error of 0.3 % in the forward price: a
    missing Ito term is one of 1.8 %."""
    years, volatility, drift = 20 * 24 * HOUR, 0.8, 1.0
    x = walk(constant(volatility, drift), dt=years / 5, steps=5, paths=500_000, seed=2).log_price[-1]
    spread = volatility * np.sqrt(years)
    assert_law(x, lambda x: ndtr((x - (drift - volatility**2 / 2) * years) / spread), resolution=0.008)
    assert_mean(np.exp(x), np.exp(drift * years), resolution=0.003)


def test_at_constant_volatility_returns_of_different_steps_are_independent() -> None:
    """Sees a correlation of 0.012."""
    r = walk(constant(0.8, 0.0), dt=HOUR, steps=10, paths=100_000, seed=3).returns
    standard = (r + 0.32 * HOUR) / (0.8 * np.sqrt(HOUR))
    assert_mean((standard[1:] * standard[:-1]).ravel(), 0.0, resolution=0.012)


# --- prices under stochastic volatility and jumps -------------------------------------------------------------------------


def test_without_drift_the_price_is_a_martingale(everything: Walk) -> None:
    """Sees an error of 0.8 % in the price expected after five days. A missing Ito term is one of 0.9 %, a missing compensator
    of the jumps one of 4 %."""
    assert_mean(np.exp(everything.log_price[-1]), 1.0, resolution=0.008)


def test_the_expected_price_grows_at_the_drift_at_every_level_of_risk(riskier: Walk) -> None:
    """Sees an error of 1.35 % in the price expected after five days, with all risks half as large again: the Ito term is then
    2 %, the compensator 7 %."""
    assert_mean(np.exp(riskier.log_price[-1]), np.exp(2.0 * 120 * HOUR), resolution=0.0135)


def test_each_step_is_fair_whatever_the_volatility(everything: Walk) -> None:
    """Sees an error of 7e-5 in a step's expected return, and of 1e-4 weighted with log-volatility. The Ito term of an hour is
    8e-5 on average, the compensator of its jumps 4e-4."""
    gross = np.expm1(everything.returns)
    before = everything.log_volatility[:-1] / FIELDS["log_volatility_sd"]
    assert_mean(gross.ravel(), 0.0, resolution=7e-5)
    assert_mean((gross * before).ravel(), 0.0, resolution=1e-4)


# --- volatility -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hours", [0, 1, 40, 120])
def test_log_volatility_keeps_its_stationary_law(everything: Walk, hours: int) -> None:
    """Sees a gap of 2.5 % in the distribution function, 4 % of the standard deviation in the mean, 6 % in the variance."""
    y = everything.log_volatility[hours] / FIELDS["log_volatility_sd"]
    assert_law(y, ndtr, resolution=0.025)
    assert_mean(y, 0.0, resolution=0.042)
    assert_mean(y**2, 1.0, resolution=0.06)


@pytest.mark.parametrize("hours", [1, 12, 36, 108])
def test_log_volatility_forgets_at_its_half_life(everything: Walk, hours: int) -> None:
    """The autocorrelation halves every 36 hours; sees an error in it of 0.0008 after one hour and of 0.045 after 108."""
    y = everything.log_volatility / FIELDS["log_volatility_sd"]
    kept = 0.5 ** (hours / 36)
    before, after = y[:-hours:hours], y[hours::hours]
    assert_mean((before * (after - kept * before)).ravel(), 0.0, resolution=0.045 * np.sqrt((1 - kept**2) / len(after)))


def test_a_given_start_reverts_to_the_median() -> None:
    """Sees an error of 0.014 in the mean of log-volatility after a half-life, and of 5 % in its variance."""
    y = walk(log_ou(start=1.2), dt=HOUR, steps=36, paths=100_000, seed=5).log_volatility
    np.testing.assert_allclose(y[0], 1.2, rtol=1e-6)
    spread = FIELDS["log_volatility_sd"] * np.sqrt(1 - 0.25)
    assert_mean(y[-1], 0.6, resolution=0.014)
    assert_mean((y[-1] - 0.6) ** 2 / spread**2, 1.0, resolution=0.05)


def test_the_volatility_of_a_step_is_the_one_at_its_start(everything: Walk) -> None:
    ruling = FIELDS["volatility"] * np.exp(everything.log_volatility[:-1])
    np.testing.assert_allclose(everything.volatility, ruling, rtol=1e-5)


@pytest.mark.parametrize("correlation", [-0.6, 0.0, 0.5])
def test_returns_and_volatility_move_together_as_the_correlation_says(correlation: float) -> None:
    """Sees an error of 0.013 in the correlation, hence its sign."""
    market = log_ou(leverage_correlation=correlation, jumps_per_year=0.0, start=0.0)
    moved = walk(market, dt=HOUR, steps=1, paths=1_000_000, seed=6)
    standard_return = (moved.returns[0] + 0.9**2 / 2 * HOUR) / (0.9 * np.sqrt(HOUR))
    spread = FIELDS["log_volatility_sd"] * np.sqrt(1 - 0.25 ** (1 / 36))
    assert_mean(standard_return * moved.log_volatility[1] / spread, correlation, resolution=0.013)


# --- jumps ----------------------------------------------------------------------------------------------------------------


def test_jumps_arrive_at_their_rate_and_oftener_when_volatility_is_high(everything: Walk) -> None:
    """Sees an error of 2 % in the rate, on average and weighted with log-volatility, and of 3 % in its long-run mean."""
    before = everything.log_volatility[:-1]
    probability = np.minimum(FIELDS["jumps_per_year"] * np.exp(before) * HOUR, 1.0)
    surprise = (everything.jump != 0) - probability
    average = probability.mean()
    assert_mean(surprise.ravel(), 0.0, resolution=0.02 * average)
    assert_mean((surprise * before).ravel(), 0.0, resolution=0.02 * average)
    # The stationary mean of exp(log-volatility) is exp(variance / 2), here over 60,000 histories.
    per_path = (everything.jump != 0).mean(axis=0)
    expected = FIELDS["jumps_per_year"] * HOUR * np.exp(FIELDS["log_volatility_sd"] ** 2 / 2)
    assert_mean(per_path, expected, resolution=0.03 * expected)


def test_jumps_go_up_with_their_probability(everything: Walk) -> None:
    """Sees an error of 0.01 in the probability of going up."""
    jumps = everything.jump[everything.jump != 0]
    assert_mean(jumps > 0, FIELDS["jump_up_probability"], resolution=0.01)


@pytest.mark.parametrize(("side", "mean"), [(1, FIELDS["jump_up_mean"]), (-1, FIELDS["jump_down_mean"])])
def test_jump_sizes_are_exponential_on_either_side(everything: Walk, riskier: Walk, side: int, mean: float) -> None:
    """Sees a gap of 1.6 % in the distribution function and an error of 3 % in the mean size, at either level of risk."""
    for seen, scale in ((everything, 1.0), (riskier, 1.5)):
        sizes = side * seen.jump[side * seen.jump > 0] / (scale * mean)
        assert_law(sizes, lambda x: -np.expm1(-x), resolution=0.016)
        assert_mean(sizes, 1.0, resolution=0.03)


@pytest.mark.parametrize(("up", "sign"), [(1.0, 1), (0.0, -1)])
def test_jumps_may_all_go_one_way(up: float, sign: int) -> None:
    """Not statistical, but for the mean size, in which an error of 6 % is seen."""
    jump = walk(log_ou(jump_up_probability=up), dt=HOUR, steps=20, paths=60_000, seed=8).jump
    assert (sign * jump >= 0).all()
    mean = FIELDS["jump_up_mean"] if up else FIELDS["jump_down_mean"]
    assert_mean(sign * jump[jump != 0], mean, resolution=0.06 * mean)


# --- the rate of variance -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("log_volatility", "scale", "resolution"), [(-0.7, 1, 0.09), (0.0, 1, 0.05), (0.7, 1.3, 0.03)])
def test_the_variance_rate_is_that_of_short_returns(log_volatility: float, scale: float, resolution: float) -> None:
    """Sees an error of 9, 5 and 3 % of the rate. Jumps are 45, 29 and 17 % of it; the squared mean of an hour's return, which
    the rate leaves out, is below a thousandth."""
    market = log_ou(start=log_volatility)
    returns = walk(market, dt=HOUR, steps=1, paths=1_000_000, seed=9, scale=scale).returns[0]
    here = market.usual(jnp.zeros(1))._replace(volatility=jnp.float32([log_volatility]))
    rate = float(market.variance_rate(here, jnp.float32(scale))[0])
    assert_mean(returns**2 / HOUR, rate, resolution=resolution * rate)


def test_the_variance_rate_of_constant_volatility_is_its_square() -> None:
    market = constant(0.8, 0.1)
    rate = market.variance_rate(market.usual(jnp.zeros(3)), jnp.float32(1.5))
    np.testing.assert_allclose(rate, (1.5 * 0.8) ** 2, rtol=1e-6)


# --- limits, exactly ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("market", [constant(0.0, 0.7), log_ou(volatility=0.0, jumps_per_year=0.0, drift=0.7)])
def test_without_volatility_the_price_grows_at_the_drift(market: Market) -> None:
    x = walk(market, dt=HOUR, steps=50, paths=100, seed=10).log_price
    np.testing.assert_allclose(x, np.broadcast_to(0.7 * HOUR * np.arange(51)[:, None], x.shape), rtol=1e-5)


def test_without_spread_and_jumps_stochastic_volatility_is_constant_volatility() -> None:
    still = log_ou(log_volatility_sd=0.0, jumps_per_year=0.0, leverage_correlation=0.0, drift=0.2)
    one, two = (walk(m, dt=HOUR, steps=50, paths=500, seed=11) for m in (still, constant(0.9, 0.2)))
    np.testing.assert_allclose(one.log_price, two.log_price, atol=2e-6)
    assert not one.jump.any()
    assert not one.log_volatility.any()


def test_a_certain_jump_comes_in_every_step() -> None:
    """Where the rate exceeds one jump a step, the probability is capped at one, and its compensator with it; sees an error of
    0.15 % in the expected price, which the jumps of four hours would move by 3.4 %."""
    market = log_ou(jumps_per_year=2 / HOUR, log_volatility_sd=0.0, volatility=0.1)
    moved = walk(market, dt=HOUR, steps=4, paths=300_000, seed=12)
    assert (moved.jump != 0).mean() > 0.9999
    assert_mean(np.exp(moved.log_price[-1]), 1.0, resolution=0.0015)


def test_shocks_push_prices_the_way_they_should() -> None:
    one, zero = jnp.ones(1), jnp.zeros(1)
    dt, scale = jnp.float32(HOUR), jnp.float32(1.0)

    def after(market: Market, z: float, w: float, u: float) -> MarketState:
        start = start_of(market, zero)
        return market.step(start, shocks_of(market, start, z * one, w * one, u * one, dt), dt, scale)[0]

    market = log_ou()
    calm = after(market, 0.0, 0.0, 0.999)
    assert after(market, 1.0, 0.0, 0.999).log_price > calm.log_price
    assert after(market, 0.0, 1.0, 0.999).volatility > calm.volatility
    assert after(market, 0.0, 1.0, 0.999).log_price < calm.log_price, (
        "fear lowers the price: the correlation is negative"
    )
    assert after(market, 0.0, 0.0, 1e-4).log_price > calm.log_price, "the smallest uniforms are upward jumps"
    assert after(market, 0.0, 0.0, 0.03).log_price < calm.log_price
    frightened = eqx.tree_at(lambda m: m.volatility.initial_log_volatility, market, 1.0, is_leaf=lambda x: x is None)
    assert after(frightened, 1.0, 0.0, 0.999).log_price > after(market, 1.0, 0.0, 0.999).log_price
