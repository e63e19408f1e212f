"""The numbers that a job assumes of its world: all are found, each alone is changed, and what they move is moved without bias."""

import functools
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_job
from statistical import assert_close
from test_joint_jobs import market
from test_model_parts import write
from test_sampling import CASE, EVERY_KIND

from calibrate.assemble import Assembled, assemble
from calibrate.assumptions import THRESHOLD, Assumption, assumptions_of
from calibrate.elasticities import CHANGE, Elasticity, elasticities
from calibrate.job import LoadedJob, load_job
from calibrate.market.schema import Parts
from calibrate.oracle import PushOracle
from calibrate.progress import Silent
from calibrate.sampling import ImportanceSampling
from calibrate.simulate import Sample, simulate

SEED, LEVEL, FEW, MANY = 4, 0.95, 8192, 32_768
# What no part of a per cent can be told of: a drift of zero, and what is a whole number of steps.
NEVER = {"drift", "bar_s", "crash_oracle_delay_s"}
WHOLE = Parts("log-ou", "kou", "volatility-linked", "calm-crash")


def loaded(folder: Path, parts: Parts, *changes: str) -> LoadedJob:
    """The small job under a model of these parts, with the file that describes it."""
    write(folder, parts)
    text = small_job.TEXT.replace("volatility = 1.0\n\n[oracle]", 'model = "model.toml"\n\n[oracle]')
    return load_job(small_job.write(folder, text), ["simulation.step_s=3600", *changes])


def same(one: object, other: object) -> bool:
    leaves, others = jax.tree.leaves(one), jax.tree.leaves(other)
    return jax.tree.structure(one) == jax.tree.structure(other) and all(map(np.array_equal, leaves, others))


@pytest.mark.parametrize(
    ("parts", "left_out"),
    [
        (Parts("constant"), set()),
        (WHOLE, set()),
        (Parts("log-ou-two-factor", "merton", "constant"), set()),
        (Parts("heston", "merton", "self-exciting"), set()),
        (Parts("garch"), set()),
        # A twentieth more of it, and variance would have no long-run law.
        (Parts("gjr-garch"), {"garch_beta"}),
        (Parts("filtered-historical"), {"garch_beta"}),
    ],
    ids=lambda value: value.family if isinstance(value, Parts) else "",
)
def test_every_number_of_a_model_file_is_changed_alone(tmp_path: Path, parts: Parts, left_out: set[str]) -> None:
    """The market is to the digit the one of a file in which that number is another one."""
    start = [] if parts.family == "constant" else ["market.initial_volatility=0.9"]
    job = loaded(tmp_path, parts, *start)
    here = assemble(job).scenario
    found = {assumption.name: assumption for assumption in assumptions_of(job, here, CHANGE)}
    assert set(found) == set(parts.ranges()) - NEVER - left_out
    lines = (tmp_path / "model.toml").read_text().splitlines()
    for name, assumption in found.items():
        number = next(k for k, line in enumerate(lines) if line.startswith(f"{name} = "))
        for scenario, factor in ((assumption.more, 1 + CHANGE), (assumption.fewer, 1 - CHANGE)):
            value = factor * float(lines[number].partition(" = ")[2])
            (tmp_path / "model.toml").write_text(
                "\n".join([*lines[:number], f"{name} = {value}", *lines[number + 1 :]])
            )
            assert same(scenario.market, assemble(job).scenario.market)
            assert not same(scenario.market, here.market)
            assert same(eqx.tree_at(lambda s: s.market, scenario, here.market), here), "nothing else is changed"


def test_of_several_assets_what_is_shared_and_what_is_its_own_is_told_apart(tmp_path: Path) -> None:
    job = load_job(market(tmp_path, "one", "ETH", model="majors"))
    here = assemble(job).scenario
    found = {assumption.name: assumption.more.market for assumption in assumptions_of(job, here, CHANGE)}
    rates = [
        (m.shared.arrival.jumps_per_year, m.jumps.arrival.jumps_per_year)
        for m in (here.market, *(found[n] for n in JUMPS))
    ]
    (all_of_them, own), (more_shared, same_own), (same_shared, more_own) = (tuple(map(float, pair)) for pair in rates)
    assert (more_shared, same_own) == pytest.approx((1.05 * all_of_them, own))
    assert (same_shared, more_own) == pytest.approx((all_of_them, 1.05 * own))
    assert {"shared_jump_beta [ETH]", "volatility [ETH]", "crashes_per_year"} <= set(found)
    assert not any("BTC" in name or name.startswith(("drift", "crash_oracle_delay_s")) for name in found)


JUMPS = ("jumps_per_year", "jumps_per_year [ETH]")


