"""The `[market]` of a job: the law that prices follow, or a history that is replayed."""

import datetime
import math
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from calibrate.section import Positive, Section


class DebtSection(Section):
    """The asset that is owed, where it is not a stable one: its annual volatility, and how it is correlated with the collateral.
    Both follow one level of volatility and jump together, each in proportion to its own volatility, so that the price of the
    collateral in units of the debt follows the collateral's law with moves that are smaller or larger throughout."""

    volatility: Positive
    correlation: float = Field(ge=-1, le=1)

    def moves(self, volatility: float) -> float:
        """How far the price of collateral over debt moves, relative to that of the collateral, which has this volatility."""
        ratio = self.volatility / volatility
        return math.sqrt(max(1 + ratio**2 - 2 * self.correlation * ratio, 0.0))


def moment(value: object) -> object:
    """A date or time, written as text or as TOML has them; without a zone it is in UTC."""
    if isinstance(value, datetime.datetime):
        made = value
    elif isinstance(value, datetime.date):
        made = datetime.datetime(value.year, value.month, value.day)
    elif isinstance(value, str):
        try:
            made = datetime.datetime.fromisoformat(value)
        except ValueError:
            raise ValueError("expected a date or time such as 2020-03-12 or 2020-03-12T06:00, in UTC") from None
    else:
        return value
    return made if made.tzinfo else made.replace(tzinfo=datetime.UTC)


Moment = Annotated[datetime.datetime, BeforeValidator(moment)]


class MarketSection(Section):
    """Either a fitted `model` (a shipped name, or a file next to the job) or a constant `volatility` (annual, 0.8 is 80 %).
    `asset` says which of its assets, where the model describes several that move together. `initial_volatility` is the annual
    volatility at the start; without it the start is drawn from the long-run law.

    With `debt`, that is the law of the collateral, and the debt is in another volatile asset; prices, and all amounts, are in units
    of it.

    With `replay`, a file of candles next to the job, prices are those of the market `symbol` in that file, from `from` (without it,
    the file's first bar) over the horizon, or to `to`; model or volatility then only say which volatility is usual."""

    model: str | None = None
    asset: str | None = None
    volatility: Positive | None = None
    initial_volatility: Positive | None = None
    replay: str | None = None
    symbol: str | None = None
    from_: Moment | None = Field(default=None, alias="from")
    to: Moment | None = None
    debt: DebtSection | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> "MarketSection":
        if (self.model is None) == (self.volatility is None):
            raise ValueError(
                "give either `model` (a fitted model) or `volatility` (constant, annual), not both or neither"
            )
        if self.volatility is not None and self.initial_volatility is not None:
            raise ValueError("`initial_volatility` has no meaning with a constant `volatility`; remove one of them")
        if self.volatility is not None and self.asset is not None:
            raise ValueError("`asset` chooses one of a joint `model`; it has no meaning with a constant `volatility`")
        return self

    @model_validator(mode="after")
    def _of_a_replay(self) -> "MarketSection":
        given = {"symbol": self.symbol, "from": self.from_, "to": self.to}
        needless = [name for name, value in given.items() if value is not None]
        if self.replay is None and needless:
            raise ValueError(f"`{'`, `'.join(needless)}` belong to a `replay`, and there is none; remove or add it")
        if self.replay is not None and self.initial_volatility is not None:
            raise ValueError("`initial_volatility` has no meaning in a `replay`, which knows its own; remove it")
        if self.replay is not None and self.debt is not None:
            raise ValueError("a `replay` is of one price; replay candles of the pair itself and remove `debt`")
        if self.to is not None and self.from_ is None:
            raise ValueError("`to` needs `from`; add it")
        if self.to is not None and self.from_ is not None and self.to <= self.from_:
            raise ValueError(f"`to` is {self.to.isoformat()}, not after `from`, {self.from_.isoformat()}; swap them")
        return self

    @property
    def window_days(self) -> float | None:
        """Length of the window of a replay, where both of its ends are given."""
        if self.from_ is None or self.to is None:
            return None
        return (self.to - self.from_).total_seconds() / 86_400


def with_horizon(tables: dict[str, Any]) -> dict[str, Any]:
    """The tables of a job whose horizon, where it is not given, is as long as the window that is replayed."""
    market, simulation = tables.get("market"), tables.get("simulation", {})
    if not isinstance(market, dict) or not isinstance(simulation, dict) or "horizon_days" in simulation:
        return tables
    try:
        first, end = moment(market.get("from")), moment(market.get("to"))
    except ValueError:
        return tables  # said when the section is checked
    if not isinstance(first, datetime.datetime) or not isinstance(end, datetime.datetime) or end <= first:
        return tables
    days = (end - first).total_seconds() / 86_400
    return tables | {"simulation": simulation | {"horizon_days": days}}


def window_problem(market: MarketSection, horizon_days: float) -> list[tuple[str, str]]:
    """What is wrong with a window that is not the horizon."""
    days = market.window_days
    if days is None or abs(days - horizon_days) * 86_400 < 0.5:
        return []
    found = f"the window from `from` to `to` has {days:g} days and `simulation.horizon_days` is {horizon_days:g}"
    return [("market.to", f"{found}; a replay lasts as long as the horizon: leave out one of them")]
