"""The table of a frontier that was swept under several scenarios: one below the other, told apart by a last column.

The world of the job itself comes first and has a name of its own. A table without that column is of this world alone.
"""

import pandas as pd

from calibrate.job_frontier import OWN

SCENARIO = "scenario"


def joined(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """One table of those of all scenarios, by their names; the column is left out where there is the job's own world alone."""
    if list(tables) == [OWN]:
        return tables[OWN]
    return pd.concat([table.assign(**{SCENARIO: name}) for name, table in tables.items()], ignore_index=True)


def own_world(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the job's own world, as they would be if nothing else had been swept."""
    if SCENARIO not in table.columns:
        return table
    return table[table[SCENARIO] == OWN].drop(columns=SCENARIO).reset_index(drop=True)
