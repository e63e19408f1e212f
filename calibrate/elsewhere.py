"""Where a search that found no policy within its limits may start again.

A search follows slopes, and where a limit has none (a margin that does not follow volatility never rises) it may end outside the
limits although policies keep them. So before that is said of a job, policies all over the bounds are looked at.
"""

import itertools

import numpy as np
from scipy.stats.qmc import Sobol

from calibrate.optimise import FrozenSample, FrozenSamples

# How many policies are tried.
_PLACES = 16


def elsewhere(sample: FrozenSample | FrozenSamples, tightening: np.ndarray) -> np.ndarray:
    """Of policies all over the bounds the one that misses the limits, tightened so, least. Corners are among them, since safety and
    cheapness lie at the ends of most parameters."""
    size = len(sample.problem.names)
    corners = np.array(list(itertools.product((0.0, 1.0), repeat=size))) if 2**size <= _PLACES else np.empty((0, size))
    inside = Sobol(size, scramble=False).random(2 * _PLACES)[1 : 1 + _PLACES - len(corners)]
    points = [sample.problem.point_at(place) for place in (*corners, *inside)]
    return min(points, key=lambda point: float(np.max(sample.used(point) / tightening)))
