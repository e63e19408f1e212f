"""The package as a stranger gets it: a wheel, a fresh environment, the quickstart."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return next(folder.glob("calibrate-*.whl"))


def test_the_wheel_carries_models_jobs_and_nothing_of_the_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for expected in ("models/eth-usd.toml", "models/btc-usd.toml", "configs/eth-perp.toml", "configs/quickstart.toml"):
        assert f"calibrate/shipped/{expected}" in names
    tables = [name for name in names if name.endswith((".parquet", ".csv", ".gz"))]
    assert tables == ["calibrate/shipped/data/made-up-candles.csv"]
    assert not [name for name in names if "tests" in name]
    assert "calibrate/venues/hyperliquid.toml" in names


def test_a_wheel_in_a_fresh_environment_runs_the_quickstart(wheel: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--system-site-packages", str(tmp_path / "env")], check=True)
    python = tmp_path / "env" / "bin" / "python"
    # The libraries are those of the environment that runs the tests; the package itself comes from the wheel alone.
    here = next(path for path in sys.path if path.endswith("site-packages"))
    (next((tmp_path / "env" / "lib").glob("python*/site-packages")) / "libraries.pth").write_text(here + "\n")
    install = [
        str(python),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--force-reinstall",
        str(wheel),
    ]
    subprocess.run(install, check=True, capture_output=True)

    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(python), "-m", "calibrate", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=600,
            env=alone,
        )

    location = subprocess.run(
        [str(python), "-c", "import calibrate; print(calibrate.__file__)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=alone,
    )
    assert str(tmp_path) in location.stdout
    assert run("init", "start").returncode == 0
    finished = run("run", "start/configs/quickstart.toml", "-o", "first")
    assert finished.returncode == 0, finished.stderr
    assert "certified" in finished.stdout
    for name in ("recommended.json", "metrics.json", "frontier.csv", "frontier.parquet", "report.html", "run.toml"):
        assert (tmp_path / "first" / name).stat().st_size > 0
