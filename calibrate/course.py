"""The course of a simulation: what stands when, path by path. For pictures; metrics are made of outcomes.

The same steps as `simulate.outcomes`, with states looked at on the way. Paths are few, so everything that was seen is kept.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from calibrate.events import begins_of, happening
from calibrate.extremes import larger, smaller
from calibrate.oracle import ContinuousOracle, Within
from calibrate.policy import Parameters
from calibrate.sampling import PlainSampling, longest_divisor
from calibrate.shocks import PathIds, Seed, path_ids, seed_words, shocks_of_steps
from calibrate.simulate import PathState, Scenario, finish, start, step
from calibrate.units import Index, PerPath

# At most so many moments are looked at.
MOST_POINTS = 600


class Course(NamedTuple):
    """What stood at evenly spaced moments, the last of them the horizon: price relative to the start, and its lowest and highest
    since the moment before; maintenance margin; and, counted from the start and as shares of initial open interest, what was
    liquidated (at the prices at which it was closed, as in metrics), bad debt with the deficits of accounts open at that moment,
    and what liquidated users paid."""

    price: Float[Array, "point path"]
    lowest: Float[Array, "point path"]
    highest: Float[Array, "point path"]
    margin: Float[Array, "point path"]
    liquidated: Float[Array, "point path"]
    bad_debt: Float[Array, "point path"]
    user_cost: Float[Array, "point path"]


def course(scenario: Scenario, parameters: Parameters, *, seed: int, paths: int) -> Course:
    """The course of paths 0, ..., `paths` - 1, plainly sampled: the same paths as `simulate` makes of this seed."""
    every = scenario.steps // longest_divisor(scenario.steps, MOST_POINTS)
    with jax.enable_x64(scenario.dtype == np.float64):
        seen = _course(scenario, parameters, seed_words(seed), path_ids(np.arange(paths)), every)
    return seen


@eqx.filter_jit
def _course(scenario: Scenario, parameters: Parameters, seed: Seed, ids: PathIds, every: int) -> Course:
    sampling = PlainSampling()
    draws, _ = sampling.start(seed, ids, scenario.dtype)
    first, scale = start(scenario, parameters, draws)
    continuous, needs = isinstance(scenario.oracle, ContinuousOracle), scenario.market.needs
    begins = begins_of(scenario.events, seed, ids)

    def to_point(state: PathState, number: Index) -> tuple[PathState, Course]:
        def one(
            carry: tuple[PathState, PerPath, PerPath], index: Index
        ) -> tuple[tuple[PathState, PerPath, PerPath], None]:
            state, lowest, highest = carry
            at = index[None].astype(jnp.uint32)
            made = shocks_of_steps(seed, ids, at, scenario.dtype, continuous=continuous, needs=needs)
            made, sources = jax.tree.map(
                lambda values: values[0], (made, scenario.oracle.shocks(seed, ids, at, scenario.dtype))
            )
            law = scenario.market.jump_law(state.market, scenario.dt, parameters.world.jump_rate)
            drawn, _ = sampling.step(None, number, made, law)
            within = Within(made.low_uniform, made.high_uniform, sources)
            now = happening(scenario.events, begins, index)
            state = step(scenario, parameters, scale, state, index, drawn, within, now)
            return (state, smaller(lowest, state.mid), larger(highest, state.mid)), None

        steps = every * number + jnp.arange(every)
        (state, lowest, highest), _ = lax.scan(one, (state, state.mid, state.mid), steps)
        now = finish(scenario, parameters, scale, state)
        cost = now.penalty + now.slippage
        return state, Course(state.mid, lowest, highest, state.margin, now.liquidated, now.bad_debt, cost)

    return lax.scan(to_point, first, jnp.arange(scenario.steps // every))[1]
