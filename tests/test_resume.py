"""A run that is killed goes on where it stopped, and ends in the same result."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import small_job
from venues import EVERYTHING_ON, LONGS_AND_SHORTS, Case

import calibrate.simulate as engine
from calibrate.checkpoint import Store, kept_in
from calibrate.errors import UserError
from calibrate.job import LoadedJob, load_job
from calibrate.pieces import Piece, fingerprint, from_bytes, to_bytes
from calibrate.processes import LostProcess
from calibrate.resume import resumable, run_folder_for
from calibrate.run_folder import unfinished
from calibrate.simulate import simulate

ROOT = Path(engine.__file__).parents[1]
RESULTS = ("frontier.csv", "frontier.json", "frontier.svg")


# --- chunks ---------------------------------------------------------------------------------------------------------------


def a_piece() -> Piece:
    return Piece(
        {"distance": np.array([1.0, -0.0, np.nan], np.float32)},
        {"distance": np.arange(6.0).reshape(3, 2)},
        {"returns": np.zeros((4, 3)), "weight": np.array([0.5, 1e-300, 2.0])},
    )


def test_a_piece_reads_back_to_the_bit() -> None:
    piece, read = a_piece(), from_bytes(to_bytes(a_piece()))
    for part, again in zip(piece, read, strict=True):
        assert list(part) == list(again)
        for name, array in part.items():
            assert (again[name].dtype, again[name].shape) == (array.dtype, array.shape)
            assert again[name].tobytes() == array.tobytes()


def test_what_was_kept_is_found_under_its_own_name_only(tmp_path: Path) -> None:
    store = Store(tmp_path, b"job")
    store.keep(b"first", a_piece())
    assert store.recall(b"first") is not None
    assert store.recall(b"second") is None
    assert Store(tmp_path, b"another job").recall(b"first") is None


@pytest.mark.parametrize("harm", ["cut short", "changed", "emptied"])
def test_a_chunk_that_was_harmed_counts_as_missing(harm: str, tmp_path: Path) -> None:
    store = Store(tmp_path, b"job")
    store.keep(b"first", a_piece())
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    flipped = bytes([content[200] ^ 1])
    path.write_bytes(
        {"cut short": content[:-20], "changed": content[:200] + flipped + content[201:], "emptied": b""}[harm]
    )
    assert store.recall(b"first") is None


def test_a_disk_that_is_full_costs_no_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    Store(tmp_path / "file" / "below", b"job").keep(b"first", a_piece())


def print_of(tree: object) -> str:
    told = hashlib.sha256()
    fingerprint(tree, told.update)
    return told.hexdigest()


def test_whatever_a_chunk_depends_on_is_part_of_its_name() -> None:
    case = Case(EVERYTHING_ON, LONGS_AND_SHORTS, 12, np.float32)
    scenario, parameters = case.scenario(), case.parameters()
    policy = parameters.policy
    others = [
        (scenario, parameters._replace(policy=policy._replace(base_margin=policy.base_margin * np.float32(1 + 1e-6)))),
        (Case(EVERYTHING_ON, LONGS_AND_SHORTS, 13, np.float32).scenario(), parameters),
        (Case(EVERYTHING_ON, LONGS_AND_SHORTS, 12, np.float64).scenario(), parameters),
    ]
    assert print_of((scenario, parameters)) == print_of((case.scenario(), case.parameters()))
    assert len({print_of(other) for other in [(scenario, parameters), *others]}) == 4
    assert print_of({"a": jnp.zeros(2)}) != print_of({"a": jnp.zeros((2, 1))}) != print_of({"b": jnp.zeros((2, 1))})


def test_nothing_is_simulated_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sample whose every other chunk is known is the same to the bit, and the rest alone is simulated."""
    case, made = Case(EVERYTHING_ON, LONGS_AND_SHORTS, 12, np.float32), []
    compiled = engine._compiled
    monkeypatch.setattr(engine, "_compiled", lambda *asked: made.append(1) or compiled(*asked))

    def sample(seed: int = 1) -> bytes:
        values = simulate(case.scenario(), case.parameters(), seed=seed, paths=300, chunk=64).values
        return b"".join(values[name].tobytes() for name in values)

    expected = sample()
    with kept_in(Store(tmp_path, b"")):
        assert sample() == expected
        assert len(made) == 10
        for path in sorted(tmp_path.iterdir())[::2]:
            path.unlink()
        assert sample() == expected
        assert len(made) == 13
        assert sample() == expected
        assert sample(seed=2) != expected
        assert len(made) == 18


