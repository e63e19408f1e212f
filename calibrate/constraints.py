"""The limits that a policy must keep, and how each is estimated, differentiated and bounded from above.

There is one entry per kind of limit. A limit is always held against the upper confidence limit of its estimate. What a path
contributes to the figure is computed here from its outcomes, so all else is about weighted contributions.
"""

from abc import abstractmethod
from typing import Any, NamedTuple

import equinox as eqx
import numpy as np
from scipy.stats import norm

from calibrate import weighing
from calibrate.gradient import Edge, bandwidth, placed, slope_of_place
from calibrate.metrics import Estimate, Values, expected_shortfall, frequency, mean, mean_of_loss, positive, upper_limit
from calibrate.rise_windows import METRICS as RISES
from calibrate.summary import Outcomes, Summary, total


class Smooth(NamedTuple):
    """A limit's estimate on frozen shocks, as a smooth function of the parameters: value and derivatives."""

    value: float
    slope: np.ndarray


# Of the paths that contribute to a mean of losses, the optimiser looks at so many times as many.
_SEVERAL = 4.0


class Constraint(eqx.Module):
    """An upper limit on one metric over the horizon, computed from the outcomes called `fields`. `least` is the lowest value that
    the metric can have: what a search tightens or eases is the room that the limit leaves above it.

    `weights` are those of a weighted sample, None where all paths count alike. `paths` is the size of the whole sample where
    paths that certainly do not matter may have been left out."""

    limit: float

    name: eqx.AbstractVar[str]
    fields: eqx.AbstractVar[tuple[str, ...]]
    least: eqx.AbstractVar[float]

    @property
    def room(self) -> float:
        return self.limit - self.least

    def contribution(self, outcomes: Outcomes) -> Any:
        """What the figure is computed from: by path, or what is remembered of all paths."""
        return total(outcomes, self.fields)

    @property
    def common(self) -> bool:
        """Whether all paths have some of it, so that plain ones tell of it best."""
        return False

    @property
    @abstractmethod
    def share_of_paths(self) -> float:
        """The share of paths, worst first, that the optimiser has to look at, at most."""

    def share_wanted(self, values: np.ndarray, weights: np.ndarray | None) -> float:
        """The same, given what all paths contribute under some policy: several times as many as have any of it, for under other
        policies others have it."""
        have = float(_weighed(values > 0, weights).mean())
        return min(_SEVERAL * have, self.share_of_paths) if have > 0 else self.share_of_paths

    @property
    @abstractmethod
    def relative_variance(self) -> float:
        """The most that the variance of a plainly sampled path can be at the limit, over the limit squared."""

    @abstractmethod
    def estimate(self, values: Values, weights: np.ndarray | None) -> Estimate:
        """From the contributions of a whole sample."""

    @abstractmethod
    def upper(self, values: Values, weights: np.ndarray | None, confidence: float) -> float:
        """One-sided upper confidence limit from a whole sample."""

    @abstractmethod
    def share(self, values: np.ndarray, weights: np.ndarray | None, paths: int) -> float:
        """The estimate from the paths that matter, less the least that it can be."""

    @abstractmethod
    def smooth(
        self, values: np.ndarray, slopes: np.ndarray, weights: np.ndarray | None, paths: int, edge: Edge
    ) -> Smooth:
        """The same with its derivatives; `edge` says how far the indicator of insolvency is smoothed."""

    @abstractmethod
    def terms(self, values: np.ndarray, weights: np.ndarray, *, at_limit: bool) -> np.ndarray:
        """By path, what a mean is taken of, or would be for a policy at its limit whose paths rank as these do."""


