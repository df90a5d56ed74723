"""A grid of trainings: read (grid), run side by side and resumed (runs), and written down as tables (tables)."""
