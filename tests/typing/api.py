"""Calls that only the type checkers read."""
