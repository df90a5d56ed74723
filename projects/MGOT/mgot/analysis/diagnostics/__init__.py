"""What a run records while it trains, and what is read from it later. fast-reid is not needed."""
