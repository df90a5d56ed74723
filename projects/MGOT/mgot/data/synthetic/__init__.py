"""Rendered people in the folder layouts of the real visible-infrared data sets."""
