"""Each family's fit finds the parameters of a market that was made without the package, within its own standard errors.

Five standard errors on pinned seeds: a right fit fails once in two million parameters. Beside each stands the largest error that it
may claim, so that an error of five times that would be seen.
"""

import itertools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from made_returns import BAR, candles_of_returns, garch_returns, jump_returns, regime_returns, student
from market_truth import diffusion, kou_jumps, merton_jumps
from scipy.integrate import quad
from scipy.stats import norm
from statistical import assert_recovered

from calibrate.market import fit as fitting
from calibrate.market import targets
from calibrate.market.files import read_model, write_model
from calibrate.market.fit import FITS, fit_candles
from calibrate.market.fits.estimate import Estimate, Task
from calibrate.market.fits.garch import variances
from calibrate.market.fits.jumps import kou_log_density, merton_log_density
from calibrate.market.fits.log_ou_kou import follow_log_ou
from calibrate.market.fits.regimes import hamilton
from calibrate.market.moments import SECONDS_PER_YEAR, Numbers, log_volatility, simulate

GARCH = {"volatility": 0.9, "garch_alpha": 0.08, "garch_beta": 0.88, "degrees_of_freedom": 5.0}
GJR = {**GARCH, "garch_alpha": 0.04, "garch_gamma": 0.08}
MERTON = {"volatility": 0.5, "jumps_per_year": 900.0, "jump_mean": -0.004, "jump_sd": 0.02}
KOU = {
    "volatility": 0.5,
    "jumps_per_year": 900.0,
    "jump_up_probability": 0.4,
    "jump_up_mean": 0.012,
    "jump_down_mean": 0.018,
}
REGIMES = {"volatility": 0.5, "crashes_per_year": 60.0, "crash_hours": 30.0, "crash_volatility_multiplier": 3.0}
LARGEST_ERROR = {
    "constant": {"volatility": 0.02},
    "merton": {"volatility": 0.01, "jumps_per_year": 100.0, "jump_mean": 0.001, "jump_sd": 0.001},
    "kou": {
        "volatility": 0.01,
        "jumps_per_year": 150.0,
        "jump_up_probability": 0.05,
        "jump_up_mean": 0.0015,
        "jump_down_mean": 0.0015,
    },
    "regimes": {"volatility": 0.01, "crashes_per_year": 15.0, "crash_hours": 6.0, "crash_volatility_multiplier": 0.1},
    "garch": {"volatility": 0.1, "garch_alpha": 0.015, "garch_beta": 0.03, "degrees_of_freedom": 0.4},
    "gjr-garch": {
        "volatility": 0.1,
        "garch_alpha": 0.015,
        "garch_gamma": 0.02,
        "garch_beta": 0.03,
        "degrees_of_freedom": 0.4,
    },
    "filtered-historical": {"volatility": 0.1, "garch_alpha": 0.015, "garch_gamma": 0.02, "garch_beta": 0.03},
}
TRUTH = {
    "constant": {"volatility": 0.7},
    "merton": MERTON,
    "kou": KOU,
    "regimes": REGIMES,
    "garch": GARCH,
    "gjr-garch": GJR,
    "filtered-historical": {name: GJR[name] for name in GJR if name != "degrees_of_freedom"},
}
CASES = [(family, name) for family, parameters in TRUTH.items() for name in parameters]
HOURS = 20_000


def kou_sizes(rng, count):
    upward = rng.random(count) < KOU["jump_up_probability"]
    return rng.exponential(np.where(upward, KOU["jump_up_mean"], KOU["jump_down_mean"])) * np.where(upward, 1, -1)


