"""What it costs to displace a price that the oracle looks at, and what liquidations then yield.

The attacker sells (or buys) in the attacked market until its price is displaced, and goes on for as long as the event lasts,
since the market absorbs what was sold. Displacement follows the law of impact of `liquidity.py`, at median volatility and to
first order in it. What the market has absorbed is lost at the displacement; what it has not may come back when the attacker buys
it back: nothing of it at worst (`cost_usd`), all of it at best (`least_cost_usd`). Half the spread is paid on every trade.

The yield is the difference that the event makes, path by path on the same shocks: what keepers earn and what liquidated users
lose to slippage, both of which the attacker may collect. Gains on positions that the attacker holds elsewhere are not in it.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from calibrate.assemble import Assembled
from calibrate.events import Manipulation
from calibrate.job import Job
from calibrate.job_events import EventSection
from calibrate.metrics import Estimate, mean
from calibrate.policy import Parameters
from calibrate.progress import Listener
from calibrate.simulate import Scenario, simulate
from calibrate.units import BPS
from calibrate.wording import usd

PATHS = 20_000
_FIELDS = ("penalty", "fund_income", "slippage", "liquidated", "bad_debt")


class Cost(NamedTuple):
    """In USD: what is sold to displace the price and to keep it there, and what that costs at worst and at best."""

    traded: float
    most: float
    least: float


def cost_of(displacement: float, hours: float, job: Job, depth_usd: float) -> Cost:
    """Of displacing a market of this depth by `displacement` (in logs) for so many hours."""
    section, x = job.liquidity, abs(displacement)
    root = np.sqrt(section.crossover)
    steepness = 0.02 / (np.sqrt(1 + section.crossover) - root)
    flow = depth_usd * ((x / steepness + root) ** 2 - section.crossover)
    # The integral of impact over the flow: what is paid above the undisturbed price on the way there.
    relative = flow / depth_usd
    push = steepness * depth_usd * (2 / 3 * ((relative + root**2) ** 1.5 - root**3) - root * relative)
    absorbed = _absorbed(flow, hours * 3600, job)
    trades = 2 * (flow + absorbed) * section.half_spread_bps * BPS
    return Cost(flow + absorbed, push + x * absorbed + trades, x * absorbed + trades)


def _absorbed(flow: float, seconds: float, job: Job) -> float:
    """What the market takes out of a flow that is kept up for so long."""
    section, step_s = job.liquidity, job.simulation.step_s
    weights = np.array([section.fast_share, section.slow_share, 1 - section.fast_share - section.slow_share])
    fades = np.array([np.exp(-step_s / section.fast_recovery_s), np.exp(-step_s / section.slow_recovery_s), 1.0])
    parts, absorbed = weights * flow, 0.0
    for _ in range(round(seconds / step_s)):
        faded = parts * fades
        missing = flow - faded.sum()
        parts, absorbed = faded + weights * missing, absorbed + missing
    return float(absorbed)


def attacks_of(
    job: Job, assembled: Assembled, parameters: Parameters, listener: Listener, *, seed: int
) -> list[dict[str, Any]]:
    """Every manipulation of a job's own world: how large it is, what it costs and what it yields."""
    scenario, found = assembled.scenario, []
    for number, (section, event) in enumerate(zip(job.events, scenario.events, strict=True)):
        if isinstance(event, Manipulation):
            listener.note(f"comparing with and without the manipulation (events.{number})")
            without = replace(scenario, events=scenario.events[:number] + scenario.events[number + 1 :])
            found.append(
                _attack(section, number, job, assembled, _differences(scenario, without, job, parameters, seed))
            )
    return found


def _differences(
    attacked: Scenario, without: Scenario, job: Job, parameters: Parameters, seed: int
) -> dict[str, np.ndarray]:
    paths = min(job.simulation.paths, PATHS)
    with_it, calm = (
        simulate(one, parameters, seed=seed, paths=paths, fields=_FIELDS).values for one in (attacked, without)
    )
    return {name: np.asarray(with_it[name], float) - np.asarray(calm[name], float) for name in _FIELDS}


def _attack(
    section: EventSection, number: int, job: Job, assembled: Assembled, more: dict[str, np.ndarray]
) -> dict[str, Any]:
    assert section.displacement_bps is not None
    hours = job.simulation.horizon_days * 24 - (section.from_hours or 0.0)
    hours = hours if section.duration_hours is None else min(section.duration_hours, hours)
    depth_usd = section.attacked_depth_usd or job.liquidity.depth_usd
    cost = cost_of(np.log1p(section.displacement_bps * BPS), hours, job, depth_usd)
    keepers = more["penalty"] - more["fund_income"]
    figures = {
        "gain_usd": keepers + more["slippage"],
        "keepers_usd": keepers,
        "slippage_usd": more["slippage"],
        "liquidated_usd": more["liquidated"],
        "bad_debt_usd": more["bad_debt"],
    }
    return {
        "event": number,
        "source": section.source,
        "displacement_bps": section.displacement_bps,
        "duration_hours": hours,
        "attacked_depth_usd": depth_usd,
        "traded_usd": cost.traded,
        "cost_usd": cost.most,
        "least_cost_usd": cost.least,
        "paths": len(keepers),
    } | {name: _in_usd(mean(values), assembled.open_interest_usd) for name, values in figures.items()}


def _in_usd(estimate: Estimate, open_interest_usd: float) -> dict[str, float]:
    return {
        "value": estimate.value * open_interest_usd,
        "standard_error": estimate.standard_error * open_interest_usd,
    }


def attack_lines(attacks: list[dict[str, Any]]) -> list[str]:
    """Each attack in two lines for a screen."""
    lines = []
    for attack in attacks:
        gain, where = attack["gain_usd"], attack["source"] or "all that the oracle sees"
        verdict = "may pay" if gain["value"] + 2 * gain["standard_error"] > attack["least_cost_usd"] else "does not pay"
        more = {name: usd(attack[f"{name}_usd"]["value"], attack[f"{name}_usd"]["standard_error"]) for name in _TOLD}
        lines += [
            f"manipulation of {where} by {attack['displacement_bps']:g} bps for {attack['duration_hours']:g} hours: costs "
            f"{usd(attack['least_cost_usd'])} to {usd(attack['cost_usd'])} ({usd(attack['traded_usd'])} traded at a depth of "
            f"{usd(attack['attacked_depth_usd'])})",
            f"  liquidations then yield {more['gain']} more (keepers {more['keepers']}, slippage {more['slippage']}), and "
            f"{more['bad_debt']} more bad debt: it {verdict} by that alone",
        ]
    return lines


_TOLD = ("gain", "keepers", "slippage", "bad_debt")
