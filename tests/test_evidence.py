"""What a delegate does with a run: verifies it, and compares its policy with another."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import small_job

from calibrate import pipeline
from calibrate.errors import UserError
from calibrate.evidence import compare_policies, recorded_job, verify
from calibrate.job import load_job
from calibrate.pipeline import run
from calibrate.progress import Silent
from calibrate.terminal import verification_verdict

# The market of the small job, in a file of its own.
MODEL = '[model]\nfamily = "constant"\n[parameters]\nvolatility = 1.0\ndrift = 0.0\n'


@pytest.fixture(scope="module", autouse=True)
def unreported() -> Iterator[None]:
    """What is verified is in the record; figures and report take longer than the run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "build_report", lambda folder: folder)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run folder and the job that it came from, with a model file beside it."""
    folder = tmp_path_factory.mktemp("evidence")
    (folder / "mine.toml").write_text(MODEL, encoding="utf-8")
    text = small_job.TEXT.replace("volatility = 1.0\n\n[oracle]", 'model = "mine.toml"\n\n[oracle]')
    job = small_job.write(folder, text.replace("insolvency_probability = 0.1", "insolvency_probability = 0.3"))
    result = run(load_job(job, ["simulation.seed=9"]), folder / "run", Silent())
    assert result.status == "certified"
    return result.folder, job


@pytest.fixture
def copied(finished: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished[0], tmp_path / "run"))


def changed(run_folder: Path, change: Callable[[dict], None]) -> Path:
    path = run_folder / "recommended.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")
    return run_folder


def test_a_run_is_verified_from_its_record(finished: tuple[Path, Path]) -> None:
    folder, job = finished
    assert recorded_job(folder, job.parent).job == load_job(job, ["simulation.seed=9"]).job
    found = verify(folder, job.parent, Silent())
    assert found.agrees
    assert [row.name for row in found.rows] == ["insolvency_probability"]
    assert found.rows[0].again == found.rows[0].recorded
    assert verification_verdict(found).startswith("verified")


def make_safer(content: dict) -> None:
    content["certificate"]["constraints"][0]["value"] *= 0.9


def loosen(content: dict) -> None:
    content["certificate"]["constraints"][0]["limit"] *= 2


def choose_paths(content: dict) -> None:
    content["certificate"]["seed"] += 1


def another_policy(content: dict) -> None:
    content["policy"]["base_margin_bps"]["value"] += 100


def claim_more(content: dict) -> None:
    content["certificate"]["confidence"] = 0.9999


def lose_a_figure(content: dict) -> None:
    content["certificate"]["constraints"][0]["upper"] = None


@pytest.mark.parametrize("change", [make_safer, loosen, choose_paths, another_policy, claim_more, lose_a_figure])
def test_a_record_that_was_changed_is_not_verified(
    change: Callable[[dict], None], copied: Path, finished: tuple[Path, Path]
) -> None:
    found = verify(changed(copied, change), finished[1].parent, Silent())
    assert not found.agrees
    assert verification_verdict(found).startswith("not verified")


def test_weighted_evidence_is_made_again_to_the_digit(tmp_path: Path) -> None:
    """Drawn from where losses are: the way of drawing is learned again from the seed, and the figures are the same."""
    job = small_job.write(tmp_path)
    changes = ["simulation.sampling='importance'", "constraints.insolvency_probability=0.02"]
    result = run(load_job(job, changes), tmp_path / "run", Silent())
    assert result.status == "certified"
    certificate = result.recommended["certificate"]
    assert certificate["sampling"] == "importance"
    assert certificate["gain"] > 1
    (limit,) = certificate["constraints"]
    assert limit["diagnosis"]["effective_paths"] > 100
    assert limit["shadow_price"] > 0
    assert result.recommended["limits_doubled"]["more_leverage"] > 0
    forces = [
        row["a_tenth_more_forces"]["margin_percent"]
        for row in result.recommended["sensitivities"]
        if row["parameter"] == "volatility level"
    ]
    assert forces[0] > 0
    found = verify(tmp_path / "run", tmp_path, Silent())
    assert found.agrees
    assert all(row.again == row.recorded for row in found.rows)


def test_inputs_that_are_missing_or_changed_are_told(copied: Path, finished: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither a file beside the job nor a shipped model") as missing:
        verify(copied, tmp_path, Silent())
    assert "--inputs" in str(missing.value)
    text = (finished[1].parent / "mine.toml").read_text(encoding="utf-8")
    (tmp_path / "mine.toml").write_text(text + "# another line\n", encoding="utf-8")
    with pytest.raises(UserError, match="is not the file that the run used"):
        verify(copied, tmp_path, Silent())


@pytest.mark.parametrize(
    ("content", "expected"),
    [("", "lacks the job"), ("job = 1\noverrides = 2\n", "lacks the job"), ("name =", "is not valid TOML")],
)
def test_a_record_that_cannot_be_used_is_a_users_error(content: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=expected):
        verify(tmp_path, tmp_path, Silent())
    with pytest.raises(UserError, match="cannot be read"):
        verify(tmp_path / "none", tmp_path, Silent())


def test_a_run_without_a_certificate_has_nothing_to_verify(copied: Path, finished: tuple[Path, Path]) -> None:
    with pytest.raises(UserError, match="holds no certificate"):
        verify(changed(copied, lambda content: content.update(certificate=None)), finished[1].parent, Silent())


@pytest.mark.parametrize(
    ("key", "value"), [("attempts", 2000), ("attempts", "1"), ("constraints", None), ("constraints", [1])]
)
def test_a_certificate_that_cannot_be_read_is_a_users_error(
    key: str, value: object, copied: Path, finished: tuple[Path, Path]
) -> None:
    broken = changed(copied, lambda content: content["certificate"].update({key: value}))
    with pytest.raises(UserError, match=f"certificate.{key}"):
        verify(broken, finished[1].parent, Silent())


def test_policies_are_compared_on_shared_paths(finished: tuple[Path, Path]) -> None:
    folder, job = finished
    loaded = load_job(job, ["simulation.seed=9"])
    found = compare_policies(Path("incumbent"), folder, loaded, Silent())
    assert found.paths == loaded.job.simulation.paths
    by_name = {row.metric: row for row in found.rows}
    assert by_name["margin_per_oi"].verdict == "lower", "the run found room below the incumbent's margin"
    assert by_name["margin_per_oi"].standard_error < 1e-3 * by_name["margin_per_oi"].first
    same = compare_policies(folder, folder / "recommended.json", loaded, Silent())
    assert {row.verdict for row in same.rows} == {"not told apart"}
    assert {row.difference for row in same.rows} == {0.0}


def test_policies_that_are_not_there_are_told_both_at_once(finished: tuple[Path, Path]) -> None:
    with pytest.raises(UserError) as raised:
        compare_policies(Path("nowhere"), Path("neither.json"), load_job(finished[1]), Silent())
    said = [str(problem) for problem in raised.value.problems]
    assert [line.partition(":")[0] for line in said] == ["nowhere", "neither.json"]
    assert all("expected a run folder, a recommended.json or the word `incumbent`" in line for line in said)
