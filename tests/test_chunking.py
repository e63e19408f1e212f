"""How many paths run at a time: what a cache holds, on devices that only say how much memory they have."""

from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from venues import EVERYTHING_ON, LONGS_AND_SHORTS, Case

from calibrate import chunking
from calibrate.chunking import CHUNK, SMALL_CHUNK, chunk_of_core, chunk_of_gpu, usual_chunk
from calibrate.simulate import simulate


class Gpu(NamedTuple):
    """A device of which only the memory is known, or not even that."""

    memory: int | None
    platform: str = "gpu"

    def memory_stats(self) -> dict[str, Any] | None:
        return None if self.memory is None else {"bytes_limit": self.memory}


MANY = 10**7


@pytest.mark.parametrize(
    ("memory", "path_bytes", "expected"),
    [(2000 * 4096 * 300, 300, 4096), (2000 * 4096 * 300 - 2000, 300, 2048), (141 << 30, 300, 2**17)],
)
def test_a_chunk_is_the_largest_power_of_two_whose_state_fits_the_cache(
    memory: int, path_bytes: int, expected: int
) -> None:
    assert chunk_of_gpu(Gpu(memory), MANY, path_bytes) == expected  # type: ignore[arg-type]
    assert chunk_of_gpu(Gpu(memory), expected, path_bytes) == expected, "as many paths as fit are one chunk"  # type: ignore[arg-type]


@pytest.mark.parametrize("memory", [8 << 30, 80 << 30, 141 << 30, None])
@pytest.mark.parametrize("paths", [1, 1500, 150_000, MANY])
def test_no_chunk_is_larger_than_the_sample_nor_below_the_smallest(memory: int | None, paths: int) -> None:
    size = chunk_of_gpu(Gpu(memory), paths, 300)  # type: ignore[arg-type]
    assert SMALL_CHUNK <= size <= max(paths, SMALL_CHUNK)
    assert size.bit_count() == 1


def test_on_a_cpu_a_chunk_is_what_was_measured_to_be_fast() -> None:
    assert chunk_of_core(CHUNK * 2, 2, 0) == CHUNK
    assert chunk_of_core(CHUNK * 2 - 1, 2, 0) == SMALL_CHUNK, "every core should get some"
    assert chunk_of_core(MANY, 2, 3) < SMALL_CHUNK, "derivatives come on top"


def test_the_engine_asks_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """The chunk follows from what a path carries: some forty numbers of four bytes, a few of them for each of two cohorts. What
    comes of a path does not depend on it."""
    case = Case(EVERYTHING_ON, LONGS_AND_SHORTS, 24, np.float32)
    chosen: list[tuple[int, int]] = []

    def chunk(device: Any, paths: int, path_bytes: int) -> int:
        chosen.append((path_bytes, chunk_of_gpu(device, paths, path_bytes)))
        return chosen[-1][1]

    def distances() -> np.ndarray:
        sample = simulate(case.scenario(), case.parameters(), seed=1, paths=3000, fields=("distance",))
        return sample.values["distance"]

    on_cpu = distances()
    monkeypatch.setattr(jax, "local_devices", lambda: [Gpu(2000 * 2100 * 200)])
    monkeypatch.setattr(chunking, "chunk_of_gpu", chunk)
    np.testing.assert_allclose(distances(), on_cpu, rtol=2e-5, atol=2e-7)
    [(carried, size)] = chosen
    assert 100 < carried < 400
    assert size == (2048 if carried <= 200 else SMALL_CHUNK)


def test_derivatives_and_other_devices_take_their_share(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Gpu(2000 * 8192 * 200)
    monkeypatch.setattr(jax, "local_devices", lambda: [gpu])
    assert usual_chunk(MANY, 0, lambda: 200) == 8192
    assert usual_chunk(MANY, 3, lambda: 200) == 2048, "three derivatives carry three times as much again"
    monkeypatch.setattr(jax, "local_devices", lambda: [gpu, gpu])
    assert usual_chunk(8192, 0, lambda: 200) == 4096, "each of two devices gets a chunk"
