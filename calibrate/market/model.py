"""What a market model is made of: one volatility part, at most one jump part, at most one law of regimes.

A model knows nothing of venues. It carries the *undisturbed* log-price, the one that the market would have without the venue's
liquidations, and beside it what each of its parts carries: any pytree of arrays with the path axis last (two factors, a
variance and what is left of a bar, a place in a history). This module says what a part offers; `market.py` joins parts to a
market, and every part has a file of its own.

A *volatility part* turns the normals of a step into the diffusive return. It says how far volatility stands from its usual
level, which depth and the arrival of jumps follow, and reports the annual volatility that ruled in the step, from which a
continuous oracle draws extremes. A *jump part* is a law of arrival and a law of sizes. Arrival gives the number of jumps to be
expected in a step, at most one of which comes; sizes are made of a direction and a standard exponential, whatever their law,
so that rare large jumps can be drawn oftener and weighted without knowing it (`sampling.py`). *Regimes* multiply volatility,
jump rates and depth, and make the oracle late.

Which random numbers a part takes beyond two normals and one uniform is known when a program is compiled (`Needs`); models that
take no more cost no more. Weighted sampling shifts the two normals and adds jumps and crashes; third normals and blocks of a
history keep their own law under it. A part that normals do not drive says so, and its market is sampled plainly.

Everything is a Lipschitz function of the parameters, given the shocks, but for three things that are drawn: whether a jump
comes and which way it goes, the regime, and the place in a history. A derivative in a parameter of arrival needs the likelihood
of the jumps that came (`relative_likelihood`): drawing is held fixed and paths are reweighted.
"""

from abc import abstractmethod
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool

from calibrate.extremes import clipped, larger, smaller
from calibrate.shocks import Needs, StartDraws
from calibrate.units import PerPath, Scalar

# What a part carries from step to step.
State = Any


class JumpLaw(NamedTuple):
    """How likely a jump is within a step, and given one, that it is upward. `shared` is the part of this law that belongs to jumps
    which come to all assets of a joint model at once, None in a market of its own."""

    probability: PerPath
    upward: Scalar | PerPath
    shared: "JumpLaw | None" = None

    @property
    def own(self) -> "JumpLaw":
        """The rest of the law: jumps that come to this asset alone."""
        if self.shared is None:
            return self
        probability = larger(self.probability - self.shared.probability, 0.0)
        upward = self.probability * self.upward - self.shared.probability * self.shared.upward
        return JumpLaw(probability, clipped(upward / _positive(probability), 0.0, 1.0))


class Jump(NamedTuple):
    """Whether a path jumps in a step, whether upward, a standard exponential that the size grows with, and in a joint model whether
    it is a jump of all assets. Where there is no jump the others mean nothing."""

    occurs: Bool[Array, " path"]
    upward: Bool[Array, " path"]
    excess: PerPath
    shared: Bool[Array, " path"] | None = None


class StepShocks(NamedTuple):
    """The shocks of one step: two independent standard normals; the law of jumps in the step and what came of it, where the
    model has jumps; and what else the market needs."""

    return_normal: PerPath
    volatility_normal: PerPath
    law: JumpLaw | None
    jump: Jump | None
    third_normal: PerPath | None = None
    regime_uniform: PerPath | None = None
    block_uniform: PerPath | None = None


class Diffusion(NamedTuple):
    """The part of a step's log-return that is no jump: what was to be expected of it given the volatility, with the drift, and
    the surprise. `volatility` (annual) ruled in the step."""

    volatility: PerPath
    mean: PerPath
    noise: PerPath


class Volatility(eqx.Module):
    """A volatility part. `scale` multiplies the volatility of returns, without a trace in the state."""

    needs: ClassVar[Needs] = Needs()
    # Whether normals move the price, so that shifting them draws other prices.
    driven_by_normals: ClassVar[bool] = True

    @abstractmethod
    def start(self, draws: StartDraws) -> State:
        """The state at the start, from its stationary law or as the model says."""

    @abstractmethod
    def usual(self, like: PerPath) -> State:
        """The state in which volatility is at its usual level."""

    @abstractmethod
    def log_level(self, state: State) -> PerPath:
        """Logarithm of volatility relative to its usual level."""

    @abstractmethod
    def variance_rate(self, state: State) -> PerPath:
        """Expected annual variance of the diffusive log-return of a short step from this state, at scale 1."""

    @abstractmethod
    def step(
        self, state: State, shocks: StepShocks, drift: Scalar, dt: Scalar, scale: Scalar | PerPath
    ) -> tuple[State, Diffusion]:
        """The state one step of `dt` years later, and the diffusive return in it; prices are expected to grow at `drift`."""


