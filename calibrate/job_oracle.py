"""The `[oracle]` of a job: what the venue sees of the price, and when."""

from typing import Literal

from pydantic import model_validator

from calibrate.section import NotNegative, Positive, Section


class OracleSection(Section):
    """`exact` shows the market price of every step, `push` reports on a deviation or a heartbeat, both `delay_s` late;
    `continuous` watches between the steps, without delay. A heartbeat that does not restart is a clock: reports on a deviation
    leave it alone. `delay_s` is that at median volatility; it changes with volatility to the power
    `delay_volatility_exponent`, up to `longest_delay_s`."""

    kind: Literal["exact", "push", "continuous"]
    deviation_bps: Positive | None = None
    heartbeat_s: Positive | None = None
    heartbeat_restarts: bool | None = None
    delay_s: NotNegative = 0.0
    delay_volatility_exponent: Positive | None = None
    longest_delay_s: Positive | None = None

    @model_validator(mode="after")
    def _fits_kind(self) -> "OracleSection":
        if self.kind == "push" and (self.deviation_bps is None or self.heartbeat_s is None):
            raise ValueError("a push oracle needs `deviation_bps` and `heartbeat_s`")
        if self.kind != "push" and (self.deviation_bps is not None or self.heartbeat_s is not None):
            raise ValueError(f'`deviation_bps` and `heartbeat_s` belong to kind = "push", not to "{self.kind}"')
        if self.kind != "push" and self.heartbeat_restarts is not None:
            raise ValueError(f'`heartbeat_restarts` belongs to kind = "push", not to "{self.kind}"')
        if (self.delay_volatility_exponent is None) != (self.longest_delay_s is None):
            raise ValueError(
                "a delay that grows needs `delay_volatility_exponent` and `longest_delay_s`, both or neither"
            )
        if self.longest_delay_s is not None and not 0 < self.delay_s < self.longest_delay_s:
            raise ValueError(f"`delay_s` is {self.delay_s:g}; expected above 0 and below `longest_delay_s`")
        if self.kind == "continuous" and self.delay_s > 0:
            raise ValueError("a continuous oracle has no delay; remove `delay_s` or choose another kind")
        return self
