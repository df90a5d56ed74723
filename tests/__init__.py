"""Tests of MGOT; trees.py holds what several of them build."""
