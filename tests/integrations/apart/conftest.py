"""Tests of integrations whose frameworks cannot be installed beside the others.

    scripts/test-integrations [NAME...]

makes an environment for each and runs its file here; pytest does not come here by itself.
"""


def pytest_report_header():
    return "These tests need an environment each: scripts/test-integrations"