class InsolvencyProbability(Constraint):
    """Share of paths on which losses exceed the insurance fund."""

    limit: float
    name: str = "insolvency_probability"
    fields: tuple[str, ...] = ("distance",)
    least: float = 0.0

    def contribution(self, outcomes: Outcomes) -> np.ndarray:
        return np.asarray(outcomes["distance"])

    @property
    def share_of_paths(self) -> float:
        return min(8 * self.limit, 1.0)

    def share_wanted(self, values: np.ndarray, weights: np.ndarray | None) -> float:
        # From a policy far outside its limit all of so many may be so deep in insolvency that no small step saves one; twice as
        # many as are insolvent now always tell which way to go.
        return max(self.share_of_paths, min(2 * float(_weighed(values > 0, weights).mean()), 1.0))

    @property
    def relative_variance(self) -> float:
        return 1 / self.limit - 1

    def estimate(self, values: Values, weights: np.ndarray | None) -> Estimate:
        assert not isinstance(values, Summary), "distances are kept by path"
        return frequency(values > 0, weights)

    def upper(self, values: Values, weights: np.ndarray | None, confidence: float) -> float:
        assert not isinstance(values, Summary), "distances are kept by path"
        if weights is None:
            return upper_limit(int(np.count_nonzero(values > 0)), len(values), confidence)
        return weighing.probability_limits(values > 0, weights, 1 - confidence)[1]

    def share(self, values: np.ndarray, weights: np.ndarray | None, paths: int) -> float:
        return float(_weighed(values > 0, weights).sum() / paths)

    def smooth(
        self, values: np.ndarray, slopes: np.ndarray, weights: np.ndarray | None, paths: int, edge: Edge
    ) -> Smooth:
        u = placed(values, edge.fund) / edge.width
        rate = slope_of_place(values, edge.fund) / edge.width
        density = _weighed(norm.pdf(u) * rate, weights)
        return Smooth(
            float(_weighed(norm.cdf(u), weights).sum() / paths), density @ np.asarray(slopes, np.float64) / paths
        )

    def terms(self, values: np.ndarray, weights: np.ndarray, *, at_limit: bool) -> np.ndarray:
        level = weighing.level_of(values, weights, self.limit) if at_limit else 0.0
        return (values > level).astype(np.float64)


class MeanLimit(Constraint):
    """The mean of a loss, a cost or a swing, over all paths. `rare` says that most paths have none of it."""

    limit: float
    name: str
    fields: tuple[str, ...]
    rare: bool
    least: float

    @property
    def common(self) -> bool:
        return not self.rare

    @property
    def share_of_paths(self) -> float:
        return 1.0 if self.rare else 0.0

    @property
    def relative_variance(self) -> float:
        # What lies between 0 and 1 varies most if it is either. What most paths have varies little.
        return 1 / self.limit - 1 if self.rare else 1.0

    def estimate(self, values: Values, weights: np.ndarray | None) -> Estimate:
        return mean_of_loss(values, weights) if self.rare else mean(values, weights)

    def upper(self, values: Values, weights: np.ndarray | None, confidence: float) -> float:
        if self.rare:
            return _upper_of_losses(values, weights, self.estimate(values, weights), confidence)
        return _normal_upper(self.estimate(values, weights), confidence)

    def share(self, values: np.ndarray, weights: np.ndarray | None, paths: int) -> float:
        return float(_weighed(values, weights).sum() / paths) - self.least

    def smooth(
        self, values: np.ndarray, slopes: np.ndarray, weights: np.ndarray | None, paths: int, edge: Edge
    ) -> Smooth:
        del edge
        return Smooth(self.share(values, weights, paths), _weighed(slopes, weights).sum(axis=0) / paths)

    def terms(self, values: np.ndarray, weights: np.ndarray, *, at_limit: bool) -> np.ndarray:
        del weights, at_limit
        return np.asarray(values, np.float64)


class Shortfall(Constraint):
    """Expected shortfall of a loss beyond `level`, as a share of open interest."""

    limit: float
    level: float
    name: str
    fields: tuple[str, ...]
    least: float

    @property
    def share_of_paths(self) -> float:
        return min(3 * (1 - self.level), 1.0)

    @property
    def relative_variance(self) -> float:
        return 1 / (1 - self.level)

    def estimate(self, values: Values, weights: np.ndarray | None) -> Estimate:
        return expected_shortfall(values, self.level, weights)

    def upper(self, values: Values, weights: np.ndarray | None, confidence: float) -> float:
        # The tail alone speaks of its mean. Where too few of its paths have a loss: a mean over the tail is at most the share of
        # paths with a loss over that of the tail, as if each took all open interest.
        estimate = self.estimate(values, weights)
        if weights is None or isinstance(values, Summary):
            rest_on = min(positive(values), (1 - self.level) * len(values))
        else:
            tail = (values > 0) & (values >= weighing.level_of(values, weights, 1 - self.level))
            rest_on = weighing.diagnose(np.where(tail, values, 0.0), weights).effective_paths
        if rest_on >= _LOSSES_NEEDED:
            return _normal_upper(estimate, confidence)
        return min(_most_losses(values, weights, confidence) / (1 - self.level), 1.0)

    def share(self, values: np.ndarray, weights: np.ndarray | None, paths: int) -> float:
        parts = self._tail(values, weights, paths)
        return float(parts @ np.asarray(values, np.float64))

    def smooth(
        self, values: np.ndarray, slopes: np.ndarray, weights: np.ndarray | None, paths: int, edge: Edge
    ) -> Smooth:
        del edge
        return Smooth(
            self.share(values, weights, paths), self._tail(values, weights, paths) @ np.asarray(slopes, np.float64)
        )

    def terms(self, values: np.ndarray, weights: np.ndarray, *, at_limit: bool) -> np.ndarray:
        del at_limit
        return np.maximum(values - weighing.level_of(values, weights, 1 - self.level), 0.0)

    def _tail(self, values: np.ndarray, weights: np.ndarray | None, paths: int) -> np.ndarray:
        """The part that each path has in the tail: worst first, until the tail is full."""
        order = np.argsort(-values, kind="stable")
        weight = _weighed(np.ones(len(values)), weights)[order]
        before = np.cumsum(weight) - weight
        parts = np.empty(len(values))
        parts[order] = np.clip((1 - self.level) * paths - before, 0.0, weight)
        return parts / ((1 - self.level) * paths)


