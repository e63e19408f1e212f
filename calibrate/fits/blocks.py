"""Standard errors by resampling the data in blocks, so that what is alike within a block does not count as independent."""

from collections.abc import Callable

import numpy as np

BOOTSTRAPS = 200


def bootstrap(
    estimate: Callable[[np.ndarray], np.ndarray], blocks: list[np.ndarray], rng: np.random.Generator
) -> np.ndarray:
    """Estimates on resampled data, one row a resample. `estimate` takes row numbers; `blocks` hold those of each block
    (Künsch 1989, with blocks that do not overlap). Where a resample has no answer, `estimate` gives NaN."""
    rows = [rng.integers(len(blocks), size=len(blocks)) for _ in range(BOOTSTRAPS)]
    return np.array([estimate(np.concatenate([blocks[i] for i in chosen])) for chosen in rows])


def standard_errors(resampled: np.ndarray) -> np.ndarray:
    """Standard deviation of each column over the resamples that had an answer."""
    return np.nanstd(resampled, axis=0, ddof=1)


def blocks_of_time(seconds: np.ndarray, length_s: float) -> list[np.ndarray]:
    """Row numbers of consecutive blocks of at least this length, as equal as possible."""
    number = max(int((seconds[-1] - seconds[0]) // length_s), 1)
    edges = np.linspace(seconds[0], seconds[-1], number + 1)[1:-1]
    parts = np.split(np.arange(len(seconds)), np.searchsorted(seconds, edges))
    return [part for part in parts if len(part)]
