"""From a certified run to what a venue's change process takes: the set in its own numbers, certified as rounded, step by step.

The run's policy becomes the venue's own parameter set, margins rounded to the careful side, and that set is simulated again. Where
the venue changes by small steps, the way there is laid out, and every set on it is certified by itself, on paths of its own. What
is written holds the payloads, what they rest on (`export.json`) and a memo for people (`memo.md`).
"""

from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

from calibrate.assemble import Assembled, assemble, policy_of
from calibrate.certify import Certificate, certify, paths_of_attempt
from calibrate.errors import Problem, UserError
from calibrate.evidence import recorded_job
from calibrate.export.native import Basis, Native, same
from calibrate.export.steps import NoLegalWay, in_steps
from calibrate.job import Job, LoadedJob, VenueSection
from calibrate.job_market import MarketSection
from calibrate.memo import memo
from calibrate.optimise import Problem as Calibration
from calibrate.pipeline import problem_of, read_policy
from calibrate.presets import Preset
from calibrate.progress import Listener
from calibrate.recommend import ATTEMPTS
from calibrate.recorded import recorded_certificate
from calibrate.run_folder import new_folder, read_json, write_json, write_text
from calibrate.shocks import derived_seed
from calibrate.toxic import toxic_note
from calibrate.venue_rules import incumbent_of, settled
from calibrate.wording import horizon, lower, metric_name

# A job's world, and the problem that its limits pose there.
World = tuple[Assembled, Calibration]


class Step(NamedTuple):
    """One change: the set after it, the policy that stands for the set, and what became of its certificate."""

    native: Native
    policy: dict[str, float]
    certificate: Certificate

    @property
    def certified(self) -> bool:
        return self.certificate.granted


class Export(NamedTuple):
    """What was made of a run: where it is, unless the target is refused and nothing was written; and what export.json holds."""

    folder: Path | None
    content: dict[str, Any]

    @property
    def certified(self) -> bool:
        """Whether every step is."""
        return all(step["certified"] for step in self.content["steps"])


def export(
    run: Path, venue: str | None, inputs: Path, output: Path | None, listener: Listener, *, at_once: bool = False
) -> Export:
    """Write what the change process of the run's venue takes; `at_once` leaves the venue's limits on a step aside."""
    loaded = recorded_job(run, inputs)
    preset = _preset_of(loaded, run, venue)
    recommended = read_json(run / "recommended.json")
    if recommended.get("status") != "certified":
        message = f"the run ended {recommended.get('status')!r}; only what is certified can be proposed"
        raise UserError([Problem(str(run / "recommended.json"), message)])

    folder = output or run / f"export-{preset.name.replace(':', '-')}"
    if folder.exists():
        # Said before an hour of paths, not after it.
        raise UserError([Problem(str(folder), "exists already; choose another --output")])

    world = assembled, _ = _world(loaded)
    # Checks the file; what is proposed is worked out from its exact figures.
    read_policy(run / "recommended.json", loaded, assembled)
    values = {key: float(entry["value"]) for key, entry in recommended["policy"].items()}
    before = incumbent_of(preset, loaded.job.policy)
    states = _way(before, values, preset, run, at_once=at_once)
    steps = [
        _step(state, values, number, len(states), loaded, world, run, listener)
        for number, state in enumerate(states, start=1)
    ]
    content = _content(preset, before, steps, loaded, assembled)
    if not steps[-1].certified:
        return Export(None, content)
    with new_folder(folder) as draft:
        basis = _basis(preset, recommended, assembled)
        _write_payloads(draft, before, steps, basis, content)
        write_json(draft / "export.json", content)
        metrics = read_json(run / "metrics.json")
        write_text(draft / "memo.md", memo(content, recommended, metrics))
    return Export(folder, content)


