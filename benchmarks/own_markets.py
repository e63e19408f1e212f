"""Markets for the venues that have rules alone: values of no real market, for benchmarks and tests to run those rules with."""

OWN: dict[str, str] = {
    "aave-v4": "asset='X', collateral_factor_bps=8_000, max_liquidation_bonus_bps=10_500, target_health_bps=10_500",
    "crvusd": "market='X', a=100, bands=10, loan_discount_bps=900, liquidation_discount_bps=600",
    "euler-v2": "collateral='X', borrow_ltv_bps=8_000, liquidation_ltv_bps=8_500, max_liquidation_discount_bps=1_500, "
    "ramp_duration_s=0",
    "velocity": "market_index=0, margin_ratio_initial=500, margin_ratio_maintenance=300, liquidator_fee=10_000, "
    "if_liquidation_fee=10_000",
}
