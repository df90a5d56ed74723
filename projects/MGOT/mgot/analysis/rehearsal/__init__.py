"""A rehearsal: all stages of a run in minutes, with the time and memory that it will need, and what does not fit."""
