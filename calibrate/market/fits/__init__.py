"""How each family of market models is fitted to candles, one family per file, all in the same order: what is estimated, then how
the state is known at the close of a bar."""
