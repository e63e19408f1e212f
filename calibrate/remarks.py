"""What a measured policy has to be told beside its metrics: attacks on its oracle, and liquidations that make things worse."""

from typing import Any

from calibrate.assemble import Assembled
from calibrate.attack import attack_lines, attacks_of
from calibrate.job import Job
from calibrate.policy import Parameters
from calibrate.progress import Listener
from calibrate.simulate import Sample
from calibrate.toxic import toxic_lines, toxic_of


def remarks(
    job: Job, assembled: Assembled, parameters: Parameters, sample: Sample, listener: Listener, *, seed: int
) -> dict[str, Any]:
    """The figures, and the same as lines for a screen."""
    attacks = attacks_of(job, assembled, parameters, listener, seed=seed)
    toxic = toxic_of(job, sample, float(parameters.policy.penalty))
    lines = [*attack_lines(attacks), *toxic_lines(toxic)]
    return {"attacks": attacks, "toxic_liquidations": toxic, "remarks": lines}
