"""Real models for tests.

A test module takes the fixtures by `pytest_plugins = ["tests.parts.fixtures"]`.
"""