def _preset_of(loaded: LoadedJob, run: Path, venue: str | None) -> Preset:
    place = f"{run / 'run.toml'}: job"
    if loaded.preset is None:
        message = "uses no venue's rules; name the venue with `preset` in [venue] and run again"
        raise UserError([Problem(place, message)])
    if venue is not None and venue not in (loaded.preset.name, loaded.preset.name.partition(":")[0]):
        message = (
            f"was calibrated under the rules of {loaded.preset.name}, not of {venue}; export it there, or run again"
        )
        raise UserError([Problem(place, message)])
    return loaded.preset


def _way(before: Native, values: dict[str, float], preset: Preset, run: Path, *, at_once: bool) -> list[Native]:
    """The sets from what is in force to what is recommended, step by step."""
    place = str(run / "recommended.json")
    # Settling first brings the message of a policy that the venue cannot write.
    after = before.moved_to(settled(before, values))
    if after == before:
        raise UserError([Problem(place, f"recommends what is in force at {preset.name}; there is nothing to propose")])
    try:
        return in_steps(before, after, {} if at_once else preset.venue.change.largest_step)
    except NoLegalWay as error:
        raise UserError([Problem(place, f"{error}; a larger step would help")]) from None


def _step(
    state: Native,
    values: dict[str, float],
    number: int,
    count: int,
    loaded: LoadedJob,
    world: World,
    run: Path,
    listener: Listener,
) -> Step:
    """Certify a set under its own rules. Where it is the run's own policy under the run's rules, the run's certificate is made
    again; else it gets paths of its own."""
    there = under_its_rules(state, loaded)
    assembled, problem = world if there is loaded else _world(there)
    policy = values | state.policy()
    parameters = assembled.incumbent._replace(policy=policy_of(policy, assembled.scenario.dtype))
    simulation = loaded.job.simulation
    seed, first, last = derived_seed(simulation.seed, "export", number), 1, ATTEMPTS
    if there is loaded and all(same(Fraction(policy[key]), Fraction(value)) for key, value in values.items()):
        attempt = recorded_certificate(run / "recommended.json")["attempts"]
        seed, first, last = simulation.seed, attempt, attempt
    listener.note(f"step {number} of {count}" if count > 1 else "certifying the set as rounded")
    for attempt in range(first, last + 1):
        certificate = certify(
            problem,
            parameters,
            seed=seed,
            paths=paths_of_attempt(simulation.paths, simulation.budget, attempt),
            attempt=attempt,
            confidence=simulation.confidence,
            listener=listener,
        )
        # Further paths help where noise alone stands in the way, not where the estimate itself is too high.
        if certificate.granted or any(h.estimate.value > h.limit for h in certificate.holdings):
            break
    return Step(state, policy, certificate)


def _world(loaded: LoadedJob) -> World:
    assembled = assemble(loaded)
    return assembled, problem_of(loaded, assembled)


def under_its_rules(state: Native, loaded: LoadedJob) -> LoadedJob:
    """The job under the rules that follow from a set's values, such as how much Maker has on auction at most, wherever the job
    took those that follow from the values in force."""
    assert loaded.preset is not None
    was, now = loaded.preset.native.simulated(), state.simulated()
    if was == now:
        return loaded

    def moved(job: Job) -> Job:
        own = job.venue.model_dump()
        taken = [key for key in was | now if VenueSection.model_validate(own | {key: was.get(key)}) == job.venue]
        rules = own | {key: now.get(key) for key in taken}
        return job.model_copy(update={"venue": VenueSection.model_validate(rules)})

    variants = {name: moved(job) for name, job in loaded.variants.items()}
    return loaded.model_copy(update={"job": moved(loaded.job), "variants": variants})


# --- what is written ------------------------------------------------------------------------------------------------------


