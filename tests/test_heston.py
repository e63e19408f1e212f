"""Stochastic variance and two-factor volatility against prices, passages and moments that are known.

Prices are taken given the path of variance, in which they are Black and Scholes', with the forward as control: so some 1e5 paths
tell a price to a twentieth of a per cent.
"""

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import market_truth as truth
import numpy as np
import pytest
from markets import SINGLE, conditional_calls, journey, log_ou_kou, walk
from scipy.special import ndtr
from scipy.stats import gamma
from statistical import assert_law, assert_mean

from calibrate.market.arrival import ConstantArrival
from calibrate.market.build import _gamma_law
from calibrate.market.heston import Heston
from calibrate.market.log_ou_two_factor import Factor, TwoFactorLogOU
from calibrate.market.market import Jumps, Market
from calibrate.market.merton import MertonSizes

DAY, MINUTE = 1 / 365, 1 / (365 * 1440)
single = jnp.float32


@dataclass(frozen=True)
class Variance:
    """Heston's parameters in the words of the literature."""

    variance: float
    speed: float
    long_run: float
    vol_of_variance: float
    correlation: float

    def part(self) -> Heston:
        names = (self.long_run**0.5, self.speed, self.vol_of_variance, self.correlation, self.variance)
        return Heston(*(single(value) for value in names))

    def market(self) -> Market:
        return Market(self.part(), single(0.0))

    def characteristic(self, maturity: float):
        return lambda u: truth.heston(u, maturity, **vars(self))


# Andersen (2008), table 1, cases I and III; Broadie and Kaya (2006), table 1: where variance spends much of its time near zero,
# where it hardly does, and where it moves fast.
CASES = {
    "Andersen I": (Variance(0.04, 0.5, 0.04, 1.0, -0.9), 10.0, 0.0),
    "Andersen III": (Variance(0.09, 1.0, 0.09, 1.0, -0.3), 5.0, 0.0),
    "Broadie-Kaya 1": (Variance(0.010201, 6.21, 0.019, 0.61, -0.7), 1.0, 0.0319),
}
QUOTED = {
    ("Andersen I", 60): 44.3299750702, ("Andersen I", 100): 13.084670137, ("Andersen I", 140): 0.295774435798,
    ("Andersen III", 60): 45.9968539763, ("Andersen III", 100): 21.7952877425, ("Andersen III", 140): 9.9830678238,
    ("Broadie-Kaya 1", 100): 6.80611331346,
}  # fmt: skip


@pytest.mark.parametrize(("name", "strike"), QUOTED)
def test_the_truth_is_that_of_the_literature(name: str, strike: int) -> None:
    case, maturity, rate = CASES[name]
    assert truth.call_price(case.characteristic(maturity), strike, maturity, rate) == pytest.approx(
        QUOTED[name, strike], rel=1e-9
    )


@pytest.fixture(scope="module", params=CASES)
def priced(request: pytest.FixtureRequest):
    """A case's paths at 32 steps a year, and the true price of any strike, both undiscounted."""
    case, maturity, rate = CASES[request.param]
    made = journey(case.market(), dt=1 / 32, steps=round(32 * maturity), paths=450_000, seed=5, muted=True)
    growth = np.exp(rate * maturity)

    def true(strike: float) -> float:
        return growth * truth.call_price(case.characteristic(maturity), strike, maturity, rate)

    return made, 100.0 * growth, true


@pytest.mark.parametrize(("strike", "resolution"), [(60, 0.02), (100, 0.005), (130, 0.02)])
def test_calls_have_the_prices_of_the_characteristic_function(priced, strike: float, resolution: float) -> None:
    """Sees an error of 0.5 % at the money and of 2 % in the wings, at 32 steps a year."""
    made, forward, true = priced
    calls = conditional_calls(made, strike, spot=forward)
    assert_mean(calls, true(strike), resolution=resolution * true(strike))


def test_jumps_on_top_have_the_prices_of_bates() -> None:
    """Sees an error of 0.5 %: jumps are a fifth of the variance."""
    case, maturity = Variance(0.09, 4.0, 0.09, 0.8, -0.5), 0.25
    jumps = {"rate": 6.0, "mean": -0.04, "sd": 0.06}
    part = Jumps(ConstantArrival(single(6.0)), MertonSizes(single(-0.04), single(0.06)))
    market = Market(case.part(), single(0.0), part)
    made = journey(market, dt=maturity / 200, steps=200, paths=450_000, seed=6, muted=True)
    both = lambda u: case.characteristic(maturity)(u) * truth.merton_jumps(u, maturity, **jumps)  # noqa: E731
    for strike, resolution in ((90, 0.005), (100, 0.005), (110, 0.02)):
        price = truth.call_price(both, strike, maturity)
        assert_mean(conditional_calls(made, strike), price, resolution=resolution * price)


