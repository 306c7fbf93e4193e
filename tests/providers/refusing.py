"""What an embedder is asked for here, and how a text that is too long is refused."""

from tests.providers.fault_server import Refuse

TOO_LONG = {
    "message": "This model's maximum context length is 8192 tokens, however you requested 9000",
    "type": "invalid_request_error",
    "param": None,
    "code": None,
}


def texts_of(count: int) -> list[str]:
    return [f"text {number}" for number in range(count)]


def long_ones(body: dict):
    """Refuse a request with a text of more than 50 characters, without saying which."""
    return Refuse(400, TOO_LONG) if any(len(text) > 50 for text in body["input"]) else None
