"""Several assets move together as their file says: covariances, regimes, jumps and tails against closed forms and plain loops."""

from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from joint_truth import joint_returns
from scipy.stats import norm
from statistical import assert_close, assert_mean

from calibrate.joint_paths import joint_closes
from calibrate.joint_sampling import joint_sampling
from calibrate.market.joint import market_of_asset
from calibrate.market.joint_files import JointModel, joint_text, read_joint
from calibrate.market.schema import Parts
from calibrate.market.simulated import SINGLE, closes_of
from calibrate.sampling import PlainSampling
from calibrate.shocks import path_ids, seed_words
from calibrate.units import SECONDS_PER_YEAR

HOUR_S = 3600.0
PATHS = 20_000
CALM = np.array([[1, 0.5, 0.2], [0.5, 1, 0.3], [0.2, 0.3, 1]])
CRASH = np.array([[1, 0.9, 0.8], [0.9, 1, 0.85], [0.8, 0.85, 1]])
CHANGES = np.array([[1, 0.7, 0.5], [0.7, 1, 0.6], [0.5, 0.6, 1]])
VOLATILITY = np.array([0.5, 0.6, 0.9])
MORE = np.array([3.0, 2.5, 2.0])
BETA = np.array([1.0, 1.3, 1.5])
SHARED = {"jumps_per_year": 1000.0, "jump_mean": -0.01, "jump_sd": 0.02}
CHAIN = {
    "crashes_per_year": 400.0, "crash_hours": 12.0, "crash_jump_multiplier": 2.0, "crash_depth_multiplier": 0.5,
    "crash_oracle_delay_s": 0.0,
}  # fmt: skip
OWN = np.array([[300.0, 0.0, 0.02], [700.0, 0.01, 0.02], [1000.0, -0.005, 0.03]])
PAIRS = [(0, 1), (0, 2), (1, 2)]


def made(
    *, jumps: bool = False, own: bool = False, regimes: bool = False, volatility: float = 1.0, moves: bool = False
):
    """A model of three assets with the parts that are asked for."""
    names = ("A", "B", "C")
    parts = Parts("log-ou" if moves else "constant", *(("merton", "constant") if own else (None, None)))
    each = {}
    for k, name in enumerate(names):
        numbers = {"volatility": volatility * VOLATILITY[k], "drift": 0.0}
        if moves:
            numbers |= {"log_volatility_sd": 0.4 + 0.1 * k, "reversion_half_life_days": (1.0, 4.0, 16.0)[k]}
            numbers |= {"leverage_correlation": (-0.4, -0.2, 0.3)[k]}
        numbers |= dict(zip(("jumps_per_year", "jump_mean", "jump_sd"), OWN[k], strict=True)) if own else {}
        numbers |= {"shared_jump_beta": BETA[k]} if jumps else {}
        each[name] = (parts, numbers | ({"crash_volatility_multiplier": MORE[k]} if regimes else {}))
    correlation = {"calm": CALM} | ({"crash": CRASH} if regimes else {}) | ({"volatility": CHANGES} if moves else {})
    return JointModel(
        names, "merton" if jumps else None, "calm-crash" if regimes else None,
        (SHARED if jumps else {}) | (CHAIN if regimes else {}), correlation, each, "made", "", {}, {}, {}, {}, [], [],
    )  # fmt: skip


def ends(joint: JointModel, *, hours: int, steps: int, seed: int) -> np.ndarray:
    """Log-prices after some hours, asset by path."""
    closes = joint_closes(joint, paths=PATHS, bars=1, bar_s=hours * HOUR_S, steps=hours * steps, seed=seed)
    return closes[:, 0].astype(np.float64)


# --- diffusions -----------------------------------------------------------------------------------------------------------


def test_diffusions_have_the_correlations_of_the_file() -> None:
    found = ends(made(), hours=24, steps=1, seed=1) / (VOLATILITY * np.sqrt(1 / 365))[:, None]
    found += (VOLATILITY * np.sqrt(1 / 365) / 2)[:, None]
    for i, j in PAIRS:
        assert_mean(found[i] * found[j], CALM[i, j], resolution=0.08)
        # Both below their means: an orthant of two normals.
        both = (found[i] < 0) & (found[j] < 0)
        assert_mean(both, 0.25 + np.arcsin(CALM[i, j]) / (2 * np.pi), resolution=0.04)


