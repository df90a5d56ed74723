"""One page about a run: its results, what happened inside, and a diagnosis in words."""
