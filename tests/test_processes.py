"""Several processes make what one would have made; when one is lost, none waits for it."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import small_job

import calibrate.simulate as engine
from calibrate.errors import UserError
from calibrate.spread import _packed, _unpacked, in_order
from calibrate.together import Asked, _less_the_number

ROOT = Path(engine.__file__).parents[1]


# --- what is asked for ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "asked",
    [Asked(), Asked(4), Asked(1, "auto"), Asked(1, "node1:1234", 0, 2), Asked(1, "[::1]:65535", 1, 2)],
)
def test_what_makes_sense_is_accepted(asked: Asked) -> None:
    asked.check()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Asked(2, "node:1", 0, 2), ["--processes: starts processes here"]),
        (Asked(1, None, 0, 2), ["--process-id: goes with --coordinator", "--process-count: goes with --coordinator"]),
        (Asked(1, "auto", 0), ["--process-id: goes with --coordinator HOST:PORT; leave it out"]),
        (Asked(1, "node", None, 2), ["--coordinator: found 'node'; expected HOST:PORT", "--process-id: is missing"]),
        (Asked(1, "node:99999", 0, 2), ["--coordinator: found 'node:99999'"]),
        (Asked(1, "node:99", 2, 2), ["--process-id: found 2; expected a number from 0 to 1"]),
    ],
)
def test_what_makes_no_sense_is_told_all_at_once(asked: Asked, said: list[str]) -> None:
    with pytest.raises(UserError) as raised:
        asked.check()
    found = [str(problem) for problem in raised.value.problems]
    assert len(found) == len(said)
    for line, start in zip(found, said, strict=True):
        assert line.startswith(start)


@pytest.mark.parametrize("number", [["--processes", "2"], ["--processes=2"]])
def test_who_is_started_is_not_told_to_start_others(number: list[str]) -> None:
    assert _less_the_number(["run", "2", *number, "--json"]) == ["run", "2", "--json"]


# --- chunks ---------------------------------------------------------------------------------------------------------------


def test_chunks_come_in_their_order_and_few_are_ahead() -> None:
    made: list[int] = []

    def make(k: int) -> engine.Piece:
        made.append(k)
        return engine.Piece({"number": np.array([k])}, {}, {})

    ahead = []
    for number, piece in enumerate(in_order(make, 500, bytes, bytes)):
        assert piece.values["number"].tolist() == [number]
        ahead.append(len(made) - number)
    assert sorted(made) == list(range(500))
    # A memory bounded by the chunk: three in hand for each thread, besides those at work.
    assert max(ahead) <= 5 * (os.cpu_count() or 1) + 2


def test_what_is_exchanged_arrives_to_the_bit() -> None:
    pieces = [engine.Piece({"x": np.arange(n, dtype=np.float32)}, {}, {}) for n in (3, 1)]
    again = _unpacked(_packed(pieces))
    assert [piece.values["x"].tolist() for piece in again] == [[0, 1, 2], [0]]
    assert _unpacked(_packed([])) == []


# --- real processes -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    cache = str(tmp_path_factory.mktemp("cache"))
    return os.environ | {"XDG_CACHE_HOME": cache, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_job.write(tmp_path_factory.mktemp("job"))


def started(environment: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "calibrate", *arguments]
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def both(environment: dict[str, str], job: Path, *sets: list[str]) -> list[subprocess.Popen[str]]:
    """Two processes that are told of each other, as on two machines; `sets` are the overrides of each."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    return [
        started(
            environment, "simulate", str(job), "--json", *mine,
            "--coordinator", address, "--process-id", str(k), "--process-count", "2",
        )
        for k, mine in enumerate(sets)
    ]  # fmt: skip


def test_two_processes_give_the_answer_of_one(environment: dict[str, str], job: Path) -> None:
    """To the bit, since they exchange what each path came to; and stdout holds nothing else."""
    alone = started(environment, "simulate", str(job), "--json")
    expected, err = alone.communicate(timeout=240)
    assert alone.returncode == 0, err
    pair = started(environment, "simulate", str(job), "--json", "--processes", "2")
    found, err = pair.communicate(timeout=240)
    assert pair.returncode == 0, err
    assert json.loads(found) == json.loads(expected)
    assert err.count("simulating") == 1, "one of them talks"


def test_a_lost_process_ends_the_others_with_a_message(environment: dict[str, str], job: Path) -> None:
    many = ["--set", "simulation.paths=4e8"]
    first, second = both(environment, job, many, many)
    assert first.stderr is not None
    while "simulating" not in first.stderr.readline():
        assert first.poll() is None
    second.send_signal(signal.SIGKILL)
    _, err = first.communicate(timeout=120)
    second.communicate()
    assert first.returncode == 2, err
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert "one of the 2 processes was lost" in line
    assert "Start all of them again" in line


def test_processes_with_different_jobs_do_not_go_on(environment: dict[str, str], job: Path) -> None:
    pair = both(environment, job, [], ["--set", "policy.penalty_bps=90"])
    for process in pair:
        out, err = process.communicate(timeout=240)
        assert process.returncode == 2, err
        assert out == ""
        # The first to see it ends, and may be lost to the other before that one sees it too.
        assert "went different ways" in err or "was lost" in err
