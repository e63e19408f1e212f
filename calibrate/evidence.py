"""What others do with a finished run: make its certificate again, and hold two policies against each other.

Both work from what a run folder records: the text of the job, hashes of the files that it names, the policy and the seed. The
files themselves stay where they are, since positions may be private; whoever verifies says where, and the hashes tell whether
they are the same.
"""

import tomllib
from pathlib import Path
from typing import Any, NamedTuple

from calibrate.assemble import assemble
from calibrate.certify import Certificate, certify
from calibrate.compare import Difference, compare
from calibrate.constraints import constraints_of
from calibrate.errors import Problem, UserError, raise_all
from calibrate.job import LoadedJob, job_of
from calibrate.pipeline import other_inputs, read_policy
from calibrate.progress import Listener
from calibrate.run_folder import read_json, sha256
from calibrate.shocks import derived_seed
from calibrate.simulate import Sample, simulate

# On another processor rounding differs and may carry a path in a million over the line: this share of a standard error.
_ROUNDING = 0.1


class Comparison(NamedTuple):
    """One limit of a certificate, as recorded and as made again."""

    name: str
    limit: float
    recorded: float
    recorded_upper: float
    again: float
    again_upper: float
    agrees: bool


class Verification(NamedTuple):
    """A certificate made again. `seed_derived` says that the paths were those which the job's seed prescribes for the attempt,
    so that none were chosen to suit."""

    rows: list[Comparison]
    paths: int
    seed_derived: bool
    granted: bool

    @property
    def agrees(self) -> bool:
        return self.seed_derived and self.granted and all(row.agrees for row in self.rows)


def verify(run: Path, inputs: Path, listener: Listener) -> Verification:
    """Make the certificate of a run folder again, from its record, and compare."""
    loaded = recorded_job(run, inputs)
    recommended = read_json(run / "recommended.json")
    recorded = recommended.get("certificate")
    if not isinstance(recorded, dict):
        message = "holds no certificate; the run ended without one, so there is nothing to verify"
        raise UserError([Problem(str(run / "recommended.json"), message)])
    assembled = assemble(loaded)
    simulation = loaded.job.simulation
    again = certify(
        assembled.scenario,
        read_policy(run / "recommended.json", loaded, assembled),
        tuple(constraints_of(loaded.job.constraints.limits(), simulation.tail_level)),
        seed=simulation.seed,
        paths=simulation.paths,
        attempt=_whole(recorded, "attempts", run),
        confidence=simulation.confidence,
        listener=listener,
    )
    return Verification(
        rows=_rows(recorded, again),
        paths=again.paths,
        seed_derived=recorded.get("seed") == again.seed and recorded.get("paths") == again.paths,
        granted=again.granted,
    )


def _whole(recorded: dict[str, Any], key: str, run: Path) -> int:
    value = recorded.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        place = f"{run / 'recommended.json'}: certificate.{key}"
        raise UserError([Problem(place, f"found {value!r}; expected a whole number from 1")])
    return value


def _rows(recorded: dict[str, Any], again: Certificate) -> list[Comparison]:
    entries = {entry.get("name"): entry for entry in recorded.get("constraints", []) if isinstance(entry, dict)}
    rows = []
    for holding in again.holdings:
        entry = entries.get(holding.name, {})
        value, upper, limit = (float(entry.get(key, float("nan"))) for key in ("value", "upper", "limit"))
        slack = _ROUNDING * holding.estimate.standard_error
        same = abs(value - holding.estimate.value) <= slack and abs(upper - holding.upper) <= slack
        rows.append(
            Comparison(
                holding.name,
                holding.limit,
                value,
                upper,
                holding.estimate.value,
                holding.upper,
                same and limit == holding.limit,
            )
        )
    return rows


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
    raise_all([problem for path in other_inputs(loaded) if (problem := _changed(path, hashes)) is not None])
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
    rows = compare(_sample(first, loaded, listener), _sample(second, loaded, listener), simulation.tail_level)
    return Compared(rows, simulation.paths, simulation.horizon_days)


def _sample(policy: Path, loaded: LoadedJob, listener: Listener) -> Sample:
    assembled = assemble(loaded)
    simulation = loaded.job.simulation
    file = policy / "recommended.json" if policy.is_dir() else policy
    parameters = assembled.incumbent if str(policy) == "incumbent" else read_policy(file, loaded, assembled)
    return simulate(
        assembled.scenario,
        parameters,
        seed=derived_seed(simulation.seed, "comparison"),
        paths=simulation.paths,
        on_progress=listener.stage(str(policy), simulation.paths),
    )
