"""Market models: from shocks to log-price and volatility. One family per file; see `model.py` for the contract."""
