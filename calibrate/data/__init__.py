"""What users bring: candles and position tables, read, checked, mended where asked, and downloaded. Each reader reports
every problem of a file at once.

A candle file goes through `table_file` (what it is, in pieces; `dialect` says how it is written), `candle_columns` (which
column is which), `raw_candles` (numbers), `findings` and `suspicions` (what is wrong) and `repairs`; `candles` hands it to
fits, `check` to a person. Other tables come in through `table_file` too, and `table` checks
them. `exchange` and `download` get new candles."""