def _weighed(values: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Values times weights, along the first axis."""
    values = np.asarray(values, np.float64)
    return values if weights is None else values * weights.reshape(-1, *[1] * (values.ndim - 1))


# Losses are skewed: a normal limit for their mean claims too much until it rests on this many paths with a loss.
_LOSSES_NEEDED = 200


def _upper_of_losses(
    values: Values, weights: np.ndarray | None, estimate: Estimate, confidence: float
) -> float:  # fmt: skip
    """An upper limit for a mean of losses as a share of open interest. Where too few paths have one, how likely a loss is at
    most, as if each took all open interest."""
    if weights is None or isinstance(values, Summary):
        rest_on: float = positive(values)
    else:
        # Small losses on heavy paths may be many and add next to nothing; what counts is how evenly the sum is made up.
        rest_on = weighing.diagnose(values, weights).effective_paths
    return (
        _normal_upper(estimate, confidence) if rest_on >= _LOSSES_NEEDED else _most_losses(values, weights, confidence)
    )


def _most_losses(values: Values, weights: np.ndarray | None, confidence: float) -> float:
    """How likely a loss is at most."""
    if weights is None or isinstance(values, Summary):
        return upper_limit(positive(values), len(values), confidence)
    return weighing.probability_limits(values > 0, weights, 1 - confidence)[1]


def _normal_upper(estimate: Estimate, confidence: float) -> float:
    return estimate.value + float(norm.ppf(confidence)) * estimate.standard_error


# Means that can be limited: the outcomes that make them up, and whether most paths have none of it.
MEANS: dict[str, tuple[tuple[str, ...], bool]] = {
    "account_insolvency_rate": (("insolvent_share",), True),
    "bad_debt": (("bad_debt",), True),
    "fund_draw": (("fund_draw",), True),
    "socialised_loss": (("socialised_loss",), True),
    "false_liquidation_rate": (("false_liquidation",), False),
    "user_cost": (("penalty", "slippage"), False),
    "margin_rise": (("margin_rise",), False),
    **{name: ((name,), False) for name in RISES},
    "margin_peak_to_trough": (("margin_peak_to_trough",), False),
}
# A highest value is at least the lowest. All other figures can be zero.
_LEAST = {"margin_peak_to_trough": 1.0}
SHORTFALLS = {"bad_debt_es": "bad_debt", "fund_draw_es": "fund_draw", "socialised_loss_es": "socialised_loss"}


def constraint_of(name: str, limit: float, tail_level: float) -> Constraint:
    if name in MEANS:
        fields, rare = MEANS[name]
        return MeanLimit(limit=limit, name=name, fields=fields, rare=rare, least=_LEAST.get(name, 0.0))
    if name in SHORTFALLS:
        return Shortfall(limit=limit, name=name, fields=(SHORTFALLS[name],), level=tail_level, least=0.0)
    return InsolvencyProbability(limit)


# From where more than so many times as many paths are insolvent as may be, distances themselves show the way best.
_FAR = 4.0


def smoothing_edge(distance: np.ndarray, weights: np.ndarray | None, tolerance: float, fund: float) -> Edge:
    """How far the optimiser smooths the indicator of insolvency: a fraction of the scale of the tail beyond the tolerance."""
    events = tolerance * len(distance)
    if _weighed(distance > 0, weights).sum() > _FAR * events:
        fund = 0.0
    return Edge(fund, 0.6 * bandwidth(placed(distance, fund), events, weights))
