"""Model files that name their parts: every part can be chosen, made and simulated, and what does not go together is refused."""

import hashlib
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import small_job
from markets import SINGLE, journey

from calibrate.assemble import assemble
from calibrate.errors import UserError
from calibrate.job import load_job
from calibrate.market.build import market_from
from calibrate.market.files import read_model
from calibrate.market.schema import ARRIVALS, REGIMES, SIZES, VOLATILITIES, Parts
from calibrate.pipeline import problem_of
from calibrate.progress import Silent
from calibrate.rare_events import choose
from calibrate.shocks import StartDraws

ROOT = Path(__file__).parents[1]
HOUR = 1 / 8760

# One value for every parameter there is.
VALUES = {
    "volatility": 0.7, "log_volatility_sd": 0.5, "reversion_half_life_days": 3.0, "leverage_correlation": -0.4,
    "fast_log_volatility_sd": 0.3, "fast_half_life_days": 0.2, "fast_leverage_correlation": -0.4,
    "slow_log_volatility_sd": 0.4, "slow_half_life_days": 20.0, "slow_leverage_correlation": -0.2,
    "volatility_of_variance": 3.0, "garch_alpha": 0.08, "garch_beta": 0.85, "garch_gamma": 0.06,
    "degrees_of_freedom": 5.0, "bar_s": 3600.0, "block_bars": 24.0, "jump_up_probability": 0.4, "jump_up_mean": 0.01,
    "jump_down_mean": 0.02, "jump_mean": -0.01, "jump_sd": 0.02, "jumps_per_year": 300.0,
    "jump_volatility_exponent": 0.5, "jump_branching_ratio": 0.5, "jump_memory_hours": 2.0, "crashes_per_year": 12.0,
    "crash_hours": 6.0, "crash_volatility_multiplier": 2.5, "crash_jump_multiplier": 4.0, "crash_depth_multiplier": 0.3,
    "crash_oracle_delay_s": 600.0, "drift": 0.0,
}  # fmt: skip
RESIDUALS = np.random.default_rng(0).standard_normal(300)


def write(folder: Path, parts: Parts, **more: str) -> Path:
    """A model file of the given parts; `more` are further lines of [model]."""
    lines = ["[model]", *(f'{kind} = "{name}"' for kind, name in parts._asdict().items() if name is not None)]
    if parts.family == "filtered-historical":
        content = "residual\n" + "\n".join(map(str, RESIDUALS / RESIDUALS.std())) + "\n"
        (folder / "history.csv").write_text(content, newline="\n")
        digest = hashlib.sha256(content.encode()).hexdigest()
        more = {"residuals": '"history.csv"', "residuals_sha256": f'"{digest}"'} | more
    lines += [f"{key} = {value}" for key, value in more.items()]
    lines += ["[parameters]", *(f"{name} = {VALUES[name]}" for name in parts.ranges())]
    path = folder / "model.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


ALL_PARTS = [
    *(Parts(family) for family in VOLATILITIES),
    *(Parts(family, "kou", "volatility-linked", "calm-crash") for family in VOLATILITIES),
    *(Parts("log-ou", sizes, arrival) for sizes in SIZES for arrival in ARRIVALS),
]


def test_every_parameter_has_a_value_here_and_a_place_in_the_readme() -> None:
    said = (ROOT / "models" / "README.md").read_text()
    names = {
        name
        for part in (*VOLATILITIES.values(), *SIZES.values(), *ARRIVALS.values(), *REGIMES.values())
        for name in part
    }
    assert names | {"drift"} == set(VALUES)
    for name in (*VALUES, *VOLATILITIES, *SIZES, *ARRIVALS, *REGIMES):
        assert f"`{name}`" in said or f'`"{name}"`' in said, name


@pytest.mark.parametrize("parts", ALL_PARTS, ids=lambda parts: "+".join(filter(None, parts)))
def test_every_choice_of_parts_makes_a_market_that_moves(tmp_path: Path, parts: Parts) -> None:
    """Not a test of laws: a day of hours, from the long-run law and from a given volatility."""
    model = read_model(write(tmp_path, parts))
    assert model.parts == parts
    start = market_from(model, 1.4, 3600.0, SINGLE).volatility
    made = market_from(model, None, 3600.0, SINGLE)
    walked = journey(made, dt=HOUR, steps=24, paths=256, seed=1).log_price
    assert np.isfinite(walked).all()
    usual = VALUES["volatility"] * np.sqrt(24 * HOUR)
    assert 0.5 * usual < walked.std() < 4 * usual
    if parts.family != "constant":
        given = start.start(_draws())
        np.testing.assert_allclose(start.variance_rate(given), 1.4**2, rtol=1e-4)


def _draws():
    half = jnp.full(4, 0.5)
    return StartDraws(half, half, half, half)


def test_jumps_come_at_a_constant_rate_unless_said_otherwise(tmp_path: Path) -> None:
    model = read_model(write(tmp_path, Parts("constant", "merton", "constant")))
    path = tmp_path / "model.toml"
    path.write_text(path.read_text().replace('arrival = "constant"\n', ""))
    assert read_model(path).parts == model.parts


