"""The schedule: the hooks of a phase, the two stages, and each stage's optimiser and learning rate."""
