"""What the tests of object stores share."""

from askonce import open_store
from askonce.stores.objects import ObjectStore

PATIENT = {"lookup_timeout": "60", "timeout": "60"}
VECTORS = {
    f"team/embedding/model/{number:064x}": bytes([number % 251]) * 6_000 for number in range(1_000)
}


def opened(url: str) -> ObjectStore:
    """Open a store without the guard around it, whose innards tests want to see."""
    return open_store(url).store