def test_a_crash_has_correlations_and_volatilities_of_its_own() -> None:
    """Stationary regimes: the covariance is the mixture of both regimes' over the long-run share of crashes."""
    share = 400 / (400 + 8760 / 12)
    found = ends(made(regimes=True), hours=24, steps=1, seed=2) / (VOLATILITY * np.sqrt(1 / 365))[:, None]
    for i, j in [(0, 0), *PAIRS]:
        expected = (1 - share) * CALM[i, j] + share * MORE[i] * MORE[j] * CRASH[i, j]
        # Prices expected to stay have a log-mean; its square is 0.0002 of the variance at most.
        assert_mean(found[i] * found[j], expected, resolution=0.5)


def test_an_endless_crash_has_nothing_but_its_own() -> None:
    always = replace(made(regimes=True), parameters=CHAIN | {"crashes_per_year": 10_000.0, "crash_hours": 8760.0})
    found = ends(always, hours=24, steps=1, seed=3) / (MORE * VOLATILITY * np.sqrt(1 / 365))[:, None]
    found += (MORE * VOLATILITY * np.sqrt(1 / 365) / 2)[:, None]
    for i, j in PAIRS:
        assert_mean(found[i] * found[j], CRASH[i, j], resolution=0.1)


def test_all_assets_are_in_the_same_regime() -> None:
    joint, dt = made(regimes=True), jnp.asarray(HOUR_S / SECONDS_PER_YEAR, SINGLE)
    seen = []
    for asset in joint.assets:
        market = market_of_asset(joint, asset, None, HOUR_S, SINGLE)
        draws, state = joint_sampling(joint, asset, market, dt).start(seed_words(4), path_ids(np.arange(500)), SINGLE)
        seen.append(np.asarray(state.crash))
        assert (np.asarray(market.start(draws).crash) == seen[-1]).all()
    assert (seen[0] == seen[1]).all()
    assert (seen[0] == seen[2]).all()
    assert 0.2 < seen[0].mean() < 0.5


def test_log_volatilities_start_with_their_long_run_correlations() -> None:
    joint, dt = made(moves=True), jnp.asarray(HOUR_S / SECONDS_PER_YEAR, SINGLE)
    speed = 1 / np.array([1.0, 4.0, 16.0])
    normals = []
    for asset in joint.assets:
        market = market_of_asset(joint, asset, None, HOUR_S, SINGLE)
        draws, _ = joint_sampling(joint, asset, market, dt).start(seed_words(5), path_ids(np.arange(PATHS)), SINGLE)
        normals.append(np.asarray(draws.normal, np.float64))
    for i, j in PAIRS:
        expected = CHANGES[i, j] * 2 * np.sqrt(speed[i] * speed[j]) / (speed[i] + speed[j])
        assert_mean(normals[i] * normals[j], expected, resolution=0.09)


# --- jumps ----------------------------------------------------------------------------------------------------------------


def test_shared_jumps_come_to_all_at_once_in_proportion_to_beta() -> None:
    """Without diffusion, log-prices less what the drift takes back are beta times one jump process."""
    joint, hours, steps = made(jumps=True, volatility=1e-6), 24, 12
    found = ends(joint, hours=hours, steps=steps, seed=6)
    probability = SHARED["jumps_per_year"] * HOUR_S / steps / SECONDS_PER_YEAR
    taken = hours * steps * probability * np.expm1(BETA * SHARED["jump_mean"] + (BETA * SHARED["jump_sd"]) ** 2 / 2)
    factor = (found + taken[:, None]) / BETA[:, None]
    np.testing.assert_allclose(factor[1], factor[0], atol=2e-5)
    np.testing.assert_allclose(factor[2], factor[0], atol=2e-5)
    assert_mean(np.abs(factor[0]) < 2e-5, (1 - probability) ** (hours * steps), resolution=0.02)
    expected = hours * steps * probability * (SHARED["jump_mean"] ** 2 + SHARED["jump_sd"] ** 2)
    assert_mean((factor[0] - factor[0].mean()) ** 2, expected, resolution=0.2 * expected)