class Arrival(eqx.Module):
    """When jumps come. At most one comes in a step, so steps must be short against the time between jumps."""

    @abstractmethod
    def start(self, like: PerPath) -> State:
        """The state at the start, which is also the usual one."""

    @abstractmethod
    def rate(self, state: State, log_level: PerPath) -> PerPath:
        """Jumps a year, now."""

    @abstractmethod
    def expected(self, state: State, log_level: PerPath, dt: Scalar) -> PerPath:
        """Jumps to be expected in a step of `dt` years from here."""

    @abstractmethod
    def step(self, state: State, occurs: Bool[Array, " path"], dt: Scalar) -> State:
        """The state one step later, in which a jump came or not."""


class Sizes(eqx.Module):
    """How large jumps are, in log-returns, at scale 1."""

    @abstractmethod
    def upward(self) -> Scalar:
        """The probability of the direction that is called upward."""

    @abstractmethod
    def size(self, jump: Jump) -> PerPath:
        """The log-return of a jump that occurs, continuous in its exponential and in the parameters."""

    @abstractmethod
    def mean_relative(self, scale: Scalar) -> Scalar:
        """E[exp(scale * size)] - 1, which the drift takes back."""

    @abstractmethod
    def mean_square(self) -> Scalar:
        """E[size ** 2]."""


def joined_law(own: JumpLaw, shared: JumpLaw) -> JumpLaw:
    """The law of a step's jump where an asset has jumps of its own and those of all assets, at most one of which comes."""
    probability = smaller(own.probability + shared.probability, 1.0)
    upward = own.probability * own.upward + shared.probability * shared.upward
    return JumpLaw(probability, upward / _positive(own.probability + shared.probability), shared)


def draw_jump(law: JumpLaw, uniform: PerPath) -> Jump:
    """Whether there is a jump, its direction and its size, all from one uniform: given that it lies below the probability,
    the uniform divided by it is uniform again, and once more within either direction."""
    place = uniform / _positive(law.probability)
    upward = place < law.upward
    # Outside its own branch each share is given a harmless value, so that no derivative is infinite there.
    up_share = jnp.where(upward, place / jnp.maximum(law.upward, 1e-12), 1.0)
    down_share = (place - law.upward) / jnp.maximum(1 - law.upward, 1e-12)
    # Where a uniform is what is left of another, rounding may take it below zero.
    share = clipped(jnp.where(upward, up_share, down_share), 1e-9, 1.0)
    shared, share = drawn_kind(law, upward, share)
    return Jump(uniform < law.probability, upward, -jnp.log(share), shared)


def drawn_kind(
    law: JumpLaw, upward: Bool[Array, " path"], uniform: PerPath
) -> tuple[Bool[Array, " path"] | None, PerPath]:
    """Whether jumps of these directions are of all assets (None in a market of its own), and what remains of the uniform that told
    it, which is uniform again."""
    if law.shared is None:
        return None, uniform
    of_all = law.shared.probability * _way(law.shared, upward)
    chance = clipped(of_all / _positive(law.probability * _way(law, upward)), 0.0, 1.0)
    shared = uniform < chance
    rest = jnp.where(shared, uniform / _positive(chance), (uniform - chance) / _positive(1 - chance))
    return shared, clipped(rest, 1e-9, 1.0)


def _way(law: JumpLaw, upward: Bool[Array, " path"]) -> PerPath:
    """The probability of each path's direction."""
    return jnp.where(upward, law.upward, 1 - law.upward)


def _positive(value: PerPath) -> PerPath:
    """The value, or the smallest number that can be divided by."""
    return larger(value, jnp.finfo(value.dtype).tiny)


def relative_likelihood(shocks: StepShocks) -> PerPath | float:
    """Log-likelihood of what a step's jump came to, or of none, relative to what it was drawn by; sizes left aside. It is zero, and
    its derivative the score of the law's parameters."""
    if shocks.law is None or shocks.jump is None:
        return 0.0
    law, jump = shocks.law, shocks.jump
    tiny = jnp.finfo(law.probability.dtype).tiny
    # Each branch has a harmless value where the other rules, so that no derivative is infinite there.
    came = law.probability * _way(law, jump.upward)
    stayed_away = 1 - jnp.where(jump.occurs, 0.0, law.probability)
    of_step = jnp.log(jnp.where(jump.occurs, larger(came, tiny), larger(stayed_away, tiny)))
    return of_step - lax.stop_gradient(of_step)