def test_variance_has_its_mean_and_spread_at_minutes_too() -> None:
    """In single precision a day of minutes is where rounding would show. Sees errors of 0.6 % in the mean and 5 % in the
    variance of variance (Cox, Ingersoll and Ross 1985, equation 19)."""
    case = Variance(0.3, 8.0, 0.64, 2.0, -0.5)
    variance = np.asarray(journey(case.market(), dt=MINUTE, steps=1440, paths=100_000, seed=7).state.volatility, float)
    kept = np.exp(-case.speed * DAY)
    mean = case.long_run + (case.variance - case.long_run) * kept
    spread = case.vol_of_variance**2 * (1 - kept) / case.speed * (case.variance * kept + case.long_run * (1 - kept) / 2)
    assert_mean(variance, mean, resolution=0.006 * mean)
    assert_mean((variance - mean) ** 2, spread, resolution=0.05 * spread)


def test_the_price_is_a_martingale() -> None:
    """With the normals of returns; sees an error of 0.5 % over a quarter of a year, of which the Ito term is 8 %."""
    case = Variance(0.64, 8.0, 0.64, 2.0, -0.5)
    made = journey(case.market(), dt=DAY / 4, steps=365, paths=400_000, seed=8)
    assert_mean(np.exp(made.log_price), 1.0, resolution=0.008)


def test_first_passage_is_that_of_a_brownian_motion_on_another_clock() -> None:
    """Sees an error of 6 % in the probability of falling 15 % within a week, in steps of half an hour."""
    case = Variance(0.64, 8.0, 0.64, 2.0, 0.0)
    distance = -np.log(0.85)
    known = {"variance": 0.64, "speed": 8.0, "long_run": 0.64, "vol_of_variance": 2.0}
    true = truth.heston_passage(distance, 7 * DAY, **known)
    assert true == pytest.approx(0.1527537890, abs=1e-9)
    made = journey(case.market(), dt=DAY / 48, steps=336, paths=150_000, seed=9, barrier=-distance)
    assert_mean(1 - made.survival, true, resolution=0.06 * true)


def test_variance_starts_from_its_long_run_law_and_keeps_it() -> None:
    """Sees a gap of 2 % in the distribution function, where variance is near zero for most of the time: twice its speed times
    its mean is a seventh of its squared volatility."""
    volatility, speed, xi = 0.8, 4.0, 6.0
    start = _gamma_law(volatility, speed, xi, SINGLE)
    part = Heston(*(single(x) for x in (volatility, speed, xi, -0.5)), stationary=start)
    law = gamma(2 * speed * volatility**2 / xi**2, scale=xi**2 / (2 * speed))
    rng = np.random.default_rng(10)
    for steps in (0, 500):
        variance = journey(Market(part, single(0.0)), dt=DAY / 48, steps=steps, paths=100_000, seed=10).state.volatility
        # Below a volatility of 3 % only the mass counts: there the scheme has zeros.
        nearly_none = law.ppf(law.cdf(1e-3) * rng.random(len(variance)))
        assert_law(np.where(variance < 1e-3, nearly_none, variance), law.cdf, resolution=0.02)


def test_the_next_variance_is_not_torn() -> None:
    """Not statistical. Over the range in which both of the scheme's laws exist, the next variance moves by no more than ten times
    what the present one moves by. At a switch from one law to the other it would jump."""
    part = Variance(0.04, 0.5, 0.04, 1.0, -0.9).part()
    variance = jnp.linspace(0.002, 0.04, 1001, dtype=np.float32)
    normals = jnp.array([-2.0, -1.0, -0.3, 0.0, 0.3, 1.0, 2.0], np.float32)
    after = jax.jit(jax.vmap(lambda z: part._next_variance(variance, z + 0 * variance, single(1 / 32))))(normals)
    assert np.abs(np.diff(np.asarray(after, float)) / np.diff(np.asarray(variance, float))).max() < 10


@pytest.mark.parametrize(("xi", "resolution"), [(1.0, 0.07), (2.5, 0.12)])
def test_the_derivative_along_the_path_misses_nothing(xi: float, resolution: float) -> None:
    """The derivative of the mean square of variance in its volatility: slopes have heavy tails, so 7 and 12 % are seen. The
    variance is well above zero at first and often near it at last."""
    speed, long_run, first, steps, dt = 2.0, 0.5, 0.3, 10, 1 / 20

    @jax.jit
    def slopes_of(normals):
        def mean_square(xi):
            part = Heston(single(long_run**0.5), single(speed), xi, single(-0.5), single(first))
            start = jnp.full(normals.shape[1], single(first))
            step = lambda variance, normal: (part._next_variance(variance, normal, single(dt)), None)  # noqa: E731
            return jax.lax.scan(step, start, normals)[0] ** 2

        return jax.jvp(mean_square, (single(xi),), (single(1.0),))[1]

    slopes = slopes_of(jax.random.normal(jax.random.key(3), (steps, 400_000), np.float32))
    kept = np.exp(-speed * steps * dt)
    # The mean does not depend on xi, the variance is proportional to its square.
    truly = 2 * xi * (1 - kept) / speed * (first * kept + long_run * (1 - kept) / 2)
    assert_mean(slopes, truly, resolution=resolution * truly)


