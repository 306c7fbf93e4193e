"""Tests of clients that cannot be installed beside the others, or that are not Python's.

    scripts/test-integrations clients

makes their environment and runs them; pytest does not come here by itself.
"""


def pytest_report_header():
    return "These tests need an environment of their own: scripts/test-integrations clients"
