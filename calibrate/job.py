"""The job file: everything a calibration needs, in units that stand in the key.

A job is TOML, read once, checked as a whole and then never changed. All problems of a file are reported together, each with
its place, before anything runs. Overrides from the command line (`--set simulation.paths=1e6`) are applied to the text's
tables before checking, and are recorded with the run.
"""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from calibrate import rise_windows
from calibrate.errors import Problem, UserError, raise_all
from calibrate.job_effects import cannot_be_shown, shares_told, without_effect
from calibrate.job_events import EventSection, event_problems
from calibrate.job_frontier import FrontierSection, cannot_sweep
from calibrate.job_market import MarketSection, window_problem, with_horizon
from calibrate.job_oracle import OracleSection
from calibrate.job_policy import Choice, PolicySection, same_name
from calibrate.job_rules import VenueRules, against_the_step
from calibrate.job_words import did_you_mean, in_words
from calibrate.presets import Preset, with_preset
from calibrate.section import Count, NotNegative, Positive, Section, Share, Tolerance, whole
from calibrate.section_files import with_section_files
from calibrate.venue_rules import rule_problems


class LiquiditySection(Section):
    """`depth_usd` moves the price by 2 % at median volatility and falls with volatility to the power
    `volatility_exponent`. A share of the displacement fades fast, a share slowly, the rest stays."""

    depth_usd: Positive
    volatility_exponent: NotNegative = 1.0
    crossover: Positive = 0.02
    fast_share: Share = 0.5
    fast_recovery_s: Positive = 300.0
    slow_share: Share = 0.3
    slow_recovery_s: Positive = 7200.0
    half_spread_bps: NotNegative = 2.0

    @model_validator(mode="after")
    def _shares(self) -> "LiquiditySection":
        if self.fast_share + self.slow_share > 1:
            raise ValueError(
                f"`fast_share` + `slow_share` is {self.fast_share + self.slow_share:g}; expected at most 1"
            )
        return self


class MixturePart(Section):
    """Accounts whose collateral exceeds the requirement by a lognormal factor: collateral = requirement times
    (1 + excess), `median_excess` its median, `spread` the standard deviation of its logarithm."""

    weight: Positive
    median_excess: Positive
    spread: Positive


class CohortSection(Section):
    """Accounts of one side. What their collateral exceeds is the initial requirement, or that of maintenance. `position_usd` is
    their size where the margin depends on it."""

    side: Literal["long", "short"]
    share: Positive
    requirement: Literal["initial", "maintenance"] = "initial"
    position_usd: Positive | None = None
    mixture: list[MixturePart] = Field(min_length=1)


class BookSection(Section):
    """Open interest and how it is collateralised: cohorts, or a table of `positions` (CSV or Parquet with columns side,
    notional_usd, collateral_usd). With leverage that `responds`, users keep their share of the allowed leverage, so
    everyone's collateral follows the initial requirement; `fixed` leaves it as it is under the incumbent policy."""

    open_interest_usd: Positive | None = None
    position_usd: Positive = 50_000.0
    leverage: Literal["responds", "fixed"] = "responds"
    resolution: Annotated[Count, Field(ge=4, le=256)] = 12
    cohorts: Annotated[list[CohortSection], Field(min_length=1)] | None = None
    positions: str | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> "BookSection":
        if (self.cohorts is None) == (self.positions is None):
            raise ValueError("give either `cohorts` or `positions` (a table), not both or neither")
        if self.cohorts is not None and self.open_interest_usd is None:
            raise ValueError("a book of `cohorts` needs `open_interest_usd`")
        if self.positions is not None and self.open_interest_usd is not None:
            raise ValueError("`open_interest_usd` follows from the table of `positions`; remove it")
        return self


class VenueSection(VenueRules):
    """Rules around a liquidation (`docs/rules.md`, sections 4 to 8), beside those of `VenueRules`. `stressed_volatility`
    (annual, 1.5 is 150 %) is the volatility that the policy's `stress_weight` mixes into the venue's forecast. A `preset` gives
    a real venue's rules and values wherever the job gives none; `native` replaces values of its market, in the venue's own
    numbers (`docs/venues.md`)."""

    preset: str | None = None
    native: dict[str, Any] = Field(default_factory=dict)
    insurance_fund_usd: NotNegative
    keeper_delay_s: NotNegative = 0.0
    gas_usd: NotNegative = 0.0
    margin_horizon_minutes: Positive = 60.0
    penalty_allowance: Share = 0.0
    stressed_volatility: Positive | None = None
    lowest_margin_bps: NotNegative = 0.0
    highest_margin_bps: Positive = 5_000.0

    @model_validator(mode="after")
    def _limits(self) -> "VenueSection":
        if self.lowest_margin_bps >= self.highest_margin_bps:
            raise ValueError(
                f"`lowest_margin_bps` is {self.lowest_margin_bps:g} and `highest_margin_bps` {self.highest_margin_bps:g}; "
                "expected the first to be smaller"
            )
        if self.native and self.preset is None:
            raise ValueError("`native` replaces values of a `preset`, and there is none; name one or remove it")
        return self


