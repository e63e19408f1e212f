"""Which paths of a sample a search looks at: those that matter to the limits, and those that may under other policies."""

import numpy as np

from calibrate.constraints import Constraint
from calibrate.simulate import Sample

# The least number of paths that a search keeps.
_FEWEST_KEPT = 1024


def paths_kept(constraints: tuple[Constraint, ...], paths: int) -> int:
    """How many of a sample's paths the search looks at, at most, near a policy that keeps the limits."""
    share = max(constraint.share_of_paths for constraint in constraints)
    return min(paths, max(_FEWEST_KEPT, round(share * paths)))


def matter(constraints: tuple[Constraint, ...], sample: Sample) -> np.ndarray:
    """Which paths contribute to a limit that most paths contribute nothing to."""
    rare = [constraint.contribution(sample.values) > 0 for constraint in constraints if not constraint.common]
    return np.any([np.asarray(sample.values["distance"]) > 0, *rare], axis=0)


def nearest(constraints: tuple[Constraint, ...], sample: Sample) -> np.ndarray:
    """The numbers of the paths that matter to the limits, or come near enough to insolvency that under other policies they may."""
    weights = np.ones(sample.paths) if sample.weights is None else sample.weights
    rare = (c for c in constraints if not c.common)
    share = max((c.share_wanted(c.contribution(sample.values), sample.weights) for c in rare), default=0.0)
    order = np.argsort(-sample.values["distance"], kind="stable")
    enough = np.searchsorted(np.cumsum(weights[order]), share * sample.paths)
    return np.union1d(order[: max(enough + 1, _FEWEST_KEPT)], np.flatnonzero(matter(constraints, sample)))
