"""Where a job's venue can write only some policies: how far the search may move, and on which policy it then settles.

The search itself is continuous. Its bounds lie on margins that the venue can write, and where it ends, the policy that stands for
the end is taken instead, not less careful in its margins. That one is certified.
"""

from collections.abc import Callable

from calibrate.assemble import Assembled, policy_in_human_units, policy_of
from calibrate.errors import Problem, UserError
from calibrate.job import LoadedJob
from calibrate.job_policy import Choice
from calibrate.policy import Parameters
from calibrate.venue_rules import incumbent_of, settled, writable_margins


def reach_of(key: str, choice: Choice, loaded: LoadedJob) -> tuple[float, float]:
    """How far a parameter may be moved, in the units of its key."""
    if loaded.preset is None or key != "base_margin_bps":
        return choice.reach
    incumbent = incumbent_of(loaded.preset, loaded.job.policy)
    low, high = writable_margins(incumbent, incumbent.policy(), *choice.reach)
    if low >= high:
        reach = " to ".join(f"{bound:g}" for bound in choice.reach)
        name = loaded.preset.name
        message = f"may move from {reach}, where {name} can write one value at most; widen the bounds or the change"
        raise UserError([Problem(f"{loaded.path}: policy.{key}", message)])
    return low, high


def settling(loaded: LoadedJob, assembled: Assembled) -> Callable[[Parameters], Parameters] | None:
    """From a policy to the one that the job's venue can write, if it is a real one."""
    if loaded.preset is None:
        return None
    dtype = assembled.scenario.dtype
    incumbent = incumbent_of(loaded.preset, loaded.job.policy)

    def settle(found: Parameters) -> Parameters:
        return found._replace(policy=policy_of(settled(incumbent, policy_in_human_units(found.policy)), dtype))

    return settle
