"""What backtests tell, as one page: figures checked against Freqtrade's own, charts, Markdown and JSON."""
