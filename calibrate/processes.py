"""Several processes, on one machine or many, that make one run together.

Every process goes the same line. Of each simulation it does its share of the chunks, and all exchange what theirs came to, so
that all hold the same sample, to the bit, and come to the same next question: nothing else has to be told to anyone. What is
asked is compared at every exchange; processes that were started with different jobs, versions or files cannot go on together.
Process 0 writes the results and talks.

JAX's distributed runtime finds the processes (Slurm, Kubernetes and Open MPI by itself), notices when one is lost, and carries
the exchange, over the CPUs whatever device simulates.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from calibrate.errors import UserError

# How long until a process that gives no sign of life counts as lost, and until one that never came does.
_LOST_SECONDS, _ABSENT_SECONDS = 30, 300
_HASH_BYTES = 16


class LostProcess(UserError):
    """A process that takes part is gone. What was simulated is not lost with it."""


class Crew(NamedTuple):
    """Which of how many processes this one is, how many threads it runs, and how many cores all have together."""

    number: int
    size: int
    threads: int
    cores: int

    @property
    def leads(self) -> bool:
        return self.number == 0


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_CREW: ContextVar[Crew | None] = ContextVar("crew", default=None)


def current_crew() -> Crew:
    """The processes that this one works with; by itself, if it has joined none."""
    return _CREW.get() or Crew(0, 1, cores(), cores())


def join(coordinator: str | None, index: int | None, count: int | None) -> Crew:
    """Meet the other processes at the coordinator's address, HOST:PORT, or as the scheduler that started them all says. Must
    come before JAX is first used."""
    try:
        jax.distributed.initialize(
            coordinator,
            count,
            index,
            cluster_detection_method=None if coordinator is None else "deactivate",
            initialization_timeout=_ABSENT_SECONDS,
            heartbeat_timeout_seconds=_LOST_SECONDS,
            shutdown_timeout_seconds=_LOST_SECONDS,
        )
    except (RuntimeError, ValueError) as error:
        raise UserError(_why_not_met(coordinator, error)) from None
    crew = Crew(jax.process_index(), jax.process_count(), cores(), cores())
    with _quietly():
        # Chunks must be cut alike everywhere, so all count the cores of all.
        counted = _gathered(np.array([crew.cores], np.int64), crew)
    crew = crew._replace(cores=sum(int(own[0]) for own in counted))
    _CREW.set(crew)
    return crew


@contextmanager
def _quietly() -> Iterator[None]:
    """The library that connects the processes says so on stdout, where only results belong."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def leave() -> None:
    """Part from the others, once all are done."""
    _CREW.set(None)
    jax.distributed.shutdown()


def _why_not_met(coordinator: str | None, error: Exception) -> str:
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if coordinator is None:
        return (
            f"the processes could not be found out from Slurm, Kubernetes or Open MPI ({first}); "
            "give --coordinator HOST:PORT, --process-id and --process-count"
        )
    return (
        f"not all processes met at {coordinator} within {_ABSENT_SECONDS} seconds ({first}); check that all of them were "
        "started, with the same --process-count, a --process-id of their own, and an address that all can reach"
    )


def exchange(question: bytes, answer: bytes) -> list[bytes]:
    """The answers of all processes to the same question, in their order."""
    crew = current_crew()
    heads = _gathered(np.frombuffer(question[:_HASH_BYTES] + np.int64(len(answer)).tobytes(), np.uint8), crew)
    asked = {head[:_HASH_BYTES].tobytes() for head in heads}
    if len(asked) > 1:
        raise UserError(
            f"the {crew.size} processes went different ways: they must be started with the same job, options and inputs, and "
            "the same versions of everything"
        )
    sizes = [int(np.frombuffer(head[_HASH_BYTES:].tobytes(), np.int64)[0]) for head in heads]
    # Of few different sizes, since one program is compiled for each.
    padded = np.zeros(1 << (max(*sizes, 1) - 1).bit_length(), np.uint8)
    padded[: len(answer)] = np.frombuffer(answer, np.uint8)
    return [row[:size].tobytes() for row, size in zip(_gathered(padded, crew), sizes, strict=True)]


def _gathered(mine: np.ndarray, crew: Crew) -> Sequence[np.ndarray]:
    """One row of bytes of each process."""
    row = np.frombuffer(mine.tobytes(), np.uint8)[None]
    devices = [next(d for d in jax.devices("cpu") if d.process_index == k) for k in range(crew.size)]
    mesh = Mesh(np.array(devices), ("process",))
    spread = NamedSharding(mesh, PartitionSpec("process"))
    here = jax.device_put(row, devices[crew.number])
    rows = jax.make_array_from_single_device_arrays((crew.size, row.shape[1]), spread, [here])
    try:
        whole = np.asarray(_everywhere(mesh)(rows).addressable_data(0))
    except (RuntimeError, ValueError) as error:  # which one depends on the version of JAX
        first = str(error).strip().splitlines()[0]
        raise LostProcess(
            f"one of the {crew.size} processes was lost ({first}); its own last words say why. Start all of them again"
        ) from None
    return [one.view(mine.dtype) for one in whole]


def _everywhere(mesh: Mesh):  # type: ignore[no-untyped-def]
    return jax.jit(_same, out_shardings=NamedSharding(mesh, PartitionSpec()))


def _same(rows: jax.Array) -> jax.Array:
    return rows
