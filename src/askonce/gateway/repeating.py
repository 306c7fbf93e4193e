"""The short way: who repeats a request gets what is kept of its answer at this moment.

It is short in a literal sense: of what a hit costs, calls of functions are the larger part.
"""

from askonce.gateway.client import Message, Scope
from askonce.gateway.remembering import Asked, Recall
from askonce.gateway.state import State


def asked_by(scope: Scope, message: Message, owner: str = "") -> Asked | None:
    """Give a request if all of it has come with its first message.

    `owner` is the identifier of the gateway's own key that it carries.
    """
    if message["type"] != "http.request" or message.get("more_body"):
        return None
    headers = tuple(scope["headers"])
    return scope["raw_path"], scope["query_string"], message.get("body", b""), owner, headers


def find_repeated(state: State, asked: Asked) -> Recall | None:
    """Find what is known of a request from its bytes alone, if its credential is good."""
    recall = state.remembered.find(asked)
    if recall is None or not (asked[3] or state.acceptance.at_once(recall.digest)):
        return None
    return recall
