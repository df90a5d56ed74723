"""What a run records of itself while it trains, and what is read out of that later; fast-reid is not needed."""
