"""The config: what its keys may be, which of them two runs differ in, and what is made from it."""