def made_garch(rng, parameters):
    innovations = student(rng, parameters["degrees_of_freedom"], HOURS * 10 // 9)
    short = {name.removeprefix("garch_"): value for name, value in parameters.items() if name != "degrees_of_freedom"}
    return garch_returns(innovations, **short)


def made(family):
    """Returns of a market of this family."""
    rng = np.random.default_rng(11)
    if family == "constant":
        return 0.7 * np.sqrt(BAR) * rng.standard_normal(HOURS)
    if family == "merton":
        law = {name: MERTON[name] for name in ("volatility", "jumps_per_year")}
        return jump_returns(rng, HOURS, **law, size=lambda n: rng.normal(MERTON["jump_mean"], MERTON["jump_sd"], n))
    if family == "kou":
        law = {name: KOU[name] for name in ("volatility", "jumps_per_year")}
        return jump_returns(rng, HOURS, **law, size=lambda n: kou_sizes(rng, n))
    if family == "regimes":
        *rest, multiplier = REGIMES.values()
        names = ("volatility", "crashes_per_year", "crash_hours")
        return regime_returns(rng, HOURS, **dict(zip(names, rest, strict=True)), multiplier=multiplier)
    return made_garch(rng, GARCH if family == "garch" else GJR)


def compensated(returns, family):
    """The fit holds the expected price to stand still, so what jumps add to it is taken back."""
    law = {"merton": MERTON, "kou": KOU}.get(family)
    if law is None:
        return returns
    if family == "merton":
        growth = np.expm1(law["jump_mean"] + law["jump_sd"] ** 2 / 2)
    else:
        up = law["jump_up_probability"]
        growth = up / (1 - law["jump_up_mean"]) + (1 - up) / (1 + law["jump_down_mean"]) - 1
    return returns - law["jumps_per_year"] * BAR * growth


@pytest.fixture(scope="module")
def fits():
    found = {}

    def of(family) -> Estimate:
        if family not in found:
            found[family] = FITS[family].fit(Task(candles_of_returns(compensated(made(family), family))))
        return found[family]

    return of


@pytest.mark.parametrize(("family", "name"), CASES)
def test_a_fit_recovers_the_parameters_of_a_made_market(fits, family, name):
    estimate = fits(family)
    found = estimate.parameters[name], estimate.standard_errors[name]
    assert_recovered(*found, TRUTH[family][name], largest_error=LARGEST_ERROR[family][name])


def test_residuals_of_filtered_history_are_the_innovations(fits):
    innovations = student(np.random.default_rng(11), GJR["degrees_of_freedom"], HOURS * 10 // 9)[HOURS // 9 :][-HOURS:]
    residuals = fits("filtered-historical").residuals
    assert np.corrcoef(residuals[100:], innovations[-len(residuals) :][100:])[0, 1] > 0.999
    assert residuals.mean() == pytest.approx(0, abs=1e-4)
    assert np.mean(residuals**2) == pytest.approx(1, abs=1e-3)
    assert fits("filtered-historical").parameters["block_bars"] < 6  # innovations do not depend on each other


def test_errors_of_a_wrong_model_allow_for_clusters(fits):
    # To a model without memory the returns of a GARCH market come in clusters; errors that took them for independent would
    # be those of a market without clusters, a third as large or less.
    clustered = np.repeat(np.exp(0.8 * np.random.default_rng(1).standard_normal(HOURS // 500)), 500)
    wild = FITS["merton"].fit(Task(candles_of_returns(compensated(made("merton"), "merton") * clustered)))
    assert wild.standard_errors["volatility"] > 2 * fits("merton").standard_errors["volatility"]


# --- densities and filters --------------------------------------------------------------------------------------------


def density(characteristic, x):
    """By inversion of the characteristic function, at a single place."""
    return quad(lambda u: (np.exp(-1j * u * x) * characteristic(u)).real, 0, 6000, limit=2000, epsabs=1e-9)[0] / np.pi


@pytest.mark.parametrize("x", [-0.08, -0.02, -0.004, 0.0, 0.003, 0.01, 0.05])
def test_densities_of_jumps_are_those_of_their_characteristic_functions(x):
    def merton(u):
        return diffusion(u, BAR, 0.5) * merton_jumps(u, BAR, rate=900.0, mean=-0.004, sd=0.02)

    def kou(u):
        return diffusion(u, BAR, 0.5) * kou_jumps(u, BAR, rate=900.0, up=0.4, up_mean=0.012, down_mean=0.018)

    with jax.enable_x64(True):
        returns = jnp.asarray([x])
        of_merton = float(jnp.exp(merton_log_density({k: jnp.asarray(v) for k, v in MERTON.items()}, returns, BAR))[0])
        of_kou = float(jnp.exp(kou_log_density({k: jnp.asarray(v) for k, v in KOU.items()}, returns, BAR, 0.4))[0])
    assert of_merton == pytest.approx(density(merton, x), rel=1e-5, abs=1e-6)
    # Between knots of the grid the logarithm is taken for a line: 5e-5 apart, against a spread of 0.005.
    assert of_kou == pytest.approx(density(kou, x), rel=1e-4, abs=1e-6)


def test_the_filter_is_the_sum_over_all_histories_of_regimes():
    returns = np.array([0.001, -0.02, 0.015, np.nan, 0.002, -0.001])
    into, out = REGIMES["crashes_per_year"] * BAR, 1 / REGIMES["crash_hours"]
    share = into / (into + out)
    kept = np.exp(-into - out)
    switch = {0: share * (1 - kept), 1: share + (1 - share) * kept}
    total, ending, ahead = np.zeros(len(returns)), np.zeros(len(returns)), np.zeros(len(returns))
    for length in range(1, len(returns) + 1):
        for path in itertools.product((0, 1), repeat=length):
            weight = share if path[0] else 1 - share
            for now, then in itertools.pairwise(path):
                weight *= switch[now] if then else 1 - switch[now]
            for regime, move in zip(path, returns, strict=False):
                spread = 0.5 * np.sqrt(BAR) * (3.0 if regime else 1.0)
                weight *= 1.0 if np.isnan(move) else norm.pdf(move, -(spread**2) / 2, spread)
            total[length - 1] += weight
            ending[length - 1] += weight * path[-1]
            ahead[length - 1] += weight * switch[path[-1]]
    with jax.enable_x64(True):
        found = hamilton({name: jnp.asarray(value) for name, value in REGIMES.items()}, jnp.asarray(returns), BAR)
    known = np.isfinite(returns)
    np.testing.assert_allclose(np.cumsum(np.where(known, found.log_density, 0.0)), np.log(total), rtol=1e-12)
    np.testing.assert_allclose(found.crash, ahead / total, rtol=1e-12)
    assert not np.allclose(ahead, ending)


def test_variance_stands_still_over_a_gap_and_follows_returns_elsewhere():
    candles = candles_of_returns(np.array([0.01, -0.02, 0.0, 0.01]))
    torn = replace(candles, ts=candles.ts + np.where(np.arange(5) >= 3, 7_200_000, 0))
    parameters = {"volatility": 0.9, "garch_alpha": 0.1, "garch_beta": 0.8, "garch_gamma": 0.1}
    long_run, base = 0.81 * BAR, 1 - 0.1 - 0.8 - 0.05
    first = base + 0.1 * 0.01**2 / long_run + 0.8
    second = base + 0.2 * 0.02**2 / long_run + 0.8 * first
    fourth = base + 0.1 * 0.01**2 / long_run + 0.8 * second
    np.testing.assert_allclose(variances(parameters, torn), [1, first, second, second, fourth], rtol=1e-9)


def test_the_filter_of_log_volatility_knows_how_far_it_is_off():
    # A filter's error over its own spread has mean square 1. It is Gaussian's best, not the best: jumps and the noise's skew cost
    # little. Five errors of blocks of ten days see 15 %.
    parameters = {**KOU, "log_volatility_sd": 0.6, "reversion_half_life_days": 2.0, "leverage_correlation": 0.0}
    parameters |= {"jump_volatility_exponent": 0.8, "drift": 0.0}
    bars, steps = 24 * 2000, 4
    numbers = Numbers.draw(np.random.default_rng(3), bars * steps)
    returns = simulate(parameters, numbers, 900.0).reshape(bars, steps).sum(axis=1)
    level = log_volatility(parameters, numbers, 900.0 / SECONDS_PER_YEAR)[::steps]
    known = follow_log_ou(Estimate(parameters, {}), candles_of_returns(returns))
    miss = ((level[1:] - known.log_level[1:-1]) / known.spread[1:-1]) ** 2
    blocks = miss[: len(miss) // 240 * 240].reshape(-1, 240).mean(axis=1)
    error = blocks.std(ddof=1) / np.sqrt(len(blocks))
    assert 5 * error < 0.15
    assert abs(miss.mean() - 1) < 5 * error + 0.02
    assert known.spread[-1] < 0.6 * parameters["log_volatility_sd"]


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["regimes", "filtered-historical"])
def test_a_fit_of_any_family_is_written_and_read_back(family, tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "GOODNESS_YEARS", 5.0)
    monkeypatch.setattr(targets, "BOOTSTRAPS", 20)
    fit = fit_candles(candles_of_returns(made(family)[:4000]), family=family)
    write_model(tmp_path / "made.toml", fit, command="calibrate fit made.csv -o made.toml")
    model = read_model(tmp_path / "made.toml")
    assert model.parameters == fit.parameters
    assert model.standard_errors == fit.standard_errors
    assert model.parts.regimes == ("calm-crash" if family == "regimes" else None)
    assert len(model.goodness) == 16
    if family == "regimes":
        assert model.residuals is None
        assert sorted(path.name for path in tmp_path.iterdir()) == ["made.toml"]
    else:
        np.testing.assert_array_equal(model.residuals, fit.residuals)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["made-residuals.csv", "made.toml"]
