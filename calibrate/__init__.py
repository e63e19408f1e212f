"""Margin parameters for leveraged crypto venues: simulated, differentiated, optimised, certified.

A job file names a market, an oracle, liquidity, a book of accounts, a venue's rules and its policy. `calibrate` simulates
millions of volatility paths with everything that makes liquidation fail in practice, measures how often the venue becomes
insolvent, differentiates through the simulation, and moves the free parameters of the policy to the most efficient set that
stays within the tolerance. The result is certified on fresh paths and written as a run folder with a frontier and a report.

`calibrate.pipeline` shows the whole line; `docs/rules.md` states what one path does. Most users need `load_job` and `run`.
"""

from importlib.metadata import version

__version__ = version("calibrate")
