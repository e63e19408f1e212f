"""The most efficient policy that keeps within its limits, on frozen shocks.

On a fixed set of paths objective and limits are smooth, deterministic functions of the free parameters, with exact
derivatives; sequential quadratic programming (`trust_region.py`) then needs a dozen evaluations. Only a few paths come near
a rare insolvency, and which ones hardly depends on the policy. So all paths are simulated once, without derivatives, to
find them (*screening*); the search runs on those alone; and every path is simulated again at the solution to see that none
was missed. Path numbers, not paths, are what is kept: the shocks of a path can be made again from its number.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from calibrate.constraints import Constraint, InsolvencyProbability, smoothing_edge
from calibrate.gradient import Edge
from calibrate.metrics import user_cost
from calibrate.policy import Parameters
from calibrate.progress import Listener, Silent
from calibrate.rare_events import Chosen, choose
from calibrate.sampling import ImportanceSampling
from calibrate.screening import matter, nearest
from calibrate.simulate import Sample, Scenario, simulate, with_values
from calibrate.trust_region import Found, Local, minimise, way_inwards

# Paths for the objective and for limits on what all paths have: such means vary little from path to path.
_COMMON_PATHS = 1024
# A limit counts as kept when it is exceeded by no more than this factor on the optimiser's own sample.
_TOLERANCE = 1.01
# Limits are searched in logarithms, with this share of the limit added, so that where one is far from binding its slope is
# near zero instead of infinite.
_FLOOR = 0.02


# The first step of a search from anywhere and of one from nearby, and the relative gain below which a search ends: beyond it
# lies the noise of any sample that a search can afford.
_FAR, _NEAR = 0.15, 0.05
_ROUGH_GAIN, _FINE_GAIN = 5e-2, 2e-3
# Further than this, as a share of a parameter's range, no search goes without looking anew which paths matter: where few of the
# insolvent ones are seen, a policy looks safe that is not.
_REACH = 0.25


class FreeParameter(NamedTuple):
    """A parameter that may move, and how far: its field in `Policy`, lowest and highest value in that field's unit; and the
    user's unit, in which proposals are rounded."""

    field: str
    low: float
    high: float
    users_unit: float = 1.0