def test_own_and_shared_jumps_come_as_often_together_as_they_should() -> None:
    """In a step: no shared jump, then of each asset one of its own with what is left of its probability."""
    joint, steps = made(jumps=True, own=True, volatility=1e-6), 12
    found = ends(joint, hours=2, steps=steps, seed=7)
    in_step = HOUR_S / steps / SECONDS_PER_YEAR
    shared, own = SHARED["jumps_per_year"] * in_step, OWN[:, 0] * in_step
    drift = np.expm1(OWN[:, 1] + OWN[:, 2] ** 2 / 2) * own
    drift += np.expm1(BETA * SHARED["jump_mean"] + (BETA * SHARED["jump_sd"]) ** 2 / 2) * shared
    still = np.abs(found + (2 * steps * drift)[:, None]) < 2e-6
    for i, j in PAIRS:
        assert_mean(still[i], (1 - shared - own[i]) ** (2 * steps), resolution=0.04)
        neither = (1 - shared) * (1 - own[i] / (1 - shared)) * (1 - own[j] / (1 - shared))
        assert_mean(still[i] & still[j], neither ** (2 * steps), resolution=0.04)


# --- one asset alone ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alone() -> tuple[np.ndarray, np.ndarray]:
    """Log-prices of the last asset after six hours with all parts: drawn with the others, and by its own law."""
    joint = made(jumps=True, own=True, regimes=True, moves=True)
    market = market_of_asset(joint, "C", None, HOUR_S / 4, SINGLE)
    dt = jnp.asarray(HOUR_S / 4 / SECONDS_PER_YEAR, SINGLE)
    words, ids = seed_words(8), path_ids(np.arange(PATHS))
    ways = (joint_sampling(joint, "C", market, dt), PlainSampling())
    return tuple(np.asarray(closes_of(market, way, words, ids, dt, 1, 24)[0], np.float64) for way in ways)


def test_an_asset_has_the_same_law_alone_and_among_others(alone: tuple[np.ndarray, np.ndarray]) -> None:
    joint, by_itself = alone
    figures = {0.002: lambda x: x**2, 0.05: lambda x: x < -0.05, 0.02: lambda x: x < -0.15, 0.03: lambda x: x > 0.1}
    for resolution, figure in figures.items():
        first, second = (np.asarray(figure(values), np.float64) for values in (joint, by_itself))
        error = np.hypot(first.std(), second.std()) / np.sqrt(PATHS)
        assert_close(first.mean() - second.mean(), error, 0.0, resolution=resolution)


def test_the_price_is_expected_to_stay(alone: tuple[np.ndarray, np.ndarray]) -> None:
    for values in alone:
        assert_mean(np.exp(values), 1.0, resolution=0.01)


def test_an_asset_does_not_depend_on_those_after_it() -> None:
    whole = made(jumps=True, regimes=True)
    two = replace(
        whole,
        assets=("A", "B"),
        own={name: whole.own[name] for name in ("A", "B")},
        correlation={name: matrix[:2, :2] for name, matrix in whole.correlation.items()},
    )
    each = [joint_closes(j, paths=64, bars=2, bar_s=HOUR_S, steps=4, seed=9) for j in (whole, two)]
    np.testing.assert_array_equal(each[0][:2], each[1])


# --- everything at once ---------------------------------------------------------------------------------------------------


def test_joint_falls_are_as_likely_as_plain_loops_say() -> None:
    """Regimes, moving volatility, leverage, own and shared jumps at once, after six hours."""
    joint = made(jumps=True, own=True, regimes=True, moves=True)
    found = ends(joint, hours=6, steps=12, seed=10)
    truth = joint_returns(
        volatility=VOLATILITY, calm=CALM, crash=CRASH, crash_volatility=MORE, crashes_per_year=400.0, crash_hours=12.0,
        crash_jumps=2.0, shared=tuple(SHARED.values()), beta=BETA, own=OWN, step_years=HOUR_S / 6 / SECONDS_PER_YEAR,
        steps=36, paths=PATHS, rng=np.random.default_rng(11),
        log_ou=(np.array([0.4, 0.5, 0.6]), np.log(2) * 365 / np.array([1, 4, 16]), np.array([-0.4, -0.2, 0.3]), CHANGES),
    ).sum(axis=0)  # fmt: skip

    def agree(figure, resolution: float) -> None:
        first, second = (np.asarray(figure(values), np.float64) for values in (found, truth))
        error = np.hypot(first.std(), second.std()) / np.sqrt(PATHS)
        assert_close(first.mean() - second.mean(), error, 0.0, resolution=resolution * abs(second.mean()))

    deep = -1.5 * truth.std(axis=1)[:, None]
    for i, j in PAIRS:
        agree(lambda x, i=i, j=j: x[i] * x[j], 0.35)
        agree(lambda x, i=i, j=j: (x[i] < deep[i]) & (x[j] < deep[j]), 0.8)
    agree(lambda x: (x < deep).all(axis=0), 1.0)
    assert norm.cdf(-1.5) ** 3 < 0.05 * (truth < deep).all(axis=0).mean()


