"""Compiled programs are found again by the next process that can use them, and cost nobody a run."""

import json
import os
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest
import small_job

import calibrate
from calibrate import runtime

# Runs the command line, and says on the last line of stderr how often a program was found and how often it was not.
COUNTING = """
import collections, sys
import jax
from calibrate import cli
seen = collections.Counter()
jax.monitoring.register_event_listener(lambda event, **_: seen.update([event.rpartition("/")[2]]))
try:
    cli.main()
finally:
    print(seen["cache_hits"], seen["cache_misses"], file=sys.stderr)
"""
SETTINGS = """
import json
from calibrate.runtime import configure
configure()
import jax
names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs", "jax_enable_compilation_cache")
print(json.dumps([getattr(jax.config, name) for name in names]))
"""


def answered(code: str, *arguments: str, **environment: str) -> tuple[str, str]:
    """What a process of its own prints on stdout and stderr."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    own = kept | {"PYTHONPATH": str(Path(calibrate.__file__).parents[1])} | environment
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=own, capture_output=True, text=True, timeout=300, check=True
    )
    return done.stdout, done.stderr


def test_a_second_process_finds_every_program_and_says_the_same(tmp_path: Path) -> None:
    job = small_job.write(tmp_path)
    found = [answered(COUNTING, "simulate", str(job), "--json", XDG_CACHE_HOME=str(tmp_path)) for _ in range(2)]
    (first, first_talk), (second, second_talk) = found
    hits, misses = ([int(word) for word in talk.splitlines()[-1].split()] for talk in (first_talk, second_talk))
    assert hits[0] == 0
    assert hits[1] > 0
    assert misses == [hits[1], 0], "hits, misses"
    assert json.loads(first) == json.loads(second)


def test_what_the_user_has_set_stays(tmp_path: Path) -> None:
    own = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "7"}
    out, _ = answered(SETTINGS, **own, JAX_ENABLE_COMPILATION_CACHE="0")
    assert json.loads(out) == [str(tmp_path), 7.0, False]


@pytest.mark.parametrize("features", ["fma avx2", "avx2 avx512f avx512vl"])
def test_vectors_are_as_wide_as_the_processor_has_them_unless_the_user_says_otherwise(
    features: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "processor", lambda: f"flags\t\t: {features}\nmodel name\t: any")
    wide = ["--xla_cpu_prefer_vector_width=512"] if "avx512f" in features else []
    assert runtime.with_own_flags("").split() == ["--xla_cpu_multi_thread_eigen=false", *wide]
    own = "--xla_dump_to=x --xla_cpu_prefer_vector_width=128 --xla_cpu_multi_thread_eigen=true"
    assert runtime.with_own_flags(own) == own


def test_where_nothing_can_be_written_nothing_is_kept_and_nothing_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    out, err = answered(SETTINGS, XDG_CACHE_HOME=str(tmp_path / "file"))
    assert json.loads(out)[0] is None
    assert err == ""


def test_programs_are_kept_apart_by_processor_and_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", "")
    plain = runtime.program_folder()
    assert runtime.program_folder() == plain
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
    flagged = runtime.program_folder()
    monkeypatch.setattr(runtime, "processor", lambda: "flags: none of them")
    other = runtime.program_folder()
    assert len({plain, flagged, other}) == 3


def test_half_written_programs_are_removed_once_and_whole_ones_stay(tmp_path: Path) -> None:
    program = zlib.compress(bytes(range(256)) * 40)
    contents = {
        "whole-cache": program,
        "half-cache": program[:-9],
        "empty-cache": b"",
        "being-written-cache": program[:9],
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        age = 0 if name.startswith("being") else 300
        os.utime(tmp_path / name, (time.time() - age, time.time() - age))
    assert runtime._usable(tmp_path)
    assert {path.name for path in tmp_path.glob("*-cache")} == {"whole-cache", "being-written-cache"}
    # What was looked through is not looked through again, and what was new then is now.
    os.utime(tmp_path / "whole-cache", (time.time() - 300, time.time() - 300))
    (tmp_path / "whole-cache").write_bytes(b"")
    os.utime(tmp_path / "whole-cache", (time.time() - 300, time.time() - 300))
    assert runtime._usable(tmp_path)
    assert (tmp_path / "whole-cache").exists()