# --- folders --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> LoadedJob:
    return load_job(small_job.write(tmp_path_factory.mktemp("job")))


def begun(target: Path, job: LoadedJob) -> None:
    """A run that was interrupted after its first chunk."""
    with (  # noqa: PT012
        pytest.raises(KeyboardInterrupt, match="--resume goes on from here"),
        resumable(target, "run", job, resume=False) as store,
    ):
        store.keep(b"first", a_piece())
        raise KeyboardInterrupt


def test_an_unfinished_run_is_told_and_gone_on_with(job: LoadedJob, tmp_path: Path) -> None:
    target = tmp_path / "run"
    begun(target, job)
    with pytest.raises(UserError, match="add --resume to go on with it, or remove it"):
        resumable(target, "run", job, resume=False).__enter__()
    with resumable(target, "run", job, resume=True) as store:
        assert store.recall(b"first") is not None
    assert list(tmp_path.iterdir()) == []


def test_the_newest_unfinished_run_is_found_without_its_name(
    job: LoadedJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no unfinished run to go on with: there is none"):
        run_folder_for(job, "run", None, resume=True).__enter__()
    for name in ("small-20260101-000000", "small-20260102-000000"):
        begun(Path("runs") / name, job)
    with run_folder_for(job, "run", None, resume=True) as folder:
        assert folder == Path("runs/small-20260102-000000")
    other = job.model_copy(update={"overrides": ["simulation.seed=8"]})
    with pytest.raises(UserError, match="none of the 1 unfinished runs there is of this job as it stands"):
        run_folder_for(other, "run", None, resume=True).__enter__()


def test_another_job_does_not_go_on_with_it(job: LoadedJob, tmp_path: Path) -> None:
    target = tmp_path / "run"
    begun(target, job)
    other = job.model_copy(update={"overrides": ["simulation.seed=8"]})
    with pytest.raises(UserError, match="was begun with another overrides; choose another --output, or remove it"):
        resumable(target, "run", other, resume=True).__enter__()
    with pytest.raises(UserError, match="was begun with another command"):
        resumable(target, "frontier", job, resume=True).__enter__()
    assert unfinished(target).is_dir()


@pytest.mark.parametrize(
    ("stop", "kept"),
    [(KeyboardInterrupt(), True), (LostProcess("gone"), True), (UserError("mend it"), False), (MemoryError(), True)],
    ids=lambda value: type(value).__name__,
)
def test_only_what_the_same_command_can_use_is_kept(
    stop: BaseException, kept: bool, job: LoadedJob, tmp_path: Path
) -> None:
    target = tmp_path / "deep" / "run"
    for chunks in (0, 1):
        with pytest.raises(type(stop)), resumable(target, "run", job, resume=False) as store:  # noqa: PT012
            if chunks:
                store.keep(b"first", a_piece())
            raise stop
        assert unfinished(target).is_dir() == (kept and chunks == 1)
        assert target.parent.is_dir() == (kept and chunks == 1), "folders that were made for it go with it"


# --- killed ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    cache = str(tmp_path_factory.mktemp("cache"))
    return os.environ | {"XDG_CACHE_HOME": cache, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}


def frontier(folder: Path, environment: dict[str, str], *more: str) -> subprocess.Popen[str]:
    sets = ("--set", "frontier.points=2", "--set", "frontier.paths=20_480")
    command = [sys.executable, "-m", "calibrate", "frontier", str(folder / "small.toml"), *sets, *more]
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def chunks_in(target: Path) -> int:
    folder = unfinished(target) / "chunks"
    return sum(1 for _ in folder.iterdir()) if folder.is_dir() else 0


def test_a_run_that_is_killed_again_and_again_ends_as_if_it_never_was(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    """SIGKILL at two moments drawn at random, by how many chunks are finished: of a run that begins and of one that goes on."""
    small_job.write(tmp_path)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    process = frontier(tmp_path, environment, "-o", str(whole))
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    rng = np.random.default_rng(int(os.environ.get("CALIBRATE_SEED", "5")))
    for number in range(2):
        until = chunks_in(killed) + int(rng.integers(1, 15))
        process = frontier(tmp_path, environment, "-o", str(killed), *(["--resume"] if number else []))
        deadline = time.monotonic() + 200
        while chunks_in(killed) < until and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "the run was over before it was killed"
        assert not killed.exists()
    process = frontier(tmp_path, environment, "-o", str(killed), "--resume")
    again, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    for name in RESULTS:
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
    assert again.replace(str(killed), str(whole)) == out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["killed", "small.toml", "whole"]