WRONG = {
    "arrival without jumps": (Parts("constant"), {"arrival": '"constant"'}, "model.arrival: found 'constant' but no `jumps`"),
    "unknown sizes": (Parts("constant"), {"jumps": '"cauchy"'}, "model.jumps: found 'cauchy'; expected 'kou' or 'merton'"),
    "residuals of no history": (Parts("constant"), {"residuals": '"x.csv"'}, "draws from no history; remove it"),
    "no such history": (Parts("filtered-historical"), {"residuals": '"none.csv"'}, "cannot read the file"),
    "another history": (Parts("filtered-historical"), {"residuals_sha256": '"00"'}, "model.residuals_sha256: found '00'; expected"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_parts_that_do_not_go_together_are_refused(tmp_path: Path, name: str) -> None:
    parts, more, said = WRONG[name]
    with pytest.raises(UserError) as caught:
        read_model(write(tmp_path, parts, **more))
    assert said in str(caught.value)


def test_a_whole_family_has_its_jumps_already(tmp_path: Path) -> None:
    path = tmp_path / "model.toml"
    path.write_text(
        (ROOT / "models" / "btc-usd.toml").read_text().replace('"log-ou-kou"', '"log-ou-kou"\njumps = "kou"')
    )
    with pytest.raises(UserError, match="the family 'log-ou-kou' has jumps; remove it"):
        read_model(path)


@pytest.mark.parametrize(
    ("parts", "change", "said"),
    [
        (Parts("garch"), {"garch_beta": 0.95}, "found garch_alpha + garch_beta = 1.03; expected at most 0.9995"),
        (Parts("gjr-garch"), {"garch_beta": 0.9}, "garch_alpha + garch_beta + garch_gamma / 2 = 1.01"),
        (
            Parts("log-ou-two-factor"),
            {"fast_leverage_correlation": -0.99},
            "expected their squares to sum to less than 1",
        ),
        (
            Parts("constant", "kou", "constant", "calm-crash"),
            {"crash_jump_multiplier": 90.0, "jumps_per_year": 600.0},
            "jumps in a minute",
        ),
    ],
)
def test_parameters_must_go_together(tmp_path: Path, parts: Parts, change: dict[str, float], said: str) -> None:
    path = write(tmp_path, parts)
    text = path.read_text()
    for name, value in change.items():
        assert f"\n{name} = {VALUES[name]}\n" in text
        text = text.replace(f"\n{name} = {VALUES[name]}\n", f"\n{name} = {value}\n")
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_model(path)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("return\n1\n", "found columns ['return']; expected a column `residual`"),
        ("residual\n" + "1\n-1\n" * 100, "found 200 residuals; expected at least 250"),
        ("residual\n" + "1\n-1\n" * 100 + "x\n", "line 202: found 'x'; expected a number"),
        ("residual\n" + "0.01\n-0.01\n" * 200, "found mean 0 and root mean square 0.01"),
        ("", "not readable as CSV"),
    ],
)
def test_a_history_that_is_none_is_refused(tmp_path: Path, content: str, said: str) -> None:
    path = write(tmp_path, Parts("filtered-historical"))
    (tmp_path / "history.csv").write_text(content)
    with pytest.raises(UserError) as caught:
        read_model(path)
    assert said in str(caught.value)


# --- in a job -------------------------------------------------------------------------------------------------------------


def job_with(tmp_path: Path, parts: Parts, *overrides: str):
    path = write(tmp_path, parts)
    job = tmp_path / "job.toml"
    job.write_text(
        (ROOT / "configs" / "quickstart.toml").read_text().replace("volatility = 0.9  ", f'model = "{path.name}"  #')
    )
    return load_job(job, overrides)


def test_a_bar_that_is_not_made_of_steps_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"found 420 s; the model model\.toml has bars of 3600 s"):
        assemble(job_with(tmp_path, Parts("garch"), "simulation.step_s=420"))


def test_a_crash_makes_the_oracle_late_in_steps(tmp_path: Path) -> None:
    oracle = assemble(job_with(tmp_path, Parts("constant", None, None, "calm-crash"))).scenario.oracle
    assert (int(oracle.delay.steps), int(oracle.delay.in_crash)) == (1, 2)
    with pytest.raises(UserError, match="choose 'exact' or 'push'"):
        assemble(
            job_with(
                tmp_path, Parts("constant", None, None, "calm-crash"), "oracle.kind=continuous", "oracle.delay_s=0"
            )
        )


def test_a_market_that_normals_do_not_drive_is_sampled_plainly_and_says_so(tmp_path: Path) -> None:
    class Notes(Silent):
        def note(self, text: str) -> None:
            said.append(text)

    said: list[str] = []
    loaded = job_with(tmp_path, Parts("filtered-historical"))
    assembled = assemble(loaded)
    limits = problem_of(loaded, assembled).constraints
    chosen = choose(
        assembled.scenario, assembled.incumbent, limits, kind="importance", at_limit=True, seed=1, listener=Notes()
    )
    assert chosen.sampling is None
    assert said == ["paths are sampled plainly: the market draws from a history, which no shift of normals changes"]


@pytest.mark.parametrize("parts", [Parts("constant"), Parts("constant", "kou", "constant", "calm-crash")])
def test_a_start_of_volatility_that_never_changes_is_refused(tmp_path: Path, parts: Parts) -> None:
    write(tmp_path, parts)
    text = small_job.TEXT.replace("volatility = 1.0\n", 'model = "model.toml"\n', 1)
    assemble(load_job(small_job.write(tmp_path, text)))
    with pytest.raises(UserError, match=r"initial_volatility: found 0.5, but volatility never changes in the model"):
        assemble(load_job(small_job.write(tmp_path, text), ["market.initial_volatility=0.5"]))
