"""The venue of the benchmarks, written without the package, is the engine's venue: ratios of their times mean something.

On the engine's own shocks NumPy and numba agree with it path by path, to rounding. Drawing their own, all agree in the mean: at
five standard errors of the difference correct code fails once in 1.7 million assertions, and an error of the stated share of a
mean would be seen.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import baselines
import baselines_jax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from baselines import OUTCOMES, Candidate, Stated, stated
from small_job import write
from statistical import assert_close, assert_law, assert_mean

from calibrate.assemble import Assembled, assemble
from calibrate.job import load_job
from calibrate.shipped import shipped_folder
from calibrate.shocks import path_ids, seed_words, shocks_of_steps, start_draws
from calibrate.simulate import simulate, with_values

# The default job in steps of ten minutes, at margins so thin that most paths lose, with everything that derivatives need.
HARSH = (
    "simulation.precision='float64'", "simulation.step_s=600", "oracle.delay_s=600", "venue.keeper_delay_s=1200",
    "policy.base_margin_bps.value=30", "policy.volatility_multiplier.value=0.4", "venue.insurance_fund_usd=1e5",
    "venue.stressed_volatility=1.5", "policy.stress_weight=0.25", "policy.margin_rise_bps_per_hour=20",
    "policy.margin_fall_bps_per_hour=5",
)  # fmt: skip
# Beside the incumbent's, values that make another candidate of it.
OTHER = {
    "base_margin": 0.004, "penalty": 0.02, "keeper_share": 0.7, "initial_ratio": 1.8, "forecast_memory": 0.001,
    "margin_rise": 50.0, "volatility_scale": 1.3, "depth_scale": 0.3,
}  # fmt: skip
FIELDS = ("distance", "bad_debt", "liquidated_share", "penalty", "slippage", "initial_margin")
FEW, MANY = 512, 40_960
CHUNK = 1024


@pytest.fixture(scope="module")
def venue() -> tuple[Assembled, Stated]:
    loaded = load_job(shipped_folder("configs") / "eth-perp.toml", HARSH)
    return assemble(loaded), stated(loaded)


@pytest.fixture(scope="module")
def candidates(venue: tuple[Assembled, Stated]) -> list[Candidate]:
    incumbent = venue[1].incumbent
    return [incumbent, incumbent._replace(**OTHER)]


@pytest.fixture(scope="module")
def engine(venue: tuple[Assembled, Stated]) -> list[dict[str, np.ndarray]]:
    """Both candidates' outcomes by the engine."""
    made, _ = venue
    other = with_values(made.incumbent, tuple(OTHER), np.array(list(OTHER.values())))
    return [
        told(simulate(made.scenario, each, seed=1, paths=MANY, fields=FIELDS, chunk=CHUNK).values)
        for each in (made.incumbent, other)
    ]


