"""What assumptions force, checked: the margin is found again where the limit holds in a world of a tenth more.

Implicit differentiation tells of small changes; a tenth is not small where insolvency depends on it to the seventh power. So
for the assumptions that force most the changed world itself is simulated, on paths of the certificate, and the level of the
margin moves alone until insolvency is as likely as it was. Both worlds share their paths, so the error is that of a paired
difference.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from scipy.optimize import brentq

from calibrate.constraints import InsolvencyProbability
from calibrate.correct import Line
from calibrate.easing import Easing, Forced, forced, margins_at
from calibrate.optimise import Problem
from calibrate.policy import Parameters
from calibrate.progress import Listener
from calibrate.recommend import Recommendation, margin_alone
from calibrate.sampling import ImportanceSampling
from calibrate.screening import nearest
from calibrate.sensitivity import STEP_FROM_NONE, Sensitivity
from calibrate.simulate import Sample, simulate

# What can be a tenth more without being a whole number of steps.
_FIELDS = {"volatility level": "volatility_scale", "market depth": "depth_scale", "jump rate": "jump_rate_scale"}
# How many assumptions are looked at, and on which share of the certificate's paths; of weighted ones so many tell enough.
_CHECKED, _SHARE, _WEIGHTED_PATHS = 2, 4, 16_384
# A first bracket around the expected place on the line, how often it is doubled, and how finely a place is found.
_REACH, _WIDENED, _RESOLUTION = 0.15, 4, 2e-3


class FoundAgain(NamedTuple):
    """The change of the margin in per cent that lets the limit hold again, with its standard error; `agrees` says whether implicit
    differentiation found the same, within two standard errors of both."""

    margin_percent: float
    standard_error: float
    agrees: bool


def drivers_told(
    drivers: list[Sensitivity],
    problem: Problem,
    recommendation: Recommendation,
    easing: Easing | None,
    seed: int,
    listener: Listener,
) -> list[dict[str, Any]]:
    """Elasticities of the insolvency probability as a run folder holds them, for assumptions with what a tenth more would force the
    margin to do: as implicit differentiation says, and as solving again finds. `seed` is that of the job."""
    told: list[dict[str, Any]] = [{"of": InsolvencyProbability.name, **driver._asdict()} for driver in drivers]
    # Elasticities are those of the job's own world, and of no other limit.
    if easing is None or problem.shares is not None or not _decides(recommendation):
        return told
    changes = {
        driver.parameter: forced(driver, easing)
        for driver in drivers
        if driver.kind == "assumption" and driver.method != STEP_FROM_NONE
    }
    again = solved_again(problem.each[0], recommendation, changes, easing, seed, listener)
    for entry in told:
        for key, found in (("a_tenth_more_forces", changes), ("found_again", again)):
            if entry["parameter"] in found:
                entry[key] = found[entry["parameter"]]._asdict()
    return told


def _decides(recommendation: Recommendation) -> bool:
    """Whether the insolvency probability, of which elasticities are known, is the limit that binds."""
    prices = recommendation.solution.prices
    return max(prices, key=lambda name: prices[name]) == InsolvencyProbability.name if prices else False


def solved_again(
    problem: Problem,
    recommendation: Recommendation,
    changes: dict[str, Forced],
    easing: Easing,
    seed: int,
    listener: Listener,
) -> dict[str, FoundAgain]:
    """For the assumptions that would force most, in the world of the job itself: the margin that solving again finds. `seed` is
    that of the job."""
    certificate, point = recommendation.certificate, recommendation.solution.point
    line = margin_alone(problem, point)
    if certificate is None or line is None:
        return {}
    known = [name for name in changes if name in _FIELDS]
    largest = sorted(known, key=lambda name: -abs(changes[name].margin_percent))[:_CHECKED]
    weighted = certificate.sample.weights is not None
    paths = min(certificate.paths, _WEIGHTED_PATHS) if weighted else certificate.paths // _SHARE
    before = _hits(certificate.sample)[:paths]
    if not before.any():
        return {}
    done = listener.stage("solving again", len(largest) * paths)
    found = {}
    for name in largest:
        changed = problem._replace(incumbent=_with_more(problem.incumbent, _FIELDS[name]))
        world = _Changed(changed, line, certificate.seed, certificate.chosen.sampling, before)
        level = world.level(_place(changes[name]))
        done(paths)
        if level is not None:
            margins = margins_at(problem, (point, line.at(level.place)), seed)
            percent = 100 * float(margins[1] / margins[0] - 1)
            # How far the margin moves for a per cent of the limits is known.
            error = 100 * level.relative_error * abs(easing.margin_change / easing.margin)
            gap = abs(percent - changes[name].margin_percent)
            agrees = gap <= _ERRORS * np.hypot(error, changes[name].standard_error)
            found[name] = FoundAgain(percent, error, bool(agrees))
    return found


_ERRORS = 2.0


class _Level(NamedTuple):
    """Where on the line insolvency is as likely as it was, and the relative error of the comparison."""

    place: float
    relative_error: float


class _Changed(NamedTuple):
    """A world in which an assumption is another one, on the first paths of a certificate; `before` is what each path there added
    to the insolvency probability."""

    problem: Problem
    line: Line
    seed: int
    sampling: ImportanceSampling | None
    before: np.ndarray

    def level(self, start: float) -> _Level | None:
        """`start` is a place on the line that is thought to be near; nothing where the line does not lead there."""
        paths = len(self.before)
        there = self._sample(start, np.arange(paths))
        limits = tuple(limit for limit in self.problem.constraints if isinstance(limit, InsolvencyProbability))
        near = nearest(limits, there)

        def log_excess(place: float) -> float:
            return float(np.log(max(_hits(self._sample(place, near)).sum(), 1e-9) / self.before.sum()))

        for doubled in range(_WIDENED):
            low, high = (start + side * 2**doubled * _REACH for side in (-1, 1))
            if log_excess(low) > 0 >= log_excess(high):
                break
        else:
            return None
        place = float(brentq(log_excess, low, high, xtol=_RESOLUTION, rtol=_RESOLUTION))
        after = np.zeros(paths)
        after[near] = _hits(self._sample(place, near))
        return _Level(place, float(np.std(after - self.before) * np.sqrt(paths) / self.before.sum()))

    def _sample(self, place: float, numbers: np.ndarray) -> Sample:
        return simulate(
            self.problem.scenario,
            self.problem.at(self.line.at(place)),
            seed=self.seed,
            paths=numbers,
            fields=self.problem.fields,
            sampling=self.sampling,
        )


def _hits(sample: Sample) -> np.ndarray:
    """What each path adds to the insolvency probability, times their number."""
    insolvent = np.asarray(sample.values["distance"]) > 0
    return insolvent.astype(np.float64) if sample.weights is None else insolvent * sample.weights


def _with_more(parameters: Parameters, field: str) -> Parameters:
    """The same policy in a world of a tenth more."""
    more = jnp.full_like(parameters.world.volatility_scale, 1.1)
    return parameters._replace(world=parameters.world._replace(**{field: more}))


def _place(change: Forced) -> float:
    """About where on the line of the margin alone, whose unit is a fifth of it, the margin has changed so."""
    return change.margin_percent / 20
