"""Test settings: slow tests on request, real market data where it is, and strict JAX."""

import os
from pathlib import Path

import jax
import pytest

jax.config.update("jax_numpy_dtype_promotion", "standard")
jax.config.update("jax_debug_key_reuse", True)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests that take minutes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow"):
        return
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="takes minutes; run with --slow"))


@pytest.fixture(scope="session")
def market_data() -> Path:
    """The folder of real market data, which is not part of the project."""
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("CALIBRATE_MARKET_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no market data at {folder}; set CALIBRATE_MARKET_DATA")
    return folder
