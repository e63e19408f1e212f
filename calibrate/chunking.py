"""How many paths run at a time.

A step reads and writes all that its paths carry, so a chunk should stay in a cache, and yet be wide enough to hide what starting
a step costs. On a CPU that is a core's own cache and a matter of a few thousand paths, whatever they carry: that is measured. On
a GPU it is the cache that all its processors share, which JAX does not tell; the device's memory, which it does, is some two
thousand times as large (an A100 has 40 MB to 80 GB, an H200 60 MB to 141 GB). Where it tells neither, a small GPU is assumed.

Sizes are powers of two, so that few programs are compiled. What comes of a path does not depend on the chunk that it is in.
"""

from collections.abc import Callable

import jax

from calibrate.processes import current_crew

# Of a CPU: paths at a time, and of derivatives, of which there are several a path.
CHUNK, _DERIVATIVES = 4096, 512
# Samples that do not give every core such a chunk run in smaller ones, all of one size: two programs are ever compiled for a job.
SMALL_CHUNK = 1024

_MEMORY_TO_CACHE, _SMALL_GPU_BYTES = 2000, 16 << 30


def usual_chunk(paths: int, derivatives: int, path_bytes: Callable[[], int]) -> int:
    """Paths at a time on the devices of this process, where `paths` are to be simulated with so many derivatives. `path_bytes`
    tells what a path carries from step to step."""
    crew, devices = current_crew(), jax.local_devices()
    if devices[0].platform == "cpu":
        return chunk_of_core(paths, crew.cores, derivatives)
    return chunk_of_gpu(devices[0], paths // (crew.size * len(devices)), path_bytes() * (1 + derivatives))


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
