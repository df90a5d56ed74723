"""A rehearsal: a config's whole run in minutes, stage by stage, with what it will take and what will not fit."""
