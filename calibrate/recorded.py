"""What a recommended.json says of its certificate, checked: which attempt it was, so that its paths can be drawn again."""

from pathlib import Path
from typing import Any

from calibrate.certify import paths_of_attempt
from calibrate.errors import Problem, UserError, raise_all
from calibrate.job import SimulationSection
from calibrate.recommend import ATTEMPTS
from calibrate.run_folder import read_json
from calibrate.shocks import derived_seed


def recorded_certificate(path: Path) -> dict[str, Any]:
    """The certificate of a recommended.json, with what is needed to make it again."""
    recorded = read_json(path).get("certificate")
    if not isinstance(recorded, dict):
        message = "holds no certificate; the run ended without one, so there is nothing to verify"
        raise UserError([Problem(str(path), message)])
    attempts, constraints = recorded.get("attempts"), recorded.get("constraints")
    problems = []
    if isinstance(attempts, bool) or not isinstance(attempts, int) or not 1 <= attempts <= ATTEMPTS:
        message = f"found {attempts!r}; expected a whole number from 1 to {ATTEMPTS}"
        problems.append(Problem(f"{path}: certificate.attempts", message))
    if not isinstance(constraints, list) or not all(isinstance(entry, dict) for entry in constraints):
        problems.append(Problem(f"{path}: certificate.constraints", "expected a list of tables, one for every limit"))
    raise_all(problems)
    return recorded


def drawn_again(path: Path, simulation: SimulationSection) -> dict[str, int]:
    """Seed and number of the paths of the certificate in a recommended.json, as the job prescribes them for its attempt; nothing
    where it holds no certificate."""
    if read_json(path).get("certificate") is None:
        return {}
    attempt = recorded_certificate(path)["attempts"]
    return {
        "seed": derived_seed(simulation.seed, "certificate", attempt),
        "paths": paths_of_attempt(simulation.paths, simulation.budget, attempt),
    }
