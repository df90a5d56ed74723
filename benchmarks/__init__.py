"""Speed and memory, run by tools/benchmark.py: each command prints ratios to a plain reference kept beside it."""
