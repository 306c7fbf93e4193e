"""The short way: who repeats a request gets what is kept of its answer at this moment."""

from askonce.gateway.client import Client
from askonce.gateway.remembering import Recall
from askonce.gateway.state import State


async def find_repeated(state: State, client: Client, owner: str = "") -> Recall | None:
    """Find what is known of a request from its bytes alone, if its credential is good.

    `owner` is the identifier of the gateway's own key that it carries. Raises what `Client.peek`
    does.
    """
    content = await client.peek()
    if content is None:
        return None
    scope = client.scope
    client.asked = (
        scope["raw_path"],
        scope["query_string"],
        content,
        owner,
        tuple(client.headers),
    )
    recall = state.remembered.find(client.asked)
    if recall is None or not (owner or state.acceptance.at_once(recall.digest)):
        return None
    return recall