def told(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outcomes under the baselines' names."""
    named = values | {"insolvent": (values["distance"] > 0).astype(float)}
    return {name: np.asarray(named[name], np.float64) for name in OUTCOMES}


class Drawn:
    """The engine's shocks of the first paths: for the start, and by step and path."""

    def __init__(self, steps: int):
        double = np.dtype(np.float64)
        with jax.enable_x64(True):
            key, ids = seed_words(1), path_ids(np.arange(FEW))
            self.start = np.asarray(start_draws(key, ids, double)[0])
            made = shocks_of_steps(key, ids, jnp.arange(steps, dtype=jnp.uint32), double, continuous=False)
            self.z1, self.z2, self.u = map(np.asarray, (made.return_normal, made.volatility_normal, made.jump_uniform))


@pytest.fixture(scope="module")
def drawn(venue: tuple[Assembled, Stated]) -> Drawn:
    return Drawn(venue[1].setting.steps)


@pytest.fixture(scope="module")
def with_numba() -> Iterator[ModuleType]:
    pytest.importorskip("numba", reason="numba comes with the extra `bench`")
    import baselines_numba

    return baselines_numba


def assert_same_paths(found: list[dict[str, np.ndarray]], engine: list[dict[str, np.ndarray]]) -> None:
    for ours, theirs in zip(found, engine, strict=True):
        for name in OUTCOMES:
            np.testing.assert_allclose(ours[name], theirs[name][:FEW], rtol=1e-8, atol=1e-11, err_msg=name)


def assert_same_means(found: dict[str, np.ndarray], engine: dict[str, np.ndarray]) -> None:
    """An error is seen of 16 % of bad debt, 7 % of the insolvency probability and 4 % of the share liquidated."""
    for name, resolution in (("bad_debt", 0.16), ("insolvent", 0.07), ("liquidated_share", 0.04)):
        ours, theirs = found[name], engine[name]
        error = np.sqrt(ours.var() / ours.size + theirs.var() / theirs.size)
        assert_close(ours.mean(), error, theirs.mean(), resolution=resolution * theirs.mean())


def test_numpy_follows_every_path_as_the_engine_does(venue, candidates, engine, drawn) -> None:
    setting, cohorts, _ = venue[1]
    found = baselines.along(setting, cohorts, candidates, drawn.start, zip(drawn.z1, drawn.z2, drawn.u, strict=True))
    assert_same_paths(found, engine)
    for values in engine:
        assert 0.2 < values["insolvent"].mean() < 0.95, "losses should matter, and not everywhere"
        assert values["liquidated_share"].mean() > 0.1
    assert np.median(engine[1]["bad_debt"] / np.maximum(engine[0]["bad_debt"], 1e-9)) > 1.1, "candidates should differ"


def test_numba_follows_every_path_as_the_engine_does(venue, candidates, engine, drawn, with_numba) -> None:
    setting, cohorts, _ = venue[1]
    outcomes, policies = np.empty((FEW, len(candidates), len(OUTCOMES))), np.array(candidates)
    for path in range(FEW):
        shocks = (np.ascontiguousarray(each[:, path]) for each in (drawn.z1, drawn.z2, drawn.u))
        with_numba.follow(setting, cohorts, policies, drawn.start[path], *shocks, outcomes[path])
    found = [dict(zip(OUTCOMES, outcomes[:, k].T, strict=True)) for k in range(len(candidates))]
    assert_same_paths(found, engine)


def test_numpy_agrees_with_the_engine_in_the_mean(venue, engine) -> None:
    _, said = venue
    assert_same_means(baselines.simulate(said, [said.incumbent], seed=2, paths=MANY, threads=1)[0], engine[0])


def test_numba_agrees_with_the_engine_in_the_mean(venue, candidates, engine, with_numba) -> None:
    for found, values in zip(with_numba.simulate(venue[1], candidates, seed=2, paths=MANY), engine, strict=True):
        assert_same_means(found, values)


def test_jax_random_agrees_with_the_engine_in_the_mean(venue, engine) -> None:
    made, _ = venue
    own = baselines_jax.simulate(made.scenario, made.incumbent, FIELDS, seed=2, paths=MANY, threads=1, chunk=CHUNK)
    assert_same_means(told(own), engine[0])


def test_random_numbers_of_numba_have_their_laws(with_numba) -> None:
    """A gap of 0.6 % between distribution functions would be seen, and an error of a half in the far tail of the normals, where
    the ziggurat has a branch of its own; so would a correlation of a hundredth between neighbouring paths or draws."""
    from scipy.stats import norm

    z1, z2, u = np.empty((3, 2, 500_000))
    for path in range(2):
        with_numba.draw(with_numba.seeded(1, path), z1[path], z2[path], u[path])
    assert_law(z1, norm.cdf, resolution=6e-3)
    assert_law(u, lambda x: np.clip(x, 0, 1), resolution=6e-3)
    beyond = 2 * norm.sf(3.6)
    assert_mean(np.abs(np.stack([z1, z2])) > 3.6, beyond, resolution=0.5 * beyond)
    spread = np.sqrt(12) * (u - 0.5)
    for one, another in ((z1[0], z1[1]), (z2[0], z2[1]), (z1[0], z2[0]), (z2[0], spread[0]), (z1[0][1:], z2[0][:-1])):
        assert_mean(one * another, 0.0, resolution=0.02)


@pytest.mark.slow
def test_the_benchmark_of_speed_fills_its_table(tmp_path: Path) -> None:
    script, saved = Path(baselines.__file__).with_name("speed.py"), tmp_path / "speed.json"
    options = ("--paths", "1024", "--rounds", "1", "--job", str(write(tmp_path)), "--output", str(saved))
    subprocess.run([sys.executable, str(script), *options], check=True)
    table = json.loads(saved.read_text(encoding="utf-8"))
    races = {row["what"] for row in table["times"]}
    assert races == {"shocks", "market", "engine", "8 candidates", *(f"value and {n} derivatives" for n in (3, 6, 12))}
    assert all(row["nanoseconds"] > 0 for row in table["times"])
    assert {row["contestant"] for row in table["agreement"]} >= {"jax.random", "NumPy"}
    assert table["commands"]["job_status"] == "certified"