class ObjectiveSection(Section):
    """Minimised: margin per open interest plus `user_cost_weight` times what liquidated users pay."""

    user_cost_weight: NotNegative = 1.0


class ConstraintsSection(Section):
    """Upper limits over the horizon. Losses, draws and costs are shares of open interest, or in USD where the key says so;
    `_es` is the expected shortfall beyond `simulation.tail_level`. The last five bound how much the margin swings: its rises over
    the whole horizon or within so many days, and its highest over its lowest."""

    insolvency_probability: Tolerance | None = None
    account_insolvency_rate: Tolerance | None = None
    bad_debt: Tolerance | None = None
    bad_debt_es: Tolerance | None = None
    bad_debt_es_usd: Positive | None = None
    fund_draw: Tolerance | None = None
    fund_draw_es: Tolerance | None = None
    socialised_loss_es: Tolerance | None = None
    false_liquidation_rate: Tolerance | None = None
    user_cost: Tolerance | None = None
    margin_rise: Tolerance | None = None
    margin_rise_1d: Tolerance | None = None
    margin_rise_5d: Tolerance | None = None
    margin_rise_30d: Tolerance | None = None
    margin_peak_to_trough: Annotated[float, Field(gt=1, allow_inf_nan=False)] | None = None

    @model_validator(mode="after")
    def _some(self) -> "ConstraintsSection":
        if not self.limits():
            raise ValueError("give at least one limit, such as `insolvency_probability = 1e-3`")
        if self.bad_debt_es is not None and self.bad_debt_es_usd is not None:
            raise ValueError("give the limit of bad debt as `bad_debt_es` or as `bad_debt_es_usd`, not as both")
        return self

    def limits(self) -> dict[str, float]:
        return {name: limit for name in type(self).model_fields if (limit := getattr(self, name)) is not None}


class SimulationSection(Section):
    """`paths` are those of the first certificate; a further one takes twice as many, up to `most_paths` (four times `paths` if it
    is not given). The optimiser uses `optimiser_paths`, at most a tenth of `paths`. With `sampling =
    "auto"` paths are drawn more often from where losses are, with weights that make up for it, wherever a pilot says that this
    helps; "plain" and "importance" decide it beforehand. Rises of the margin are measured within `margin_rise_windows_days`, and
    within the windows that limits are about."""

    horizon_days: Positive = 1.0
    step_s: Positive = 60.0
    paths: Annotated[Count, Field(ge=1_000)] = 400_000
    most_paths: Count | None = None
    optimiser_paths: Annotated[Count, Field(ge=100)] | None = None
    seed: Annotated[int, BeforeValidator(whole), Field(ge=0, lt=2**63)] = 1
    precision: Literal["float32", "float64"] = "float32"
    sampling: Literal["auto", "plain", "importance"] = "auto"
    tail_level: Annotated[float, Field(gt=0.5, lt=1)] = 0.99
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    margin_rise_windows_days: list[Literal[1, 5, 30]] = Field(default_factory=list, max_length=3)

    @model_validator(mode="after")
    def _sizes(self) -> "SimulationSection":
        wrong = []
        if self.optimiser_paths is not None and self.optimiser_paths * 10 > self.paths:
            wrong.append(
                f"`optimiser_paths` is {self.optimiser_paths:,} and `paths` {self.paths:,}; a certificate needs at least ten "
                "times the optimiser's paths"
            )
        if self.most_paths is not None and self.most_paths < self.paths:
            wrong.append(f"`most_paths` is {self.most_paths:,} and `paths` {self.paths:,}; expected at least as many")
        steps = self.horizon_days * 86_400 / self.step_s
        if not 1.5 < steps < 1_000_000.5:
            wrong.append(f"`horizon_days` and `step_s` make {steps:,.6g} steps; expected 2 to 1,000,000")
        if wrong:
            raise ValueError("; ".join(wrong))
        return self

    @property
    def budget(self) -> int:
        """The most paths that a certificate may take."""
        return self.most_paths or 4 * self.paths

    @property
    def steps(self) -> int:
        return round(self.horizon_days * 86_400 / self.step_s)


