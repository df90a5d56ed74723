"""The config: allowed values, the keys in which two runs differ, and what is made from it."""
