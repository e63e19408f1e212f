"""Several policies side by side: each is what it would be by itself, and shocks are made once for all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from venues import EVERYTHING_ON, LONGS_AND_SHORTS, Case

from calibrate.candidates import simulate_many
from calibrate.gradient import moved
from calibrate.policy import Parameters
from calibrate.rare_events import first_guess, sampling_of
from calibrate.sampling import PlainSampling, block_of
from calibrate.shocks import path_ids, seed_words
from calibrate.simulate import outcomes, simulate

STEPS, PATHS = 48, 300
CASE = Case(EVERYTHING_ON, LONGS_AND_SHORTS, STEPS)
SINGLE = Case(EVERYTHING_ON, LONGS_AND_SHORTS, STEPS, np.float32)
CHANGES = (("base_margin", 0.0), ("base_margin", 0.01), ("penalty", 0.004))
FIELDS = ("distance", "bad_debt", "liquidated", "penalty", "initial_margin", "false_liquidation")


def candidates() -> list[Parameters]:
    return [moved(CASE.parameters(), name, by) for name, by in CHANGES]


def test_each_candidate_is_what_it_would_be_by_itself() -> None:
    """To the rounding of double precision, on weighted paths, and whatever the chunk."""
    sampling = sampling_of(first_guess(STEPS // block_of(STEPS), STEPS, jumps=True), np.dtype(np.float64))
    finished: list[int] = []
    together = simulate_many(
        CASE.scenario(), candidates(), seed=3, paths=PATHS, fields=FIELDS, sampling=sampling, chunk=128,
        on_progress=finished.append,
    )  # fmt: skip
    assert sum(finished) == len(CHANGES) * PATHS
    for parameters, sample in zip(candidates(), together, strict=True):
        options = {"fields": FIELDS, "sampling": sampling, "chunk": PATHS}
        alone = simulate(CASE.scenario(), parameters, seed=3, paths=PATHS, **options)  # type: ignore[arg-type]
        np.testing.assert_allclose(sample.weights, alone.weights, rtol=1e-9)  # type: ignore[arg-type]
        for name in FIELDS:
            np.testing.assert_allclose(sample.values[name], alone.values[name], rtol=1e-9, atol=1e-12, err_msg=name)
    liquidated = [sample.values["liquidated"].mean() for sample in together]
    assert np.ptp(liquidated) > 1e-3, "these policies should differ"


def test_candidates_live_in_one_world() -> None:
    calm = moved(CASE.parameters(), "volatility_scale", -0.5)
    with pytest.raises(ValueError, match="different worlds"):
        simulate_many(CASE.scenario(), [CASE.parameters(), calm], seed=3, paths=PATHS)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="fusion differs by device")
def test_shocks_and_market_are_made_once_for_all_candidates() -> None:
    """In the compiled program every loop that multiplies as the generator does is as wide as the paths, not as wide as all
    candidates; and no branch that is to be computed once became a choice between two results."""
    scenario, number, paths = SINGLE.scenario(), 3, 256
    policies = jax.tree.map(lambda value: jnp.stack(number * [value]), SINGLE.parameters().policy)

    def under(policy) -> jax.Array:  # type: ignore[no-untyped-def]
        parameters = SINGLE.parameters()._replace(policy=policy)
        return outcomes(scenario, parameters, PlainSampling(), seed_words(1), path_ids(np.arange(paths)))[0].distance

    lowered = jax.jit(jax.vmap(under)).lower(policies)
    written = lowered.as_text()
    assert f"tensor<{number}x{paths}xf32>" in written, "the books are as wide as all candidates"
    assert f"{number}x{paths}xui32" not in written, "random numbers are not"
    conditions = [line for line in written.splitlines() if "stablehlo.case" in line or "stablehlo.if" in line]
    assert len(conditions) >= 5, "what is computed once still is"
    text = lowered.compile().as_text()
    whole = [block for block in text.split("\n\n") if block.count("mulhi") + block.count("multiply-high") >= 15]
    assert len([block for block in whole if "while/body" in block]) == 2, "once for normals, once for uniforms"
