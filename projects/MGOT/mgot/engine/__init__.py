"""The loop: setup, trainer, hooks."""
