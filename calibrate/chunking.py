"""Paths in chunks: how many run at a time, and one chunk after the other.

A step reads and writes all that its paths carry, so a chunk should stay in a cache, and yet be wide enough to hide what starting
a step costs. On a CPU that is a core's own cache and a matter of a few thousand paths, whatever they carry: that is measured. On
a GPU it is the cache that all its processors share, which JAX does not tell; the device's memory, which it does, is some two
thousand times as large (an A100 has 40 MB to 80 GB, an H200 60 MB to 141 GB). Where it tells neither, a small GPU is assumed.

Sizes are powers of two, so that few programs are compiled. What comes of a path does not depend on the chunk that it is in.
"""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from calibrate.pieces import Piece, fingerprint, finite, first_paths
from calibrate.processes import current_crew
from calibrate.shocks import PathIds, path_ids
from calibrate.spread import in_order

# Of a CPU: paths at a time, and of derivatives, of which there are several a path.
CHUNK, _DERIVATIVES = 4096, 512
# Samples that do not give every core such a chunk run in smaller ones, all of one size: two programs are ever compiled for a job.
SMALL_CHUNK = 1024

_MEMORY_TO_CACHE, _SMALL_GPU_BYTES = 2000, 16 << 30


def usual_chunk(paths: int, derivatives: int, path_bytes: Callable[[], int], candidates: int = 1) -> int:
    """Paths at a time on the devices of this process, where `paths` are to be simulated with so many derivatives, under so many
    policies side by side. `path_bytes` tells what a path carries from step to step."""
    crew, devices = current_crew(), jax.local_devices()
    if devices[0].platform == "cpu":
        return _power_of_two(chunk_of_core(candidates * paths, crew.cores, derivatives) // candidates)
    carried = path_bytes() * (1 + derivatives) * candidates
    return chunk_of_gpu(devices[0], paths // (crew.size * len(devices)), carried)


def chunk_of_core(paths: int, cores: int, derivatives: int) -> int:
    """On the cores of all processes together."""
    return _DERIVATIVES if derivatives else CHUNK if paths >= CHUNK * cores else SMALL_CHUNK


def chunk_of_gpu(device: jax.Device, paths: int, path_bytes: int) -> int:
    """On a GPU that is to simulate `paths`, each of which carries so much, with all derivatives."""
    fitting = _memory_bytes(device) // _MEMORY_TO_CACHE // path_bytes
    return max(_power_of_two(min(fitting, paths)), SMALL_CHUNK)


def _memory_bytes(device: jax.Device) -> int:
    return (device.memory_stats() or {}).get("bytes_limit", _SMALL_GPU_BYTES)


def _power_of_two(number: int) -> int:
    """The largest that is no larger than `number`."""
    return 1 << max(number.bit_length() - 1, 0)


# --- one after the other ----------------------------------------------------------------------------------------------------


def numbers_of(paths: int | np.ndarray) -> range | np.ndarray:
    """The numbers of the paths that are asked for."""
    return range(paths) if isinstance(paths, int) else np.asarray(paths)


def in_chunks(
    run: Callable[[PathIds], Any],
    numbers: range | np.ndarray,
    size: int,
    dtype: np.dtype,
    asked: tuple[str, Any],
    on_progress: Callable[[int], None] | None,
) -> Iterator[Piece]:
    """What `run` makes of paths, `size` at a time and in their order; `asked` is all that it depends on but the paths."""

    def chunk_of(k: int) -> np.ndarray:
        # A short last chunk is filled up, so that one compiled program serves all.
        own = np.asarray(numbers[k * size : (k + 1) * size])
        return np.concatenate([own, np.repeat(own[-1:], size - len(own))])

    def make(k: int) -> Piece:
        with jax.enable_x64(dtype == np.float64):
            return finite(first_paths(run(path_ids(chunk_of(k))), min(size, len(numbers) - k * size)))

    def question() -> bytes:
        told = hashlib.blake2b(asked[0].encode(), digest_size=16)
        fingerprint(asked[1], told.update)
        return told.digest()

    def name(k: int) -> bytes:
        return min(size, len(numbers) - k * size).to_bytes(8, "little") + chunk_of(k).tobytes()

    for piece in in_order(make, -(-len(numbers) // size), question, name):
        if on_progress is not None:
            on_progress(piece.paths)
        yield piece