def _content(
    preset: Preset, before: Native, steps: list[Step], loaded: LoadedJob, assembled: Assembled
) -> dict[str, Any]:
    venue, after, job = preset.venue, steps[-1].native, loaded.job
    delay = venue.change.minimum_delay_days
    return {
        "venue": preset.name,
        "venue_name": venue.name,
        "values_as_of": preset.as_of,
        "sources": preset.sources,
        "status": "certified" if all(step.certified for step in steps) else "not certified",
        "open_interest_usd": assembled.open_interest_usd,
        "horizon_days": job.simulation.horizon_days,
        "simulated_with": {
            "market": _market_words(job.market),
            "depth_usd": job.liquidity.depth_usd,
            "covered_usd": assembled.scenario.venue.covered * assembled.open_interest_usd,
            "step_s": job.simulation.step_s,
            "user_cost_weight": job.objective.user_cost_weight,
            "scenarios": {scenario.name: scenario.share for scenario in job.scenarios},
        },
        "changes": changes(before, after),
        "in_force": before.model_dump(mode="json"),
        "proposed": after.model_dump(mode="json"),
        "change_process": venue.change.process,
        "largest_step": venue.change.largest_step,
        "minimum_delay_days": delay,
        "notes": venue.change.notes,
        "not_simulated": venue.not_simulated,
        # What the venue's numbers cannot change is not for its governors.
        "warnings": toxic_note(job, steps[-1].policy) if "penalty_bps" in after.free else [],
        "assumed": [text for text in (venue.caution, *preset.market.assumed) if text],
        "steps": [
            _step_json(step, previous, number, delay)
            for number, (step, previous) in enumerate(
                zip(steps, [before, *(step.native for step in steps)], strict=False), start=1
            )
        ],
    }


def _market_words(market: MarketSection) -> str:
    law = f"the model {market.model}" if market.model else f"a constant volatility of {market.volatility:g}"
    return f"{law}, against debt in another asset" if market.debt else law


def _step_json(step: Step, previous: Native, number: int, delay: float | None) -> dict[str, Any]:
    certificate = step.certificate
    return {
        "number": number,
        "not_before_day": (number - 1) * (delay or 0),
        "changes": changes(previous, step.native),
        "policy": step.policy,
        "certified": step.certified,
        "paths": certificate.paths,
        "seed": certificate.seed,
        "confidence": certificate.confidence,
        "constraints": [
            {"name": h.name, "limit": h.limit, **h.estimate.as_json(), "upper": h.upper, "satisfied": h.satisfied}
            for h in certificate.holdings
        ],
    }


def changes(before: Native, after: Native) -> list[dict[str, Any]]:
    """Which numbers of a venue's set change, those of a table row by row, counted as the venue counts them."""
    old, new = (_flat(native.model_dump(mode="json"), native.first_row) for native in (before, after))
    return [
        {"field": key, "before": old.get(key), "after": value} for key, value in new.items() if old.get(key) != value
    ]


def _flat(values: Any, first_row: int, name: str = "") -> dict[str, Any]:
    if isinstance(values, dict | list):
        parts = values.items() if isinstance(values, dict) else enumerate(values, start=first_row)
        return {
            key: value
            for part, inner in parts
            for key, value in _flat(inner, first_row, f"{name}.{part}" if name else str(part)).items()
        }
    return {name: values}


def _basis(preset: Preset, recommended: dict[str, Any], assembled: Assembled) -> Basis:
    title = f"{preset.venue.name}: margin parameters of {preset.name.partition(':')[2] or recommended['name']}"
    rows = recommended["certificate"]["constraints"]
    limits = ", ".join(f"{lower(metric_name(row['name']))} at most {row['limit']:g}" for row in rows)
    summary = (
        f"Certified by simulation: {limits}, over {horizon(recommended['horizon_days'])} at an open interest of "
        f"{assembled.open_interest_usd:,.0f} USD. Evidence and assumptions are in the memo."
    )
    return Basis(title, summary, assembled.open_interest_usd)


def _write_payloads(folder: Path, before: Native, steps: list[Step], basis: Basis, content: dict[str, Any]) -> None:
    for number, step in enumerate(steps):
        previous = steps[number - 1].native if number else before
        where = f"step-{number + 1:02d}/" if len(steps) > 1 else ""
        files = {f"{where}{name}": payload for name, payload in step.native.proposal(previous, basis).items()}
        content["steps"][number]["files"] = list(files)
        for name, payload in files.items():
            write_json(folder / name, payload)
