"""Several policies on the same paths, side by side: shocks and market are made once for all of them.

A market does not know the policy; what liquidations do to the price comes on top of it. So the time loop runs with the policies on
a leading axis, and what depends on none of them stays without it. Chunks hold fewer paths, so that all fit the cache.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from calibrate.chunking import in_chunks, numbers_of, usual_chunk
from calibrate.pieces import joined
from calibrate.policy import Parameters, Policy
from calibrate.sampling import PlainSampling, Sampling
from calibrate.shocks import PathIds, Seed, seed_words
from calibrate.simulate import (
    METRIC_FIELDS,
    OPTIONAL_FIELDS,
    Sample,
    Scenario,
    carried_bytes,
    outcomes,
)


def simulate_many(
    scenario: Scenario,
    candidates: Sequence[Parameters],
    *,
    seed: int,
    paths: int | np.ndarray,
    fields: tuple[str, ...] = METRIC_FIELDS + OPTIONAL_FIELDS,
    sampling: Sampling | None = None,
    chunk: int | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> list[Sample]:
    """What `simulate` makes of each of the candidates, to rounding. They are policies in one world, and limit the margin's speed
    all or none; `on_progress` is called with the number of paths finished, under all of them, since the last call."""
    number, numbers, chosen, key = len(candidates), numbers_of(paths), sampling or PlainSampling(), seed_words(seed)
    world = candidates[0].world
    if len({tuple(map(float, jax.tree.leaves(candidate.world))) for candidate in candidates}) > 1:
        raise ValueError(
            "found candidates in different worlds; the market is made once, so expected policies that differ alone"
        )
    policies = jax.tree.map(lambda *each: np.stack(each), *(candidate.policy for candidate in candidates))
    carried = functools.partial(carried_bytes, scenario, candidates[0], chosen, key)
    size = chunk or usual_chunk(len(numbers), 0, carried, number)

    def run(ids: PathIds) -> Any:
        return _compiled(scenario, policies, candidates[0], chosen, fields, key, ids)

    def told(paths: int) -> None:
        if on_progress is not None:
            on_progress(number * paths)

    asked = f"{seed} {size} {fields} {number}", (scenario, policies, world, chosen)
    whole = joined(in_chunks(run, numbers, size, scenario.dtype, asked, told))
    weights = whole.drawn["weight"].astype(np.float64) if whole.drawn else None
    return [
        Sample({name: np.ascontiguousarray(value[:, k]) for name, value in whole.values.items()}, {}, (), weights)
        for k in range(number)
    ]


@eqx.filter_jit
def _compiled(
    scenario: Scenario,
    policies: Policy,
    like: Parameters,
    sampling: Sampling,
    fields: tuple[str, ...],
    seed: Seed,
    ids: PathIds,
) -> tuple[dict[str, Array], dict[str, Array], dict[str, Any]]:
    """The chosen fields of the outcome, candidates on a last axis; and the paths' weights, where they have any."""

    def under(policy: Policy) -> tuple[dict[str, Array], dict[str, Any]]:
        outcome, drawn = outcomes(scenario, like._replace(policy=policy), sampling, seed, ids)
        given = outcome._asdict()
        weight = {} if drawn is None else {"weight": drawn.weight}
        return {field: given[field] for field in fields if given[field] is not None}, weight

    values, weight = jax.vmap(under, out_axes=(0, None))(policies)
    return {name: jnp.moveaxis(value, 0, -1) for name, value in values.items()}, {}, weight