class ScenarioSection(Section):
    """Another world in which all limits must hold too: what differs from the job, by section. With a `share` in every scenario,
    how likely it is, limits hold on average over the scenarios instead; the job's own world has the rest."""

    name: str = Field(min_length=1, max_length=24, pattern=r"^[^\[\]\r\n]+$")
    share: Annotated[float, Field(gt=0, lt=1)] | None = None
    market: dict[str, Any] = Field(default_factory=dict)
    oracle: dict[str, Any] = Field(default_factory=dict)
    liquidity: dict[str, Any] = Field(default_factory=dict)
    book: dict[str, Any] = Field(default_factory=dict)
    venue: dict[str, Any] = Field(default_factory=dict)
    events: list[dict[str, Any]] | None = None

    @model_validator(mode="after")
    def _differs(self) -> "ScenarioSection":
        if not self.changes() and self.events is None:
            raise ValueError("changes nothing; give what differs, such as `liquidity.depth_usd`")
        return self

    def changes(self) -> dict[str, dict[str, Any]]:
        return {key: value for key, value in self.model_dump().items() if isinstance(value, dict) and value}


class Job(Section):
    """A whole calibration, as its file states it."""

    name: str = Field(min_length=1)
    market: MarketSection
    oracle: OracleSection
    liquidity: LiquiditySection
    book: BookSection
    venue: VenueSection
    policy: PolicySection
    constraints: ConstraintsSection
    objective: ObjectiveSection = ObjectiveSection()
    simulation: SimulationSection = SimulationSection()
    frontier: FrontierSection = FrontierSection()
    events: list[EventSection] = Field(default_factory=list, max_length=16)
    scenarios: list[ScenarioSection] = Field(default_factory=list, max_length=8)

    def alternatives(self) -> dict[str, dict[str, float]]:
        """The whole policy of every named alternative, by its name."""
        incumbent = {key: choice.value for key, choice in self.policy.choices().items()}
        return {entry.name: incumbent | entry.settings() for entry in self.frontier.alternatives}

    def rise_windows_days(self) -> tuple[int, ...]:
        """Within which windows rises of the margin are watched."""
        return rise_windows.asked(self.simulation.margin_rise_windows_days, self.constraints.limits())

    def shares_of_scenarios(self) -> tuple[float, ...] | None:
        """How likely the job's own world and each scenario is; None where limits must hold in each."""
        shares = [scenario.share for scenario in self.scenarios if scenario.share is not None]
        return (1 - sum(shares), *shares) if shares else None


class LoadedJob(Section):
    """A job, the file it came from, the overrides that were applied, the job as each of its scenarios changes it, the files that
    its sections were taken from, and the venue whose preset it uses."""

    job: Job
    preset: Preset | None = None
    variants: dict[str, Job] = Field(default_factory=dict)
    path: Path
    text: str
    overrides: list[str]
    section_files: list[Path] = Field(default_factory=list)

    @property
    def folder(self) -> Path:
        return self.path.resolve().parent


def load_job(path: Path, overrides: Sequence[str] = ()) -> LoadedJob:
    """Read and check a job file, with `section.key=value` overrides applied."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(
            [Problem(str(path), f"cannot be read ({error.strerror}); give the path of a job file")]
        ) from None
    except UnicodeDecodeError:
        raise UserError([Problem(str(path), "is not text in UTF-8; expected a TOML job file")]) from None
    return job_of(text, path, overrides)


def job_of(text: str, path: Path, overrides: Sequence[str] = ()) -> LoadedJob:
    """Check the text of a job file. `path` is where it is or was: other files are looked for beside it."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError([Problem(str(path), f"is not valid TOML: {error}")]) from None
    problems = [problem for override in overrides if (problem := _apply(tables, override)) is not None]
    raise_all(problems)
    tables, files = with_section_files(tables, path)
    tables, preset = with_preset(tables, path.resolve().parent, str(path))
    tables = with_horizon(tables)
    job = parse_job(tables, str(path))
    if preset is not None:
        clip_bps = (job.venue.lowest_margin_bps, job.venue.highest_margin_bps)
        raise_all(rule_problems(preset, job.policy, clip_bps, str(path)))
    variants = _variants(job, tables, str(path))
    return LoadedJob(
        job=job,
        preset=preset,
        variants=variants,
        path=path,
        text=text,
        overrides=list(overrides),
        section_files=files,
    )


