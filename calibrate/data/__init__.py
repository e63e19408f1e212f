"""Readers for what users bring: candles and position tables. Each reports every problem of a file at once."""
