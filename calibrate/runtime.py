"""How JAX is set up for the command line: one thread a chunk, wide vectors, and compiled programs kept between runs.

Chunks already run on all cores at once; letting the compiler split each small operation over threads as well only makes them
wait for each other. Where the processor has vectors of 512 bits, the compiler would use half of each: with whole ones the
engine takes a quarter less time (benchmarks/README.md). A second start finds its programs in the user's cache folder (JAX's
persistent compilation cache): one folder for each kind of processor, version of JAX and set of flags, since a program that was
compiled for another processor may end in an illegal instruction. JAX's own variables have the last word:
JAX_ENABLE_COMPILATION_CACHE=0 keeps nothing, and JAX_COMPILATION_CACHE_DIR names another folder. Where nothing can be written,
nothing is kept.
"""

import hashlib
import os
import platform
import tempfile
import time
import warnings
import zlib
from importlib.metadata import version
from pathlib import Path

# A file that is younger may still be being written.
_SETTLED_SECONDS = 60.0
_CHECKED = "checked"


def configure() -> None:
    """Set JAX up. Must come before JAX is first used; what the user has set stays."""
    os.environ["XLA_FLAGS"] = with_own_flags(os.environ.get("XLA_FLAGS", ""))
    import jax

    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = program_folder()
        jax.config.update("jax_compilation_cache_dir", str(folder) if _usable(folder) else None)
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    # What cannot be read is compiled again, what cannot be kept is not; neither is the user's business.
    warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation cache")


def with_own_flags(flags: str) -> str:
    """The compiler's flags, with ours where the user has not set the same."""
    wanted = {"xla_cpu_multi_thread_eigen": "false"}
    if "avx512f" in processor().split():
        wanted["xla_cpu_prefer_vector_width"] = "512"
    return " ".join([*flags.split(), *(f"--{name}={value}" for name, value in wanted.items() if name not in flags)])


def program_folder() -> Path:
    """Where compiled programs are kept for this processor, these versions and these flags."""
    import platformdirs

    made_for = (platform.machine(), processor(), os.environ.get("XLA_FLAGS", ""))
    digest = hashlib.sha256("\n".join(made_for).encode()).hexdigest()[:12]
    name = f"jax-{version('jax')}-jaxlib-{version('jaxlib')}-{digest}"
    return platformdirs.user_cache_path("calibrate", appauthor=False) / "programs" / name


def processor() -> str:
    """Model and features of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    told = ("model name", "flags", "features", "cpu part")
    return "\n".join(sorted({line for line in lines if line.partition(":")[0].strip().lower() in told}))


def _usable(folder: Path) -> bool:
    """Whether programs can be kept there; what a process left half written when it was killed is removed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        _remove_broken(folder)
    except OSError:
        return False
    return True


def _remove_broken(folder: Path) -> None:
    """JAX writes a program straight into its place, and never again once there is one. So those that are new since the last
    look are looked through."""
    stamp, until = folder / _CHECKED, time.time() - _SETTLED_SECONDS
    since = stamp.stat().st_mtime if stamp.exists() else 0.0
    for path in folder.glob("*-cache"):
        if since <= path.stat().st_mtime < until and not _whole(path.read_bytes()):
            path.unlink(missing_ok=True)
    stamp.touch()
    os.utime(stamp, (until, until))


def _whole(program: bytes) -> bool:
    """Whether a compressed program can be unpacked; of other compressors than zlib that is not known."""
    if not program:
        return False
    if program[:1] != b"\x78":
        return True
    try:
        zlib.decompress(program)
    except zlib.error:
        return False
    return True
