"""Sections of a job that come from a file of their own, as `calibrate fit-oracle`, `fit-depth` and `fit-book` write them.

`[oracle]` with `fit = "eth-feed.toml"` takes over the `[oracle]` of that file; keys that stand in the job itself win over those of
the file. The file's other tables say where the numbers come from and are not used. It is looked for beside the job, and is one
of the inputs whose hashes a run records.
"""

import tomllib
from pathlib import Path
from typing import Any

from calibrate.errors import Problem, UserError, raise_all

SECTIONS = ("oracle", "liquidity", "book")
EVIDENCE = ("standard_errors", "fit", "goodness")
KEY = "fit"
# Of two keys that exclude each other the job's own one stays.
RIVALS = {"cohorts": ("positions",), "positions": ("cohorts", "open_interest_usd")}


def with_section_files(tables: dict[str, Any], job: Path) -> tuple[dict[str, Any], list[Path]]:
    """The tables of a job, those of its scenarios included, with every `fit` replaced by what its file holds; and the files."""
    folder = job.resolve().parent
    files: list[Path] = []
    problems: list[Problem] = []

    def taken_over(section: str, table: Any, where: str) -> Any:
        if section not in SECTIONS or not isinstance(table, dict) or KEY not in table:
            return table
        own = {key: value for key, value in table.items() if key != KEY}
        name = table[KEY]
        try:
            if not isinstance(name, str):
                raise UserError(
                    [Problem(f"{job}: {where}.{KEY}", f"found {name!r}; expected the name of a file in quotes")]
                )
            found = read_section(folder / name, section, f"{job}: {where}.{KEY}")
        except UserError as error:
            problems.extend(error.problems)
            return own
        files.append(folder / name)
        left_out = {rival for key in own for rival in RIVALS.get(key, ())}
        return {key: value for key, value in found.items() if key not in left_out} | own

    made = {name: taken_over(name, table, name) for name, table in tables.items()}
    scenarios = made.get("scenarios")
    if isinstance(scenarios, list):
        made["scenarios"] = [
            {key: taken_over(key, value, f"scenarios.{i}.{key}") for key, value in scenario.items()}
            if isinstance(scenario, dict)
            else scenario
            for i, scenario in enumerate(scenarios)
        ]
    raise_all(problems)
    return made, list(dict.fromkeys(files))


def read_section(path: Path, section: str, place: str) -> dict[str, Any]:
    """The section of that name in a file; `place` is where the job names it."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        message = f"cannot read {path.name} ({error.strerror}); expected a file beside the job, made by a fit"
        raise UserError([Problem(place, message)]) from None
    except UnicodeDecodeError:
        raise UserError([Problem(str(path), "is not text in UTF-8; expected a TOML file made by a fit")]) from None
    except tomllib.TOMLDecodeError as error:
        raise UserError([Problem(str(path), f"is not valid TOML: {error}")]) from None
    table = content.get(section)
    if not isinstance(table, dict):
        there = ", ".join(f"[{name}]" for name in content) or "nothing"
        raise UserError([Problem(str(path), f"found {there}; expected [{section}], as {place} asks for it")])
    unknown = [name for name in content if name not in (section, *EVIDENCE)]
    raise_all([Problem(f"{path}: {name}", f"is no part of a fitted {section}; remove it") for name in unknown])
    if KEY in table:
        raise UserError([Problem(f"{path}: {section}.{KEY}", "a fitted section cannot name a further file; remove it")])
    return table
