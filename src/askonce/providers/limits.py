"""What providers take in one request, and how it is kept to."""

from collections.abc import Sequence
from typing import NamedTuple


class Limits(NamedTuple):
    """Hold how many inputs, and how many tokens in all, one request may carry."""

    inputs: int
    tokens: int


UNKNOWN = Limits(64, 100_000)
"""For servers that are not listed: small enough that a slow one answers in time."""

KNOWN = (
    ("api.openai.com", "", Limits(2048, 300_000)),
    ("openai.azure.com", "", Limits(2048, 300_000)),
    ("cognitiveservices.azure.com", "", Limits(2048, 300_000)),
    ("services.ai.azure.com", "", Limits(2048, 300_000)),
    ("api.mistral.ai", "", Limits(512, 16_384)),
    ("api.voyageai.com", "", Limits(1000, 120_000)),
    ("api.voyageai.com", "voyage-2", Limits(1000, 320_000)),
    ("api.voyageai.com", "voyage-3.5", Limits(1000, 320_000)),
    ("api.voyageai.com", "voyage-3.5-lite", Limits(1000, 1_000_000)),
    ("api.voyageai.com", "voyage-4", Limits(1000, 320_000)),
    ("api.voyageai.com", "voyage-4-large", Limits(1000, 120_000)),
    ("api.voyageai.com", "voyage-4-lite", Limits(1000, 1_000_000)),
    ("api.cohere.ai", "", Limits(96, 100_000)),
    ("api.cohere.com", "", Limits(96, 100_000)),
    ("generativelanguage.googleapis.com", "", Limits(100, 100_000)),
    ("aliyuncs.com", "", Limits(10, 80_000)),
)
"""Host (or the end of it), start of the model's name, limits; the longest start counts.

The providers' documentation of their embeddings endpoints, and their error messages where it is
silent, as of 2026. A limit that is too high costs a refused request, after which less is sent.
"""


def limits_of(host: str, model: str) -> Limits:
    """Look up what a provider takes."""
    rows = [
        (len(start), limits)
        for name, start, limits in KNOWN
        if (host == name or host.endswith("." + name)) and model.startswith(start)
    ]
    return max(rows)[1] if rows else UNKNOWN


def cut(sizes: Sequence[int], limits: Limits) -> list[list[int]]:
    """Cut inputs of these sizes in tokens into batches of their indices, in order.

    An input that is above the limit of a request all by itself is a batch of its own.
    """
    batches: list[list[int]] = []
    total = 0
    for index, size in enumerate(sizes):
        total += size
        if not batches or len(batches[-1]) >= limits.inputs or total > limits.tokens:
            batches.append([])
            total = size
        batches[-1].append(index)
    return batches
