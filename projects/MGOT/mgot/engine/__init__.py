"""The loop: setup, run, trainer, hooks, epoch and step. The folders beside them hold what these call."""
