"""Derivatives of risk figures, with standard errors, and the check that they are right.

Means are differentiated along the path, which is unbiased because every outcome is Lipschitz in the parameters (Broadie and
Glasserman 1996), but for one thing: an oracle that reports when a threshold is crossed may do so a step earlier or later. Losses
hardly notice; of costs and false liquidations such derivatives may miss half (`elasticities.py` takes differences). Expected
shortfall is the pathwise derivative averaged over the tail (Hong and Liu 2009). A probability is the expectation of an indicator,
whose pathwise derivative is zero almost everywhere; its derivative is the density of the signed distance to insolvency at zero
times the mean slope there, estimated with a kernel (Liu and Hong 2011). The kernel is of fourth order, so that its bias vanishes
with the fourth power of the bandwidth, as long as the law of distances is smooth where it reaches: `Edge` sees to that.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray as NumpyArray

from calibrate.policy import Parameters
from calibrate.simulate import Sample, Scenario, simulate, values_of, with_values


class Gradient(NamedTuple):
    """Derivatives in each parameter and their standard errors."""

    value: Float[NumpyArray, " parameter"]
    standard_error: Float[NumpyArray, " parameter"]


def mean_gradient(slopes: Float[NumpyArray, "path parameter"]) -> Gradient:
    """Derivative of a mean outcome, from the derivatives along each path."""
    slopes = np.asarray(slopes, np.float64)
    return Gradient(slopes.mean(axis=0), slopes.std(axis=0, ddof=1) / np.sqrt(len(slopes)))


def score_gradient(
    values: Float[NumpyArray, " path"],
    scores: Float[NumpyArray, "path parameter"],
    weights: Float[NumpyArray, " path"] | None = None,
) -> Gradient:
    """What derivatives along the path miss of the derivative of a mean: paths become more or less likely (Glynn 1990). `scores`
    are the derivatives of each path's log-likelihood, whose mean is zero, so that only the deviations of `values` count. For a
    probability the values are 0 and 1."""
    values, scores = np.asarray(values, np.float64), np.asarray(scores, np.float64)
    weights = np.ones(len(values)) if weights is None else weights
    terms = (weights * (values - weights @ values / len(values)))[:, None] * scores
    return Gradient(terms.mean(axis=0), terms.std(axis=0, ddof=1) / np.sqrt(len(terms)))


def tail_gradient(
    values: Float[NumpyArray, " path"], slopes: Float[NumpyArray, "path parameter"], level: float, paths: int
) -> Gradient:
    """Derivative of the expected shortfall beyond `level`.

    `paths` is the size of the sample; `values` and `slopes` may leave out paths that are certainly not in its tail.
    """
    count = max(round((1 - level) * paths), 1)
    tail = np.asarray(slopes, np.float64)[np.argsort(-np.asarray(values), kind="stable")[:count]]
    value = tail.mean(axis=0)
    if count < 2:
        return Gradient(value, np.full_like(value, np.nan))
    # Which paths are in the tail is uncertain too: one path more or less has the slope at its edge.
    edge = tail[-max(count // 10, 1) :].mean(axis=0)
    variance = tail.var(axis=0, ddof=1) + level * (value - edge) ** 2
    return Gradient(value, np.sqrt(variance / count))


def bandwidth(distance: Float[NumpyArray, " path"], events: float, weights: np.ndarray | None = None) -> float:
    """How far from insolvency a path may be and still tell of the derivative: half the mean excess of the worst `events`
    paths, shrinking slowly with their number as suits a fourth-order kernel. Of weighted paths, the worst that together weigh
    as much, and as many as would tell as much if all weighed the same."""
    distance = np.asarray(distance, np.float64)
    if weights is None:
        count = int(min(max(events, 10.0), len(distance) - 1.0))
        order = np.argsort(-distance, kind="stable")[: count + 1]
        weight = np.ones(count)
    else:
        order = np.argsort(-distance, kind="stable")
        count = int(np.clip(np.searchsorted(np.cumsum(weights[order]), events), 10, len(order) - 1))
        weight = weights[order[:count]]
        events = float(weight.sum() ** 2 / (weight @ weight))
    worst = distance[order[: count + 1]]
    excess = max(float(weight @ (worst[:-1] - worst[-1]) / weight.sum()), 1e-12)
    return 0.5 * excess * (1000 / max(events, 10.0)) ** (1 / 9)


def probability_gradient(
    distance: Float[NumpyArray, " path"],
    slopes: Float[NumpyArray, "path parameter"],
    paths: int,
    width: float,
    weights: Float[NumpyArray, " path"] | None = None,
    scores: Float[NumpyArray, "path parameter"] | None = None,
    *,
    from_below: bool = False,
) -> Gradient:
    """Derivative of the probability that the distance is positive; `from_below`, as paths below zero alone tell it. Paths further
    than four widths from zero add nothing and may be left out of the arrays; `paths` is the size of the whole sample. In a
    parameter that makes paths likelier too, with the `scores` of their likelihood, only those further below zero may be left
    out."""
    distance = np.asarray(distance, np.float64)
    u = distance / width
    shape = np.where(u > 0, 0.0, np.polyval(_ONE_SIDED, -u)) if from_below else (3 - u**2) / 2
    kernel = shape * np.exp(-(u**2) / 2) / np.sqrt(2 * np.pi) / width
    terms = kernel[:, None] * np.asarray(slopes, np.float64)
    if scores is not None:
        terms = terms + (distance > 0)[:, None] * np.asarray(scores, np.float64)
    if weights is not None:
        terms = weights[:, None] * terms
    value = terms.sum(axis=0) / paths
    variance = (terms**2).sum(axis=0) / paths - value**2
    return Gradient(value, np.sqrt(np.maximum(variance, 0.0) / paths))


def _one_sided() -> np.ndarray:
    """The polynomial that makes half a Gaussian a kernel of third order: highest power first."""
    moments = np.array([0.5, 1 / np.sqrt(2 * np.pi), 0.5, np.sqrt(2 / np.pi), 1.5])
    return np.linalg.solve([moments[k : k + 3] for k in range(3)], [1.0, 0.0, 0.0])[::-1]


_ONE_SIDED = _one_sided()


class Edge(NamedTuple):
    """How paths are told apart around insolvency: what the insurance fund can pay (share of open interest), and the width of the
    kernel, in the coordinate that `placed` gives distances.

    Losses begin at a distance of minus the fund. The law of distances has a kink there, and above it losses spread over orders
    of magnitude, so a kernel in the distance itself would have to be far narrower than the fund. Without a fund the kink is at
    insolvency itself, and only the paths below it tell of the derivative there.
    """

    fund: float
    width: float

    def tells(self, distance: Float[NumpyArray, " path"]) -> np.ndarray:
        """Which paths are near enough for the kernel to see."""
        return np.abs(placed(distance, self.fund)) < 4 * self.width

    def tells_or_insolvent(self, distance: Float[NumpyArray, " path"]) -> np.ndarray:
        return placed(distance, self.fund) > -4 * self.width

    def gradient(
        self,
        distance: Float[NumpyArray, " path"],
        slopes: Float[NumpyArray, "path parameter"],
        paths: int,
        weights: Float[NumpyArray, " path"] | None = None,
        scores: Float[NumpyArray, "path parameter"] | None = None,
    ) -> Gradient:
        """Derivative of the probability of insolvency; the arguments are those of `probability_gradient`."""
        place, slope = placed(distance, self.fund), slope_of_place(distance, self.fund)[:, None] * slopes
        return probability_gradient(place, slope, paths, self.width, weights, scores, from_below=self.fund <= 0)


def edge_of(distance: Float[NumpyArray, " path"], weights: np.ndarray | None, fund: float) -> Edge:
    """The edge that suits a whole sample: as wide as the insolvent paths suggest, or without a fund the as many next to them."""
    solvent = np.asarray(distance) <= 0
    events = float(np.count_nonzero(~solvent) if weights is None else weights[~solvent].sum())
    if fund > 0:
        return Edge(fund, bandwidth(placed(distance, fund), events, weights))
    return Edge(fund, bandwidth(distance[solvent], events, None if weights is None else weights[solvent]))


# The part of the fund up to which losses are told apart by their logarithms, and below it by themselves.
_SMALL_LOSS = 0.2


def placed(distance: Float[NumpyArray, " path"], fund: float) -> Float[NumpyArray, " path"]:
    """The logarithm of losses over what the fund can pay, continued as a line where losses are small: 0 is insolvency. Without a
    fund the distance itself."""
    distance = np.asarray(distance, np.float64)
    if fund <= 0:
        return distance
    loss = distance / fund + 1
    return np.log(np.maximum(loss, _SMALL_LOSS)) + np.minimum(loss / _SMALL_LOSS - 1, 0.0)


def slope_of_place(distance: Float[NumpyArray, " path"], fund: float) -> Float[NumpyArray, " path"]:
    """Derivative of `placed` in the distance."""
    distance = np.asarray(distance, np.float64)
    return 1 / np.maximum(distance + fund, _SMALL_LOSS * fund) if fund > 0 else np.ones_like(distance)


# --- the check ------------------------------------------------------------------------------------------------------------


class GradientCheck(NamedTuple):
    """One derivative two ways, on the same paths: along the path, and by a central difference of step `bump` (relative)."""

    metric: str
    parameter: str
    pathwise: float
    standard_error: float
    finite_difference: float
    difference_standard_error: float
    bump: float

    @property
    def agrees(self) -> bool:
        """Within a relative 1e-4, or within three standard errors of the paired difference."""
        gap = abs(self.pathwise - self.finite_difference)
        return gap <= 1e-4 * abs(self.pathwise) or gap <= 3 * self.difference_standard_error


CHECKED_FIELDS = (
    "bad_debt",
    "insolvent_share",
    "liquidated",
    "penalty",
    "slippage",
    "socialised_loss",
    "initial_margin",
)


def check_gradients(
    scenario: Scenario,
    parameters: Parameters,
    names: tuple[str, ...],
    *,
    seed: int,
    paths: int,
    bump: float = 1e-6,
    fields: tuple[str, ...] = CHECKED_FIELDS,
) -> list[GradientCheck]:
    """Compare pathwise derivatives of mean outcomes with central differences on common random numbers."""
    base = simulate(scenario, parameters, seed=seed, paths=paths, fields=fields, derivatives=names)
    values = values_of(parameters, names)
    rows = []
    for k, name in enumerate(names):
        step = bump * max(abs(values[k]), 1e-3)
        ends = [
            simulate(scenario, moved(parameters, name, sign * step), seed=seed, paths=paths, fields=fields)
            for sign in (1, -1)
        ]
        rows += [_compare(field, name, base, ends, k, step, bump) for field in fields]
    return rows


def moved(parameters: Parameters, name: str, by: float) -> Parameters:
    """Parameters with one of them moved."""
    value = np.asarray((parameters.policy._asdict() | parameters.world._asdict())[name])
    return with_values(parameters, (name,), value[None] + value.dtype.type(by))


def _compare(
    field: str, name: str, base: Sample, ends: list[Sample], k: int, step: float, bump: float
) -> GradientCheck:
    along = np.asarray(base.derivatives[field][:, k], np.float64)
    difference = (ends[0].values[field].astype(np.float64) - ends[1].values[field]) / (2 * step)
    gap = along - difference
    root = np.sqrt(along.size)
    return GradientCheck(
        field,
        name,
        float(along.mean()),
        float(along.std(ddof=1) / root),
        float(difference.mean()),
        float(gap.std(ddof=1) / root),
        bump,
    )
