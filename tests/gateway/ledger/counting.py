"""Keys with limits, and what a ledger knows of them."""

import math
from dataclasses import replace

from askonce.gateway.api_keys import ApiKey

DAY = 86400.0
NOW = 20_000 * DAY + 43_200.0
"""Noon of a UTC day."""

FREE = ApiKey("aaaaaaaa", "free", "s", (), None, None, 0.0, math.inf, None)
KEY = replace(FREE, name="laptop", requests_per_minute=10, budget_per_day=5.0)
OTHER = replace(KEY, id="bbbbbbbb", name="other")


def reason(ledger, key=KEY, now=NOW):
    refused = ledger.refusal(key, now=now)
    return refused and refused.reason


def is_spent(ledger, dollars, now=NOW):
    """Tell whether just these dollars are known to be spent; sums of 1/64 are exact."""
    budgets = (dollars, dollars + 1 / 64)
    below, above = (replace(FREE, budget_per_day=budget) for budget in budgets)
    return reason(ledger, below, now) == "budget_per_day" and reason(ledger, above, now) is None


async def exchange(*ledgers, now=NOW):
    for _ in range(2):
        for ledger in ledgers:
            await ledger.exchange(now=now)
            assert ledger.trouble is None
