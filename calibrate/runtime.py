"""How JAX is set up for the command line: compiled programs are kept between runs, so that the second start is quick."""

import os
from importlib.metadata import version
from pathlib import Path


def configure() -> None:
    """Keep compiled programs in the user's cache folder, one for each version of the compiler."""
    import jax

    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    jax.config.update("jax_compilation_cache_dir", str(home / "calibrate" / f"xla-{version('jaxlib')}"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
