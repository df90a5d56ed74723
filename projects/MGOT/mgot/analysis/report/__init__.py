"""One page about a run: what it reached, what it looked like inside, and in words what went well or wrong."""