def parse_job(tables: dict[str, Any], place: str) -> Job:
    """Check the tables of a job; every problem is reported with its place."""
    repeated = [Problem(f"{place}: {where}", message) for where, message in _repeated_names(tables)]
    try:
        job = Job.model_validate(tables)
    except ValidationError as error:
        raise UserError([*(_problem(place, dict(details)) for details in error.errors()), *repeated]) from None
    raise_all([*(Problem(f"{place}: {where}", message) for where, message in _across_sections(job)), *repeated])
    return job


def _variants(job: Job, tables: dict[str, Any], place: str) -> dict[str, Job]:
    """The job as each scenario changes it; all problems of all scenarios are reported together."""
    made: dict[str, Job] = {}
    names = [scenario.name for scenario in job.scenarios]
    problems = [Problem(f"{place}: {where}", message) for where, message in cannot_sweep(job.frontier, names)]
    for number, scenario in enumerate(job.scenarios):
        where = f"{place}: scenarios.{number}"
        if scenario.name in made:
            problems.append(
                Problem(f"{where}.name", f"{scenario.name!r} is the name of another scenario; give each its own")
            )
        changed = {key: value for key, value in tables.items() if key != "scenarios"}
        for section, values in scenario.changes().items():
            changed[section] = _merged(changed[section], values)
        if scenario.events is not None:
            changed["events"] = scenario.events
        try:
            made[scenario.name] = parse_job(changed, where)
        except UserError as error:
            problems += error.problems
    raise_all(problems)
    return made


