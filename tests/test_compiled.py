"""What is said to the compiler changes no value and no derivative, and what it compiles badly is not said to it."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from venues import EVERYTHING_ON, LONGS_AND_SHORTS, Case

from calibrate.compiled import computed_once, with_slopes
from calibrate.sampling import PlainSampling
from calibrate.shocks import path_ids, seed_words
from calibrate.simulate import outcomes


def curve(x: jax.Array, scale: jax.Array) -> jax.Array:
    return jnp.sin(scale * x) * x


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_values_and_derivatives_stay_the_same(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    x, scale = jnp.linspace(-1.0, 2.0, 7), jnp.asarray(1.3)

    def once(scale: jax.Array) -> jax.Array:
        return computed_once(lambda: curve(x, scale), x)

    def sloped(scale: jax.Array) -> jax.Array:
        return with_slopes(curve)(x * scale, scale)

    for function, plain in ((once, lambda s: curve(x, s)), (sloped, lambda s: curve(x * s, s))):
        np.testing.assert_allclose(jax.jit(function)(scale), plain(scale), rtol=1e-6)
        np.testing.assert_allclose(jax.jit(jax.jacfwd(function))(scale), jax.jacfwd(plain)(scale), rtol=1e-5)


def test_only_what_moves_is_differentiated() -> None:
    """A direction in which an argument does not move costs nothing and may have no finite slope."""
    rooted = with_slopes(lambda x, y: x + jnp.sqrt(y))
    x = jnp.ones(3)
    np.testing.assert_array_equal(jax.jacfwd(lambda scale: rooted(scale * x, jnp.zeros(3)))(1.0), np.ones(3))


def test_what_is_not_a_number_stays_none() -> None:
    x = jnp.asarray([jnp.nan, 1.0])
    assert np.isnan(jax.jit(lambda x: computed_once(lambda: 2 * x, x))(x)).all()


@pytest.mark.parametrize(
    "rules",
    [
        {"recheck": False, "auction": (0.02, 0.01, 0.0), "deleverages": True},
        {"close": "buffer", "close_buffer": 0.02, "dust": 0.2, "deleverages": True},
    ],
    ids=["auction", "closes in part"],
)
def test_the_time_loop_holds_no_reduction(rules: dict) -> None:
    """With one in it XLA for CPUs runs every operation of a step by itself, and the step takes twice as long."""
    case = Case(EVERYTHING_ON, LONGS_AND_SHORTS, 48).but(**rules)
    with jax.enable_x64(True):
        traced = jax.make_jaxpr(
            lambda ids: outcomes(case.scenario(), case.parameters(), PlainSampling(), seed_words(1), ids)[0]
        )(path_ids(np.arange(4)))
    loop = "".join(str(each) for each in traced.eqns if each.primitive.name == "scan")
    assert "mul" in loop
    assert re.findall(r"\breduce_\w+", loop) == []