# --- two factors ----------------------------------------------------------------------------------------------------------

FAST, SLOW = (0.5, 365 * np.log(2) / 0.25, -0.5), (0.4, 365 * np.log(2) / 10, -0.3)


def two_factor(*, start: float | None = None, fast=FAST, slow=SLOW) -> Market:
    factors = (Factor(*(single(x) for x in factor)) for factor in (fast, slow))
    return Market(TwoFactorLogOU(single(0.8), *factors, None if start is None else single(start)), single(0.0))


@pytest.fixture(scope="module")
def two():
    return walk(two_factor(), dt=1 / 8760, steps=48, paths=100_000, seed=11)


@pytest.mark.parametrize("hours", [0, 48])
def test_two_factors_add_up_to_their_long_run_law(two, hours: int) -> None:
    """Sees a gap of 2 % in the distribution function of log-volatility."""
    assert_law(two.log_volatility[hours] / np.hypot(0.5, 0.4), ndtr, resolution=0.02)


@pytest.mark.parametrize(("hours", "resolution"), [(1, 0.02), (6, 0.02), (48, 0.02)])
def test_two_factors_forget_at_two_half_lives(two, hours: int, resolution: float) -> None:
    """Sees an error of 0.02 in a covariance that falls from 0.41."""
    y = two.log_volatility
    covariance = 0.25 * 0.5 ** (hours / 6) + 0.16 * 0.5 ** (hours / 240)
    assert_mean(y[0] * y[hours], covariance, resolution=resolution)


def test_two_factors_lower_the_price_each_by_its_correlation(two) -> None:
    """Sees an error of 0.02 in the correlation of a return with the change of log-volatility, about -0.58."""
    change = np.diff(two.log_volatility[:2], axis=0)[0]
    spreads = [sd * np.sqrt(-np.expm1(-2 * speed / 8760)) for sd, speed, _ in (FAST, SLOW)]
    standard = (two.returns[0] + two.volatility[0] ** 2 / 2 / 8760) / (two.volatility[0] * np.sqrt(1 / 8760))
    expected = sum(rho * spread for (_, _, rho), spread in zip((FAST, SLOW), spreads, strict=True))
    # What reverts of log-volatility does not depend on the next return.
    assert_mean(standard * change / np.hypot(*spreads), expected / np.hypot(*spreads), resolution=0.04)
    assert_mean(standard**2, 1.0, resolution=0.05)


def test_the_price_is_a_martingale_with_two_factors(two) -> None:
    """Sees an error of 0.3 % over two days, of which the Ito term is 0.3 %."""
    assert_mean(np.exp(two.log_price[-1]), 1.0, resolution=0.003)


def test_a_given_start_is_shared_between_the_factors_as_their_law_says() -> None:
    """Sees an error of 0.01 in the mean of log-volatility six hours on; its spread at the start is nothing."""
    made = walk(two_factor(start=0.9), dt=1 / 8760, steps=6, paths=100_000, seed=12).log_volatility
    np.testing.assert_allclose(made[0], 0.9, rtol=1e-5)
    share = 0.25 / 0.41
    assert_mean(made[6], 0.9 * (share * 0.5 + (1 - share) * 0.5 ** (6 / 240)), resolution=0.017)


def test_without_the_slow_factor_two_are_one() -> None:
    fields = {"volatility": 0.8, "log_volatility_sd": 0.5, "reversion_per_year": FAST[1], "leverage_correlation": -0.5}
    none = dict.fromkeys(
        (
            "jumps_per_year",
            "jump_volatility_exponent",
            "jump_up_probability",
            "jump_up_mean",
            "jump_down_mean",
            "drift",
        ),
        0.0,
    )
    one = log_ou_kou(**{name: single(value) for name, value in (fields | none).items()})
    one = eqx.tree_at(lambda m: m.jumps, one, None)
    both = [walk(m, dt=1 / 8760, steps=20, paths=500, seed=13) for m in (one, two_factor(slow=(0.0, 1.0, 0.0)))]
    np.testing.assert_allclose(both[0].log_price, both[1].log_price, atol=1e-6)
