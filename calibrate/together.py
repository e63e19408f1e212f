"""One command, carried out by several processes: those that are started here, or those that a scheduler started.

Whoever is not first does the same in a place of its own and says nothing; what it came to is thrown away, since the first one has
it too. When one fails, none of them waits for it.
"""

import multiprocessing
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

from calibrate.errors import Problem, raise_all
from calibrate.processes import Crew, cores, current_crew, exchange, join, leave


class Asked(NamedTuple):
    """Which processes are asked for: `local` of them on this machine, or this one as number `process_id` of `process_count` that
    meet at `coordinator`, an address or the word `auto` where a scheduler knows it."""

    local: int = 1
    coordinator: str | None = None
    process_id: int | None = None
    process_count: int | None = None

    def check(self) -> None:
        own = {"--process-id": self.process_id, "--process-count": self.process_count}
        given, problems = [name for name, value in own.items() if value is not None], []
        if self.local > 1 and (self.coordinator or given):
            problems.append(Problem("--processes", "starts processes here; leave it out where --coordinator is given"))
        if self.coordinator in (None, "auto"):
            place = "--coordinator" if self.coordinator is None else "--coordinator auto"
            problems += [Problem(name, f"goes with {place.split()[0]} HOST:PORT; leave it out") for name in given]
        else:
            host, _, port = self.coordinator.rpartition(":")
            if not host or not port.isdigit() or not 0 < int(port) < 65536:
                message = f"found {self.coordinator!r}; expected HOST:PORT, or `auto`"
                problems.append(Problem("--coordinator", message))
            problems += [
                Problem(name, "is missing; --coordinator HOST:PORT needs it")
                for name, value in own.items()
                if value is None
            ]
            if self.process_id is not None and self.process_count is not None and self.process_id >= self.process_count:
                message = f"found {self.process_id}; expected a number from 0 to {self.process_count - 1}, as --process-count says"
                problems.append(Problem("--process-id", message))
        raise_all(problems)


@contextmanager
def together(asked: Asked, main: Callable[[], None], arguments: list[str]) -> Iterator[Crew]:
    """In here, simulations are shared with other processes. Those that are started here run `main` with the same command
    line, the `arguments`, less how many there are."""
    asked.check()
    if asked.local == 1 and asked.coordinator is None:
        yield current_crew()
        return
    helpers: list[BaseProcess] = []
    index, count, coordinator = asked.process_id, asked.process_count, asked.coordinator
    if asked.local > 1:
        index, count, coordinator = 0, asked.local, f"127.0.0.1:{_free_port()}"
        helpers = _started(asked.local, coordinator, main, _less_the_number(arguments))
    try:
        yield join(None if coordinator == "auto" else coordinator, index, count)
        leave()
    except BaseException:
        for helper in helpers:
            helper.terminate()
        raise
    for helper in helpers:
        helper.join()


def _less_the_number(arguments: list[str]) -> list[str]:
    kept, skip = [], False
    for argument in arguments:
        if not skip and argument != "--processes" and not argument.startswith("--processes="):
            kept.append(argument)
        skip = argument == "--processes"
    return kept


def _started(count: int, coordinator: str, main: Callable[[], None], arguments: list[str]) -> list[BaseProcess]:
    """Processes 1, 2, ... `count` - 1, each on cores of its own, as this one is from here on."""
    own = cores()
    context = multiprocessing.get_context("spawn")
    helpers: list[BaseProcess] = []
    for k in range(1, count):
        which = ["--coordinator", coordinator, "--process-id", str(k), "--process-count", str(count)]
        helpers.append(context.Process(target=_help, args=(main, [*arguments, *which], k, count), daemon=True))
        helpers[-1].start()
    _keep_to(0, count, own)
    return helpers


def _help(main: Callable[[], None], arguments: list[str], k: int, count: int) -> None:
    """What a process that was started here does: what the command line does."""
    # An interruption is for the first process, which ends the others; they then unwind too.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    _keep_to(k, count, cores())
    sys.argv[1:] = arguments
    main()


def _keep_to(k: int, count: int, own: int) -> None:
    """Use the k-th of `count` parts of the cores."""
    if hasattr(os, "sched_setaffinity") and own >= count:
        available = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, available[k * own // count : (k + 1) * own // count])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def place_of(target: Path) -> Iterator[tuple[Path, Path]]:
    """The folder that the first process is to write, which all agree on; and where this one writes."""
    crew = current_crew()
    if crew.size == 1:
        yield target, target
        return
    agreed = Path(exchange(b"folder".ljust(16), os.fsencode(target))[0].decode())
    if crew.leads:
        yield agreed, agreed
        return
    with tempfile.TemporaryDirectory() as scratch:
        yield agreed, Path(scratch) / "run"
