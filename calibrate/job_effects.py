"""What a job asks for in vain: free parameters that nothing depends on, limits that its paths cannot show to hold, shares of
scenarios that make no whole.

Told before the long work starts, from the job's numbers alone.
"""

import math

from calibrate.job_policy import PolicySection


def without_effect(policy: PolicySection, highest_margin_bps: float) -> list[tuple[str, str]]:
    """Free parameters that no metric depends on, with the reason."""
    free, wrong = policy.free(), []
    if policy.volatility_multiplier.reach[1] == 0:
        for key in ("forecast_memory_hours", "stress_weight", "margin_rise_bps_per_hour", "margin_fall_bps_per_hour"):
            wrong.append((key, "the margin does not follow volatility, since `volatility_multiplier` is 0 throughout"))
    elif policy.stress_weight.reach[0] == 1:
        wrong.append(
            ("forecast_memory_hours", "`stress_weight` is 1 throughout, which leaves no weight to the forecast")
        )
    lowest_base = policy.base_margin_bps.reach[0]
    if policy.margin_floor_bps.reach[1] <= lowest_base:
        wrong.append(
            ("margin_floor_bps", f"`base_margin_bps` is never below {lowest_base:g}, so no margin meets the floor")
        )
    if lowest_base >= highest_margin_bps:
        for key in ("base_margin_bps", "volatility_multiplier"):
            wrong.append((key, f"the margin is always at `venue.highest_margin_bps`, {highest_margin_bps:g}"))
    return [
        (f"policy.{key}", f"is free, but nothing depends on it: {why}; fix it, or change that")
        for key, why in wrong
        if key in free
    ]


def cannot_be_shown(limit: float | None, paths: int, confidence: float) -> str | None:
    """What is wrong with a limit on a probability that plainly drawn paths could not show to hold even if no event were seen:
    then the upper limit of `n` paths is 1 - (1 - confidence)^(1/n)."""
    if limit is None or limit >= 1:
        return None
    needed = math.ceil(math.log1p(-confidence) / math.log1p(-limit))
    if paths >= needed:
        return None
    return (
        f"{limit:g} could not be certified on {paths:,} plainly drawn paths even if none were insolvent; it takes at least "
        f'{needed:,} of them (`simulation.paths`), or `simulation.sampling = "auto"`'
    )


def shares_told(shares: list[float | None], limits: tuple[str, ...]) -> list[tuple[str, str]]:
    """What is wrong with the shares of scenarios, under limits of these names."""
    given = [share for share in shares if share is not None]
    if not given:
        return []
    wrong = [
        (f"scenarios.{i}", "has no `share`, but another scenario has; give one to each, or to none")
        for i, share in enumerate(shares)
        if share is None
    ]
    if sum(given) >= 1:
        wrong.append(
            ("scenarios", f"shares add up to {sum(given):g}; expected less than 1: the job's own world has the rest")
        )
    for name in limits:
        if "_es" in name:
            why = "a shortfall is no expectation, so it cannot be averaged over scenarios; remove it, or every `share`"
            wrong.append((f"constraints.{name}", why))
    return wrong
