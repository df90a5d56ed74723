"""What a run records of itself while it trains, and what is read out of that later; no host is needed."""
