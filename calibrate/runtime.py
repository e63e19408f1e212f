"""How JAX is set up for the command line: one thread a chunk, and compiled programs kept between runs.

Chunks already run on all cores at once; letting the compiler split each small operation over threads as well only makes them
wait for each other. A second start finds its programs in the user's cache folder.
"""

import os
from importlib.metadata import version
from pathlib import Path


def configure() -> None:
    """Set JAX up. Must come before JAX is first used; what the user has set stays."""
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_cpu_multi_thread_eigen" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()
    import jax

    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    jax.config.update("jax_compilation_cache_dir", str(home / "calibrate" / f"xla-{version('jaxlib')}"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
