"""A grid of trainings: read (grid), in order (agenda), side by side (runner, runs), written as tables (tables)."""