def _merged(table: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A section with some keys changed. Of two that exclude each other the new one stays."""
    rivals = {
        "cohorts": ("positions",),
        "model": ("volatility",),
        "volatility": ("model", "asset", "initial_volatility"),
        "positions": ("cohorts", "open_interest_usd"),
    }
    left_out = {rival for key in changes for rival in rivals.get(key, ())} - set(changes)
    return {key: value for key, value in table.items() if key not in left_out} | changes


def policy_problems(values: dict[str, float], venue: VenueSection, place: str) -> list[Problem]:
    """What is wrong with the values of a policy that does not come from the job of its venue."""
    try:
        policy = PolicySection.model_validate(values)
    except ValidationError as error:
        return [_problem(place, {**details, "loc": ("policy", *details["loc"])}) for details in error.errors()]
    found = _missing_stress(policy.stress_weight.value, venue, "policy")
    return [Problem(f"{place}: {where}", message) for where, message in found]


def _across_sections(job: Job) -> list[tuple[str, str]]:
    """What is wrong between sections that are each right in themselves."""
    wrong = []
    horizon_s = job.simulation.horizon_days * 86_400
    for where, delay_s in (("oracle.delay_s", job.oracle.delay_s), ("venue.keeper_delay_s", job.venue.keeper_delay_s)):
        if delay_s > horizon_s:
            wrong.append(
                (where, f"is {delay_s:g} s, longer than the horizon of {horizon_s:g} s; nothing would be seen of it")
            )
    wrong += against_the_step(job.venue, job.simulation.step_s)
    simulation, limits = job.simulation, tuple(job.constraints.limits())
    wrong += rise_windows.not_watchable(
        simulation.margin_rise_windows_days, limits, simulation.horizon_days, simulation.step_s
    )
    wrong += window_problem(job.market, job.simulation.horizon_days)
    wrong += oracle_problems(job)
    wrong += without_effect(job.policy, job.venue.highest_margin_bps)
    if simulation.sampling == "plain":
        limit = job.constraints.insolvency_probability
        if message := cannot_be_shown(limit, simulation.paths, simulation.confidence):
            wrong.append(("constraints.insolvency_probability", message))
    wrong += shares_told([scenario.share for scenario in job.scenarios], limits)
    incumbent = {key: choice.value for key, choice in job.policy.choices().items()}
    alternatives = enumerate(job.alternatives().values())
    policies = [("policy", incumbent), *((f"frontier.alternatives.{i}", values) for i, values in alternatives)]
    for where, values in policies:
        weight = "is free" if where == "policy" and job.policy.stress_weight.free else values["stress_weight"]
        wrong += _missing_stress(weight, job.venue, where)
        charges = [values[key] for key in ("base_margin_bps", "volatility_multiplier", "margin_floor_bps")]
        allowance = job.venue.penalty_allowance * values["penalty_bps"]
        if not any((*charges, allowance, job.venue.lowest_margin_bps)):
            wrong.append(
                (where, "asks for no margin at all; raise `base_margin_bps` or another part of the margin above 0")
            )
    return wrong


def oracle_problems(job: Job) -> list[tuple[str, str]]:
    """What is wrong between the oracle, events and what the venue asks of its oracle."""
    names, venue, step_s = job.oracle.source_names, job.venue, job.simulation.step_s
    horizon_hours, unlimited = job.simulation.horizon_days * 24, venue.keepers == "unlimited"
    wrong = event_problems(job.events, horizon_hours, step_s, names, unlimited_keepers=unlimited)
    if venue.trigger is not None and "sources" in (venue.trigger.mark_of or []) and not names:
        wrong.append(("venue.trigger.mark_of", "names `sources`, but `oracle.sources` is missing; add it"))
    judged_at = None if venue.trigger is None else venue.trigger.band_end
    if judged_at is not None and not job.oracle.has_band:
        message = f"is {judged_at!r}, and the oracle has no band; give `oracle.band_bps` (0 for none), or remove it"
        wrong.append(("venue.trigger.band_end", message))
    if judged_at is None and (job.oracle.band_bps or job.oracle.band_of_sources):
        message = "has a band that nobody is judged by; add `band_end` to [venue.trigger], or remove the band"
        wrong.append(("oracle", message))
    return wrong


def _repeated_names(tables: dict[str, Any]) -> list[tuple[str, str]]:
    """Alternatives of one name. Looked for in the tables as they are read, so as to be told beside other mistakes."""
    section = tables.get("frontier")
    entries = section.get("alternatives") if isinstance(section, dict) else None
    wrong, first = [], dict[str, int]()
    for i, entry in enumerate(entries if isinstance(entries, list) else []):
        name = entry.get("name") if isinstance(entry, dict) else None
        if isinstance(name, str) and first.setdefault(same_name(name), i) != i:
            where, other = f"frontier.alternatives.{i}.name", first[same_name(name)]
            wrong.append((where, f"{name!r} is the name of alternatives.{other} too; give each its own"))
    return wrong


def _missing_stress(weight: float | str, venue: VenueSection, where: str) -> list[tuple[str, str]]:
    """What is wrong with a weight of stressed volatility, a number or "is free"."""
    if venue.stressed_volatility is not None or weight == 0:
        return []
    found = weight if isinstance(weight, str) else f"is {weight:g}"
    message = f"{found}, but `venue.stressed_volatility` is missing; add it (annual, 1.5 is 150 %)"
    return [(f"{where}.stress_weight", message)]


def _apply(tables: dict[str, Any], override: str) -> Problem | None:
    """Set one key from the command line. The value is read as TOML; a bare word counts as a string."""
    key, equals, text = override.partition("=")
    names = key.strip().split(".")
    if not equals or not all(names):
        return Problem(f"--set {override}", "expected section.key=value, such as simulation.paths=1e6")
    try:
        value = tomllib.loads(f"value = {text.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    table = tables
    for name in names[:-1]:
        inner = table.setdefault(name, {})
        if isinstance(inner, int | float):
            # `policy.penalty_bps.free=true` turns a plain number into a table.
            inner = table[name] = {"value": inner}
        if not isinstance(inner, dict):
            return Problem(f"--set {override}", f"`{name}` is not a table in the job file")
        table = inner
    table[names[-1]] = value
    return None


def _problem(place: str, details: dict[str, Any]) -> Problem:
    where = ".".join(str(part) for part in details["loc"])
    kind = details["type"]
    message = details["msg"].removeprefix("Value error, ")
    if kind == "extra_forbidden":
        message = f"unknown key{did_you_mean(str(details['loc'][-1]), Job)}"
    elif kind == "missing":
        message = "is missing; add it to the job file"
    elif kind == "model_type":
        is_parameter = details["ctx"]["class_name"] == Choice.__name__
        expected = "a number, or a table with `value`, `free`, `low` and `high`" if is_parameter else "a table"
        message = f"found {in_words(details['input'])}; expected {expected}"
    elif kind == "list_type":
        message = f"found {in_words(details['input'])}; expected a list of tables, each under [[{where}]]"
    elif kind not in ("value_error", "too_short"):
        message = f"{message} (found {in_words(details['input'])})"
    return Problem(f"{place}: {where}" if where else place, message)
