"""The loop: setup, run, trainer, hooks, epoch and step. The rooms beside them hold what these call for."""
