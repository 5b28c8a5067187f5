"""Checks of what a user writes, and one-line error messages."""
