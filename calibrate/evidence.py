"""What others do with a finished run: make its certificate again, and hold two policies against each other.

Both work from what a run folder records: the text of the job, hashes of the files that it names, the policy and the seed. The
files themselves stay where they are, since positions may be private; whoever verifies says where, and the hashes tell whether
they are the same.
"""

import tomllib
from pathlib import Path
from typing import Any, NamedTuple

from calibrate.assemble import Assembled, assemble
from calibrate.certify import Certificate, certify, paths_of_attempt
from calibrate.compare import Difference, compare
from calibrate.errors import Problem, UserError, raise_all
from calibrate.job import LoadedJob, job_of
from calibrate.pipeline import limits_of, other_inputs, problem_of, read_policy
from calibrate.policy import Parameters
from calibrate.progress import Listener
from calibrate.rare_events import choose
from calibrate.recorded import recorded_certificate
from calibrate.run_folder import sha256
from calibrate.shocks import derived_seed
from calibrate.simulate import simulate

# On another processor rounding differs and may carry a path or two over the line.
_ROUNDING_PATHS, _ROUNDING_ERRORS = 4, 0.1


class Comparison(NamedTuple):
    """One limit of a certificate, as recorded and as made again; None for what the record lacks."""

    name: str
    limit: float
    recorded: float | None
    recorded_upper: float | None
    again: float
    again_upper: float
    agrees: bool


class Verification(NamedTuple):
    """A certificate made again. `as_prescribed` says that paths, seed and confidence were those that the job prescribes for the
    attempt, so that none were chosen to suit."""

    rows: list[Comparison]
    paths: int
    as_prescribed: bool
    granted: bool

    @property
    def agrees(self) -> bool:
        return self.as_prescribed and self.granted and all(row.agrees for row in self.rows)


def verify(run: Path, inputs: Path, listener: Listener) -> Verification:
    """Make the certificate of a run folder again, from its record, and compare."""
    loaded = recorded_job(run, inputs)
    recorded = recorded_certificate(run / "recommended.json")
    assembled = assemble(loaded)
    simulation = loaded.job.simulation
    again = certify(
        problem_of(loaded, assembled),
        read_policy(run / "recommended.json", loaded, assembled),
        seed=simulation.seed,
        paths=paths_of_attempt(simulation.paths, simulation.budget, recorded["attempts"]),
        attempt=recorded["attempts"],
        confidence=simulation.confidence,
        listener=listener,
    )
    prescribed = {"seed": again.seed, "paths": again.paths, "confidence": again.confidence}
    return Verification(
        rows=_rows(recorded["constraints"], again),
        paths=again.paths,
        as_prescribed=all(recorded.get(key) == value for key, value in prescribed.items()),
        granted=again.granted,
    )


def _rows(entries: list[dict[str, Any]], again: Certificate) -> list[Comparison]:
    rows = []
    for holding in again.holdings:
        entry = next((entry for entry in entries if entry.get("name") == holding.name), {})
        value, upper, limit = (_figure(entry.get(key)) for key in ("value", "upper", "limit"))
        slack = max(_ROUNDING_ERRORS * holding.estimate.standard_error, _ROUNDING_PATHS / again.paths)
        near = [
            there is not None and abs(there - here) <= slack
            for there, here in ((value, holding.estimate.value), (upper, holding.upper))
        ]
        agrees = all(near) and limit == holding.limit
        estimate = holding.estimate.value
        rows.append(Comparison(holding.name, holding.limit, value, upper, estimate, holding.upper, agrees))
    return rows


def _figure(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def recorded_job(run: Path, inputs: Path) -> LoadedJob:
    """The job of a run folder, from its record; `inputs` is the folder that stands for the job file's own."""
    place = run / "run.toml"
    try:
        record = tomllib.loads(place.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError([Problem(str(place), f"cannot be read ({error.strerror}); give a run folder")]) from None
    except ValueError as error:
        raise UserError([Problem(str(place), f"is not valid TOML: {error}")]) from None
    job, overrides, hashes = record.get("job"), record.get("overrides"), record.get("inputs_sha256")
    if not (isinstance(job, dict) and isinstance(overrides, list) and isinstance(hashes, dict)):
        message = "lacks the job, its overrides or the hashes of its inputs; expected the record of `calibrate run`"
        raise UserError([Problem(str(place), message)])
    loaded = job_of(str(job.get("text")), inputs / str(job.get("file", "job.toml")), [str(part) for part in overrides])
    try:
        files = other_inputs(loaded)
    except UserError as error:
        hint = Problem(str(inputs), "say with --inputs in which folder the job's files are")
        raise UserError([*error.problems, hint]) from None
    raise_all([problem for path in files if (problem := _changed(path, hashes)) is not None])
    return loaded


def _changed(path: Path, hashes: dict[str, Any]) -> Problem | None:
    if not path.is_file():
        return Problem(str(path), "is not there; say with --inputs in which folder the job's files are")
    if sha256(path) != hashes.get(path.name):
        return Problem(str(path), "is not the file that the run used (its SHA-256 differs from the record's)")
    return None


# --- two policies ---------------------------------------------------------------------------------------------------------


class Compared(NamedTuple):
    """Differences of two policies on the same paths."""

    rows: list[Difference]
    paths: int
    horizon_days: float


def compare_policies(first: Path, second: Path, loaded: LoadedJob, listener: Listener) -> Compared:
    """Two policies, each a recommended.json, a run folder or the word `incumbent`, in the same job."""
    simulation = loaded.job.simulation
    message = "is not there; expected a run folder, a recommended.json or the word `incumbent`"
    wanted = [place for place in (first, second) if str(place) != "incumbent"]
    raise_all([Problem(str(place), message) for place in wanted if not place.exists()])
    assembled = assemble(loaded)
    policies = [_policy(place, loaded, assembled) for place in (first, second)]
    seed = derived_seed(simulation.seed, "comparison")
    chosen = choose(
        assembled.scenario,
        policies[0],
        limits_of(loaded.job, assembled),
        kind=simulation.sampling,
        at_limit=False,
        seed=seed,
        listener=listener,
    )
    one, other = (
        simulate(
            assembled.scenario,
            policy,
            seed=seed,
            paths=simulation.paths,
            sampling=chosen.sampling,
            on_progress=listener.stage(str(place), simulation.paths),
        )
        for place, policy in zip((first, second), policies, strict=True)
    )
    rows = compare(one, other, simulation.tail_level)
    return Compared(rows, simulation.paths, simulation.horizon_days)


def _policy(place: Path, loaded: LoadedJob, assembled: Assembled) -> Parameters:
    if str(place) == "incumbent":
        return assembled.incumbent
    return read_policy(place / "recommended.json" if place.is_dir() else place, loaded, assembled)