class Problem(NamedTuple):
    """What is to be solved: which scenario, from which policy, what is free, what is minimised under which limits, and how paths
    are drawn ("auto", "plain" or "importance"). The limits must hold in the `others` too, scenarios that have names; the
    objective is that of the first. With `shares`, how likely each scenario is, limits and objective are expectations over
    the scenarios instead. Where not every policy can be written, `settle` gives the one that stands for another. Tails are
    reported from `tail_level` on."""

    scenario: Scenario
    incumbent: Parameters
    free: tuple[FreeParameter, ...]
    constraints: tuple[Constraint, ...]
    user_cost_weight: float
    sampling: str = "plain"
    others: tuple[tuple[str, Scenario], ...] = ()
    shares: tuple[float, ...] | None = None
    settle: Callable[[Parameters], Parameters] | None = None
    tail_level: float = 0.99

    @property
    def each(self) -> "tuple[Problem, ...]":
        """The problem under each scenario by itself, the first first; limits are named after the others."""
        first = self._replace(others=(), shares=None)
        named = [
            first._replace(
                scenario=scenario,
                constraints=tuple(replace(limit, name=f"{limit.name} [{name}]") for limit in self.constraints),
            )
            for name, scenario in self.others
        ]
        return (first, *named)

    @property
    def limits(self) -> tuple[Constraint, ...]:
        """What must hold: every limit in each scenario, or where scenarios have shares every limit once."""
        return self.constraints if self.shares else tuple(limit for part in self.each for limit in part.constraints)

    def joined(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """Shares of limits to aim at, one for each limit of each scenario, as those of `limits`: the cautious one of several."""
        return np.min(parts, axis=0) if self.shares else np.concatenate(parts)

    def apart(self, values: np.ndarray) -> list[np.ndarray]:
        """Values for each of `limits`, as those of the limits in each scenario."""
        number = len(self.each)
        return [values] * number if self.shares else np.split(values, number)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(parameter.field for parameter in self.free)

    @property
    def fields(self) -> tuple[str, ...]:
        """What of the outcomes objective and limits need. All simulations of a search ask for it: the few that could do with
        less would each have a program of their own to compile."""
        asked = {field for constraint in self.constraints for field in constraint.fields}
        return tuple(sorted({"distance", "initial_margin", "penalty", "slippage", *asked}))

    @property
    def low(self) -> np.ndarray:
        return np.array([parameter.low for parameter in self.free])

    @property
    def high(self) -> np.ndarray:
        return np.array([parameter.high for parameter in self.free])

    def placed(self, point: np.ndarray) -> np.ndarray:
        """Where a point lies between the bounds: 0 at the lowest, 1 at the highest value of each parameter."""
        return (point - self.low) / (self.high - self.low)

    def point_at(self, place: np.ndarray) -> np.ndarray:
        return self.low + (self.high - self.low) * place

    def at(self, point: np.ndarray) -> Parameters:
        dtype = self.scenario.dtype
        return with_values(self.incumbent, self.names, np.asarray(point, dtype))


class Evaluation(NamedTuple):
    """Objective and limits at a point, with derivatives in the free parameters."""

    objective: float
    objective_slope: np.ndarray
    limits: tuple[tuple[float, np.ndarray], ...]


class Solution(NamedTuple):
    """Where the search ended. `excess` is by which factor each limit is exceeded there (below 1 if kept); not `feasible`
    means that no point within the bounds keeps all limits, and `point` is then the safest found. `prices` say for each limit
    by which share the objective falls when the limit grows by a small share, over that share: 0 where it does not bind."""

    point: np.ndarray
    objective: float
    excess: dict[str, float]
    feasible: bool
    evaluations: int
    prices: dict[str, float]

    def parameters(self, problem: Problem) -> Parameters:
        found = problem.at(self.point)
        return found if problem.settle is None else problem.settle(found)


def fewer_paths(paths: int) -> int:
    """How many weighted paths do the work of so many plain ones."""
    return min(paths, max(8192, paths // 10))


class FrozenSample:
    """A problem on a fixed set of paths: evaluated, with derivatives, on those that matter. Where paths are drawn from where
    losses are, fewer are needed."""

    def __init__(
        self,
        problem: Problem,
        *,
        seed: int,
        paths: int,
        weighted_paths: int | None = None,
        listener: Listener | None = None,
        chosen: Chosen | None = None,
        stage: str = "screening paths",
    ):
        self.problem, self.seed, self._plain_paths, self._stage = problem, seed, paths, stage
        self._weighted_paths = weighted_paths or fewer_paths(paths)
        self.listener = listener or Silent()
        self.evaluations = 0
        self.chosen = chosen
        self._learned_at: np.ndarray | None = None
        self.near = np.arange(0)
        self._edge = Edge(0.0, 1.0)
        self._cache: dict[bytes, Evaluation] = {}

    def learn(self, point: np.ndarray) -> Chosen:
        """Choose how to draw paths for limits that bind near `point`."""
        if self.chosen is None or self._learned_at is None or not np.array_equal(point, self._learned_at):
            self.chosen = choose(
                self.problem.scenario,
                self.problem.at(point),
                self.problem.constraints,
                kind=self.problem.sampling,
                at_limit=True,
                seed=self.seed,
                listener=self.listener,
                start=self.chosen.guess if self.chosen else None,
            )
            self._learned_at = np.array(point)
        return self.chosen

    @property
    def weighted(self) -> bool:
        return self.chosen is not None and self.chosen.sampling is not None

    @property
    def paths(self) -> int:
        return self._weighted_paths if self.weighted else self._plain_paths

    @property
    def _common(self) -> np.ndarray:
        return np.arange(min(self.paths, _COMMON_PATHS))

    def screen(self, point: np.ndarray, tightening: np.ndarray) -> None:
        """Simulate every path at `point` and keep the numbers of those that come nearest to insolvency, many times as many
        as the limits speak of."""
        constraints = self.problem.constraints
        self.learn(point)
        sample = self._all(point)
        distance = sample.values["distance"]
        self.near = nearest(constraints, sample)
        for constraint, factor in zip(constraints, tightening, strict=True):
            if isinstance(constraint, InsolvencyProbability):
                fund = self.problem.scenario.venue.covered
                self._edge = smoothing_edge(distance, sample.weights, constraint.limit * factor, fund)
        self._cache.clear()

    def missed(self, point: np.ndarray) -> int:
        """How many paths that matter at `point` the search does not look at."""
        now = np.flatnonzero(matter(self.problem.constraints, self._all(point)))
        return int(np.setdiff1d(now, self.near).size)

    def used(self, point: np.ndarray) -> np.ndarray:
        """Which part of its room each limit takes up at `point`, on all paths."""
        sample, limits = self._all(point), self.problem.constraints
        shares = (c.share(c.contribution(sample.values), sample.weights, sample.paths) for c in limits)
        return np.array([share / limit.room for share, limit in zip(shares, limits, strict=True)])

    def _all(self, point: np.ndarray) -> Sample:
        done = self.listener.stage(self._stage, self.paths)
        return simulate(
            self.problem.scenario,
            self.problem.at(point),
            seed=self.seed,
            paths=self.paths,
            fields=self.problem.fields,
            sampling=self.sampling,
            on_progress=done,
        )

    @property
    def sampling(self) -> ImportanceSampling | None:
        return self.chosen.sampling if self.chosen else None

    def evaluate(self, point: np.ndarray) -> Evaluation:
        key = np.asarray(point, np.float64).tobytes()
        if key not in self._cache:
            self._cache[key] = self._evaluate(point)
        return self._cache[key]

    def _evaluate(self, point: np.ndarray) -> Evaluation:
        problem = self.problem
        self.evaluations += 1
        parts = simulated_parts(
            problem, point, self.near, self._common, seed=self.seed, sampling=self.sampling, derivatives=problem.names
        )
        limits = []
        for constraint in problem.constraints:
            sample, paths = parts.of(constraint, self.paths)
            values, slopes = (constraint.contribution(part) for part in (sample.values, sample.derivatives))
            limits.append(constraint.smooth(values, slopes, sample.weights, paths, self._edge))
        objective, slope = self._objective(parts.common)
        found = Evaluation(objective, slope, tuple((float(v), s) for v, s in limits))
        self.listener.status(self._where(found))
        return found

    def _where(self, found: Evaluation) -> str:
        """Where the search stands, in a few words."""
        used = [value / c.room for c, (value, _) in zip(self.problem.constraints, found.limits, strict=True)]
        return f"search {self.evaluations}: objective {found.objective:.4g}, {max(used):.2f} of limit"

    def _objective(self, sample: Sample) -> tuple[float, np.ndarray]:
        weight, values = self.problem.user_cost_weight, sample.values
        slopes = {name: np.asarray(slope, np.float64).mean(axis=0) for name, slope in sample.derivatives.items()}
        value = float(np.mean(values["initial_margin"], dtype=np.float64) + weight * user_cost(values).mean())
        return value, slopes["initial_margin"] + weight * (slopes["penalty"] + slopes["slippage"])


class FrozenSamples:
    """A problem on fixed sets of paths, one for each of its scenarios. What a single one offers to a search, for all of them."""

    def __init__(
        self,
        problem: Problem,
        *,
        seed: int,
        paths: int,
        listener: Listener,
        weighted_paths: int | None = None,
        learned: Sequence[Chosen | None] | None = None,
        stage: str = "screening paths",
    ):
        self.parts = [
            FrozenSample(
                part,
                seed=seed,
                paths=paths,
                weighted_paths=weighted_paths,
                listener=listener,
                chosen=chosen,
                stage=stage,
            )
            for part, chosen in zip(problem.each, learned or [None] * len(problem.each), strict=True)
        ]
        self.whole = problem
        self.problem = problem._replace(constraints=problem.limits)

    @property
    def evaluations(self) -> int:
        return self.parts[0].evaluations

    def learn(self, point: np.ndarray) -> list[Chosen]:
        return [part.learn(point) for part in self.parts]

    def screen(self, point: np.ndarray, tightening: np.ndarray) -> None:
        for part, factors in zip(self.parts, self.whole.apart(tightening), strict=True):
            part.screen(point, factors)

    def missed(self, point: np.ndarray) -> int:
        return sum(part.missed(point) for part in self.parts)

    def used(self, point: np.ndarray) -> np.ndarray:
        found = [part.used(point) for part in self.parts]
        return np.asarray(self.whole.shares) @ np.array(found) if self.whole.shares else np.concatenate(found)

    def evaluate(self, point: np.ndarray) -> Evaluation:
        found = [part.evaluate(point) for part in self.parts]
        if self.whole.shares:
            return expected(found, self.whole.shares)
        return found[0]._replace(limits=tuple(limit for evaluation in found for limit in evaluation.limits))


def expected(found: Sequence[Evaluation], shares: Sequence[float]) -> Evaluation:
    """Objective and limits on average over scenarios."""

    def mean(of: Callable[[Evaluation], Any]) -> Any:
        return sum(share * of(each) for share, each in zip(shares, found, strict=True))

    limits = [
        (mean(lambda e, i=i: e.limits[i][0]), mean(lambda e, i=i: e.limits[i][1]))  # type: ignore[misc]
        for i in range(len(found[0].limits))
    ]
    return Evaluation(mean(lambda e: e.objective), mean(lambda e: e.objective_slope), tuple(limits))


class Parts(NamedTuple):
    """Two parts of a sample: paths near insolvency, and plainly drawn ones for what all paths have."""

    near: Sample
    common: Sample

    def of(self, constraint: Constraint, paths: int) -> tuple[Sample, int]:
        """The part that tells of a limit, and the size of the sample that it stands for; `paths` is that of the near part."""
        return (self.common, self.common.paths) if constraint.common else (self.near, paths)


def simulated_parts(
    problem: Problem,
    point: np.ndarray,
    near: np.ndarray,
    common: np.ndarray,
    *,
    seed: int,
    sampling: ImportanceSampling | None,
    derivatives: tuple[str, ...] = (),
) -> Parts:
    """Simulate both parts, given their path numbers."""

    def simulated(numbers: np.ndarray, drawn: ImportanceSampling | None) -> Sample:
        return simulate(
            problem.scenario,
            problem.at(point),
            seed=seed,
            paths=numbers,
            fields=problem.fields,
            derivatives=derivatives,
            sampling=drawn,
        )

    if sampling is not None:
        # Plain paths too are drawn as weighted ones, all of weight one: so one compiled program makes both.
        return Parts(simulated(near, sampling), simulated(common, sampling.plain())._replace(weights=None))
    numbers = np.union1d(near, common)
    sample = simulated(numbers, None)
    return Parts(*(sample.some(np.isin(numbers, part)) for part in (near, common)))


def solve(
    sample: FrozenSample | FrozenSamples,
    start: np.ndarray,
    tightening: np.ndarray,
    *,
    nearby: bool = False,
    rounds: int = 8,
    smallest_gain: float = _FINE_GAIN,
) -> Solution:
    """Minimise the objective under the limits, the room of each multiplied by its `tightening`, from a starting point.

    Screening and search alternate: a search ends where it has moved so far that other paths may matter, and the last one where
    nothing more is to be gained and no path that matters at the solution was left out. A start `nearby` saves the first,
    rough search.
    """
    problem = sample.problem
    targets = np.array([constraint.room for constraint in problem.constraints]) * tightening
    point = np.clip(start, problem.low, problem.high)
    rough = not nearby
    for number in range(rounds):
        sample.screen(point, tightening)
        here = problem.placed(point)
        found = _search(
            sample,
            point,
            targets,
            radius=_FAR if rough else _NEAR,
            smallest_gain=_ROUGH_GAIN if rough else smallest_gain,
        )
        point = problem.point_at(found.point)
        far = np.max(np.abs(found.point - here)) > 0.99 * _REACH
        if number + 1 < rounds and not rough and not far and found.finished and sample.missed(point) == 0:
            break
        rough = far
    evaluation = sample.evaluate(point)
    excess = {
        constraint.name: value / target
        for constraint, (value, _), target in zip(problem.constraints, evaluation.limits, targets, strict=True)
    }
    # A price is that of a limit in logarithms, and relative to the objective.
    prices = {
        c.name: float(price) / found.local.objective for c, price in zip(problem.constraints, found.prices, strict=True)
    }
    feasible = max(excess.values()) <= _TOLERANCE
    return Solution(point, evaluation.objective, excess, feasible, sample.evaluations, prices)


def _search(
    sample: FrozenSample | FrozenSamples, start: np.ndarray, targets: np.ndarray, radius: float, smallest_gain: float
) -> Found:
    """One search, in coordinates that run from 0 to 1 between the bounds and with the objective at the start as unit."""
    here = sample.problem.placed(start)
    unit = abs(sample.evaluate(start).objective)
    low, high = np.maximum(here - _REACH, 0.0), np.minimum(here + _REACH, 1.0)
    return minimise(
        lambda x: _local(sample, x, targets, unit), here, low, high, radius=radius, smallest_gain=smallest_gain
    )


def _local(sample: FrozenSample | FrozenSamples, place: np.ndarray, targets: np.ndarray, unit: float) -> Local:
    """What a search sees at a place between the bounds."""
    problem = sample.problem
    span, evaluation = problem.high - problem.low, sample.evaluate(problem.point_at(place))
    values = np.array([value for value, _ in evaluation.limits])
    slopes = np.array([slope * span for _, slope in evaluation.limits])
    floor = _FLOOR * targets
    return Local(
        evaluation.objective / unit,
        evaluation.objective_slope * span / unit,
        np.log((values + floor) / (targets + floor)),
        slopes / (values + floor)[:, None],
    )


def tighter(
    sample: FrozenSample | FrozenSamples, solution: np.ndarray, targets: np.ndarray, factor: float
) -> np.ndarray:
    """A policy near a solution at which all limits are about `factor` times what they are there, or their targets if those are
    lower: as little of a change as that takes."""
    problem = sample.problem
    place = problem.placed(solution)
    step = way_inwards(_local(sample, place, targets, 1.0), place, -np.log(factor))
    return problem.point_at(place + step)