def test_the_threshold_of_a_push_oracle_is_an_assumption_and_a_history_is_none(tmp_path: Path) -> None:
    push = ["oracle.kind=push", "oracle.deviation_bps=50", "oracle.heartbeat_s=7200"]
    job = load_job(small_job.write(tmp_path), push)
    (threshold,) = assumptions_of(job, assemble(job).scenario, CHANGE)
    assert threshold.name == THRESHOLD
    for scenario, expected in ((threshold.more, 0.00525), (threshold.fewer, 0.00475)):
        assert isinstance(scenario.oracle, PushOracle)
        assert float(scenario.oracle.deviation) == pytest.approx(expected)


def moves(
    assembled: Assembled,
    assumptions: list[Assumption],
    sample: Sample,
    sampling: ImportanceSampling | None = None,
    seed: int = SEED,
) -> dict[tuple[str, str], Elasticity]:
    there = assembled.scenario, assembled.incumbent, (), sample, sampling
    rows = elasticities(*there, seed=seed, tail_level=LEVEL, listener=Silent(), assumptions=assumptions)
    return {(row.of, row.parameter): row for row in rows}


# All that jumps bring can be seen along the path, but for how often they come: no threshold that is crossed a step earlier, no
# forecast that knows how often they come.
PLAINER = CASE.but(
    oracle="exact", multiplier=0.0, base=0.02, jumps_per_year=6000.0, jump_up_mean=0.03, jump_down_mean=0.05
)
OF_THE_LAW = ("volatility", "jumps_per_year", "jump_up_probability", "jump_up_mean", "jump_down_mean")


def changed(name: str) -> Assumption:
    value = getattr(PLAINER.rules, name)
    ends = (PLAINER.but(**{name: factor * value}).scenario() for factor in (1 + CHANGE, 1 - CHANGE))
    return Assumption(name, *ends)


@functools.cache
def of_the_law(weighted: bool) -> dict[tuple[str, str], Elasticity]:
    """From plain paths, or from a fourth as many that are drawn by tilted laws of every kind."""
    scenario, parameters, sampling = PLAINER.scenario(), PLAINER.parameters(), EVERY_KIND if weighted else None
    paths, seed = (FEW, SEED + 1) if weighted else (MANY, SEED)
    sample = simulate(scenario, parameters, seed=seed, paths=paths, sampling=sampling)
    assembled = Assembled(scenario, parameters, 1.0)
    return moves(assembled, [changed(name) for name in OF_THE_LAW], sample, sampling, seed)


@pytest.mark.parametrize(("name", "resolution"), list(zip(OF_THE_LAW, (0.2, 2.0, 1.6, 0.5, 0.5), strict=True)))
def test_weighted_paths_know_the_law_that_is_changed(name: str, resolution: float) -> None:
    """Their elasticities are those of plain paths."""
    one, other = (of_the_law(weighted)["bad_debt", name] for weighted in (True, False))
    together = float(np.hypot(one.standard_error, other.standard_error))
    assert_close(one.elasticity, together, other.elasticity, resolution=resolution)


@pytest.mark.parametrize("weighted", [False, True])
def test_all_price_risk_is_diffusion_and_sizes_of_jumps(weighted: bool) -> None:
    """The level of volatility multiplies both, so its elasticity is the sum of theirs, on the same paths up to terms of the third
    order: within a fiftieth."""
    found = of_the_law(weighted)
    for figure in ("bad_debt", "bad_debt_es_95"):
        each = [found[figure, name].elasticity for name in ("volatility", "jump_up_mean", "jump_down_mean")]
        assert min(each) > 0, "each takes part"
        assert sum(each) == pytest.approx(found[figure, "volatility level"].elasticity, rel=0.02)


def test_more_jumps_do_what_their_likelihood_says() -> None:
    """By another way: the derivative of the likelihood of the jumps that came (Glynn 1990), on other paths. It is near one; sees an
    error of 1.1."""
    parameters, fields = PLAINER.parameters(), ("bad_debt", "log_likelihood")
    rated = parameters._replace(world=parameters.world._replace(jump_rate_scale=jnp.float32(1.0)))
    drawn = {"seed": SEED + 2, "paths": MANY, "fields": fields, "derivatives": ("jump_rate_scale",)}
    sample = simulate(PLAINER.scenario(), rated, **drawn)
    value = np.asarray(sample.values["bad_debt"], np.float64)
    slope, score = (np.asarray(sample.derivatives[field][:, 0], np.float64) for field in fields)
    terms, row = (value * score + slope) / value.mean(), of_the_law(False)["bad_debt", "jumps_per_year"]
    together = float(np.hypot(row.standard_error, terms.std() / np.sqrt(MANY)))
    assert_close(row.elasticity, together, float(terms.mean()), resolution=1.1)
