"""Backtests side by side: raw, guarded, each layer off; and several bots under one portfolio."""
