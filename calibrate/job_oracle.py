"""The `[oracle]` of a job: what the venue sees of the price, and when."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from calibrate.section import Count, NotNegative, Positive, Section


class SourceSection(Section):
    """A price source. It shows the market's price of `lag_s` ago with a noise of standard deviation `noise_bps` that half forgets
    itself within `noise_half_life_s` (without it, at once), and is out `outages_per_day` times for `outage_minutes` on average."""

    name: str = Field(min_length=1, max_length=40)
    weight: Positive | None = None
    lag_s: NotNegative = 0.0
    noise_bps: NotNegative = 0.0
    noise_half_life_s: Positive | None = None
    outages_per_day: Positive | None = None
    outage_minutes: Positive | None = None

    @model_validator(mode="after")
    def _complete(self) -> "SourceSection":
        if (self.outages_per_day is None) != (self.outage_minutes is None):
            raise ValueError("outages need `outages_per_day` and `outage_minutes`, both or neither")
        if self.noise_half_life_s is not None and not self.noise_bps:
            raise ValueError("`noise_half_life_s` has no meaning without `noise_bps`; add it, or remove this")
        return self


class OracleSection(Section):
    """`exact` shows the market price of every step, `push` reports on a deviation or a heartbeat, both `delay_s` late;
    `continuous` watches between the steps, without delay. A heartbeat that does not restart is a clock: reports on a deviation
    leave it alone. `delay_s` is that at median volatility; it changes with volatility to the power
    `delay_volatility_exponent`, up to `longest_delay_s`.

    Before that stand `sources`, of which `aggregate` makes one price as long as `quorum` of them are there, and a time-weighted
    average of `twap_minutes` or an exponential one with time constant `ema_minutes`. A report moves the price by `clamp_bps` at
    most.

    The price may come with a band, at an end of which the venue judges accounts (`band_end` of its trigger). Its ends are
    `band_bps` from the price at median volatility, which changes with volatility to the power `band_volatility_exponent`, and
    `band_of_sources` times as far more as the further quartile of the sources is."""

    kind: Literal["exact", "push", "continuous"]
    deviation_bps: Positive | None = None
    heartbeat_s: Positive | None = None
    heartbeat_restarts: bool | None = None
    delay_s: NotNegative = 0.0
    delay_volatility_exponent: Positive | None = None
    longest_delay_s: Positive | None = None
    sources: Annotated[list[SourceSection], Field(min_length=2, max_length=32)] | None = None
    aggregate: Literal["median", "weighted median", "mean"] | None = None
    quorum: Count | None = None
    twap_minutes: Positive | None = None
    ema_minutes: Positive | None = None
    clamp_bps: Positive | None = None
    band_bps: NotNegative | None = None
    band_volatility_exponent: Positive | None = None
    band_of_sources: Positive | None = None

    @property
    def has_band(self) -> bool:
        """Whether there is one at all, be it of no width."""
        return self.band_bps is not None or self.band_of_sources is not None

    @property
    def source_names(self) -> list[str]:
        return [source.name for source in self.sources or []]

    @model_validator(mode="after")
    def _pipe(self) -> "OracleSection":
        wrong = [message for found, message in self._clashes_before_reports() if found]
        if wrong:
            raise ValueError("; ".join(wrong))
        return self

    def _clashes_before_reports(self) -> list[tuple[bool, str]]:
        pipe = {"sources": self.sources, "twap_minutes": self.twap_minutes, "ema_minutes": self.ema_minutes,
                "clamp_bps": self.clamp_bps, "band_bps": self.band_bps, "band_of_sources": self.band_of_sources}  # fmt: skip
        given = ", ".join(f"`{key}`" for key, value in pipe.items() if value is not None)
        names = self.source_names
        weighted = [source.name for source in self.sources or [] if source.weight is not None]
        return [
            (
                bool(given) and self.kind == "continuous",
                f"a continuous oracle sees the market itself; remove {given} or choose another kind",
            ),
            (
                self.twap_minutes is not None and self.ema_minutes is not None,
                "give `twap_minutes` or `ema_minutes`, not both",
            ),
            (
                not names and (self.aggregate is not None or self.quorum is not None),
                "`aggregate` and `quorum` are about `sources`, and there are none; add them or remove these",
            ),
            (
                not names and self.band_of_sources is not None,
                "`band_of_sources` is about `sources`, and there are none; add them or remove this",
            ),
            (
                self.band_volatility_exponent is not None and not self.band_bps,
                "`band_volatility_exponent` has no meaning without `band_bps` above 0; add it, or remove this",
            ),
            (bool(names) and self.aggregate is None, '`sources` need an `aggregate`, such as "median"'),
            (len(set(names)) < len(names), "two `sources` have one name; give each its own"),
            (
                self.quorum is not None and bool(names) and self.quorum > len(names),
                f"`quorum` is {self.quorum} and there are {len(names)} `sources`; no price would ever be new",
            ),
            (
                bool(weighted) and self.aggregate == "median",
                'a plain "median" has no weights; choose "weighted median" or remove `weight`',
            ),
            (
                0 < len(weighted) < len(names),
                f"only {', '.join(weighted)} of the `sources` have a `weight`; give one to each, or to none",
            ),
        ]

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
