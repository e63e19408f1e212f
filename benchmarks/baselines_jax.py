"""The engine with random numbers from `jax.random`, drawn inside the scan: the usual way to write a simulation in JAX.

All but the random numbers is the engine's own code; its own generator is left out by the compiler, since nothing uses it. The
key travels with the path's state; a chunk's key is made of the seed and of its first path, so that chunks draw apart.
"""

from concurrent.futures import ThreadPoolExecutor

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from calibrate.policy import Parameters
from calibrate.sampling import PlainSampling, Sampling
from calibrate.shocks import path_ids, seed_words
from calibrate.simulate import Scenario, outcomes


class JaxRandom(Sampling):
    """By the market's own law, drawn step by step; what is carried along is the key."""

    plain: PlainSampling = PlainSampling()

    def block_length(self, steps):  # type: ignore[no-untyped-def]
        return self.plain.block_length(steps)

    def start(self, seed, ids, dtype, crash_share=None):  # type: ignore[no-untyped-def]
        start, _ = self.plain.start(seed, ids, dtype, crash_share)
        return start, jax.random.fold_in(jax.random.key(seed.low), ids.low[0])

    def step(self, state, block, shocks, law, regime=None):  # type: ignore[no-untyped-def]
        state, *keys = jax.random.split(state, 4)
        shape, dtype = shocks.jump_uniform.shape, shocks.jump_uniform.dtype
        made = shocks._replace(
            normals=lax.complex(*(jax.random.normal(key, shape, dtype) for key in keys[:2])),
            jump_uniform=jax.random.uniform(keys[2], shape, dtype),
        )
        return self.plain.step(None, block, made, law, regime)[0], state

    def end_of_block(self, state):  # type: ignore[no-untyped-def]
        return state, None

    def drawn(self, state, sums, block):  # type: ignore[no-untyped-def]
        return None


@eqx.filter_jit
def compiled(scenario, parameters, fields, seed, ids):  # type: ignore[no-untyped-def]
    """The chosen fields of the outcome of a chunk of paths."""
    outcome, _ = outcomes(scenario, parameters, JaxRandom(), seed, ids)
    return {name: getattr(outcome, name) for name in fields}


def simulate(
    scenario: Scenario,
    parameters: Parameters,
    fields: tuple[str, ...],
    *,
    seed: int,
    paths: int,
    threads: int,
    chunk: int = 4096,
) -> dict[str, np.ndarray]:
    """Outcomes by name and path; `paths` are rounded up to whole chunks."""

    def run(first: int) -> dict[str, np.ndarray]:
        with jax.enable_x64(scenario.dtype == np.float64):
            ids = path_ids(np.arange(first, first + chunk))
            return {k: np.asarray(v) for k, v in compiled(scenario, parameters, fields, seed_words(seed), ids).items()}

    with ThreadPoolExecutor(threads) as pool:
        pieces = list(pool.map(run, range(0, paths, chunk)))
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in fields}


@eqx.filter_jit
def shocks_alone(seed: int, steps: int, paths: int) -> jax.Array:
    """The sum of every path's shocks: two normals and a uniform a step."""

    def step(carry, _):  # type: ignore[no-untyped-def]
        total, key = carry
        key, first, second, third = jax.random.split(key, 4)
        shape = total.shape
        drawn = jax.random.normal(first, shape) + jax.random.normal(second, shape) + jax.random.uniform(third, shape)
        return (total + drawn, key), None

    return lax.scan(step, (jnp.zeros(paths), jax.random.key(seed)), length=steps)[0][0]