# --- files ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def text() -> str:
    return joint_text(made(jumps=True, own=True, regimes=True, moves=True))


def test_a_joint_file_is_read_as_it_was_written(tmp_path: Path, text: str) -> None:
    path = tmp_path / "made.toml"
    path.write_text(text)
    assert joint_text(read_joint(path)) == text
    assert read_joint(path).marginal("B").parts == Parts("log-ou", "merton", "constant", "calm-crash")


@pytest.mark.parametrize(
    ("old", "new", "phrases"),
    [
        ('["A", "B", "C"]', '["A", "A", "C"]', ["model.assets", "different names"]),
        ('["A", "B", "C"]', '["A", "../b", "C"]', ["model.assets", "../b"]),
        ("[0.5, 1.0, 0.3]", "[0.6, 1.0, 0.3]", ["correlation.calm", "0.5 for A and B, 0.6", "equal"]),
        ("[0.5, 1.0, 0.3]", "[0.5, 1.1, 0.3]", ["correlation.calm", "1.1", "ones"]),
        ("[0.5, 1.0, 0.3]", "[0.5, 1.0]", ["correlation.calm", "3 rows of 3 numbers"]),
        ("crash_hours = 12.0", "crash_hours = -1", ["parameters.crash_hours", "found -1", "at least"]),
        ("volatility = 0.6", 'volatility = "high"', ["assets.B.parameters.volatility", "'high'", "number"]),
        ("shared_jump_beta = 1.3", "", ["assets.B.parameters.shared_jump_beta", "missing"]),
        ("shared_jump_beta = 1.3", "shared_beta = 1.3", ["assets.B.parameters.shared_beta", "did you mean"]),
        ('family = "log-ou"', 'family = "heston"', ["assets.A.model", "'heston'", "'constant' or 'log-ou'"]),
        ("[0.9, 1.0, 0.85]", "[-0.9, 1.0, 0.85]", ["correlation.crash"]),
        ("leverage_correlation = -0.4", "leverage_correlation = 0.95", ["correlation.calm", "leverage_correlation is taken"]),
        ("jumps_per_year = 1000.0\njump_mean = -0.01", "jumps_per_year = 26000\njump_mean = -0.01", ["assets.A", "minute"]),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_joint_file_is_said(
    tmp_path: Path, text: str, old: str, new: str, phrases: list[str]
) -> None:
    assert old in text
    path = tmp_path / "made.toml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(Exception, match=r"made\.toml: ") as raised:
        read_joint(path)
    for phrase in phrases:
        assert phrase in str(raised.value)


def test_a_matrix_that_no_returns_have_comes_with_what_would_mend_it(tmp_path: Path) -> None:
    broken = np.array([[1, 0.9, -0.9], [0.9, 1, 0.9], [-0.9, 0.9, 1]])
    path = tmp_path / "made.toml"
    path.write_text(joint_text(replace(made(), correlation={"calm": broken})))
    with pytest.raises(Exception, match=r"multiply all but the diagonal by (0\.\d+)") as raised:
        read_joint(path)
    factor = float(str(raised.value).split("diagonal by ")[1].split()[0])
    mended = np.where(np.eye(3) == 1, 1, factor * broken)
    path.write_text(joint_text(replace(made(), correlation={"calm": mended})))
    assert read_joint(path).assets == ("A", "B", "C")
