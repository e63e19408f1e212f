"""Crashes drawn oftener than they come: what becomes of the uniform that moves the regime, and what it weighs.

The market starts in a crash, or turns from calm to one within a step, with a probability p that it tells (`RegimeLaw`). Where
crashes are tilted, l (1 - p) is added to it, by moving the uniform down by as much. Relative to the market's law a crash that
comes then has the density 1 + l (1 - p) / p, and calm that stays 1 - l. What cannot happen in the market (p = 0) is left alone.
How long crashes last is not tilted: a path that is in one has the market's own chance to recover.
"""

from typing import NamedTuple

import jax.numpy as jnp

from calibrate.extremes import larger
from calibrate.market.regimes import RegimeLaw
from calibrate.units import PerPath, Scalar


class LikelierCrashes(NamedTuple):
    """What is added, of the probability that is left, to that of starting in a crash and to that of turning to one in a step."""

    at_start: Scalar | float
    each_step: Scalar | float


class CrashesSoFar(NamedTuple):
    """A path's crashes: the log of the density of its regimes under the tilt relative to the market's, whether it began in one, how
    many came later, and in how many steps one could have come."""

    log_crashes: PerPath
    began_in_crash: PerPath
    crashes: PerPath
    calm_steps: PerPath


def started(law: LikelierCrashes, tilted: PerPath, share: Scalar, uniform: PerPath) -> tuple[PerPath, CrashesSoFar]:
    """The uniform that draws the regime at the start, where a crash has the probability `share`; `tilted` is 1 or 0."""
    uniform, comes, log_density = _likelier(law.at_start, tilted, share + jnp.zeros_like(uniform), uniform)
    return uniform, CrashesSoFar(log_density, comes, jnp.zeros_like(uniform), jnp.zeros_like(uniform))


def stepped(
    law: LikelierCrashes, tilted: PerPath, regime: RegimeLaw, uniform: PerPath, so_far: CrashesSoFar
) -> tuple[PerPath, CrashesSoFar]:
    """The uniform that draws the regime at the end of a step."""
    added = jnp.where(regime.crash, 0.0, law.each_step)
    uniform, comes, log_density = _likelier(added, tilted, regime.probability, uniform)
    calm = 1 - regime.crash.astype(uniform.dtype)
    return uniform, CrashesSoFar(
        so_far.log_crashes + log_density,
        so_far.began_in_crash,
        so_far.crashes + calm * comes,
        so_far.calm_steps + calm,
    )


def _likelier(
    added: PerPath | Scalar | float, tilted: PerPath, probability: PerPath, uniform: PerPath
) -> tuple[PerPath, PerPath, PerPath]:
    """The uniform moved down where it is tilted, 1 where it now lies below the probability, and the log density of that."""
    added = jnp.where(probability > 0, added, 0.0)
    more = added * (1 - probability)
    uniform = uniform - tilted * more
    comes = uniform < probability
    ratio = more / larger(probability, jnp.finfo(uniform.dtype).tiny)
    return uniform, comes.astype(uniform.dtype), jnp.where(comes, jnp.log1p(ratio), jnp.log1p(-added))
