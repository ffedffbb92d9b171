"""What breaks first: positions under shocks, strategies on many simulated markets."""
