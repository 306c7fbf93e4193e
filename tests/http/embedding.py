"""A provider of embeddings that are known beforehand, and what is right about its answers."""

import base64
import hashlib
import json

import numpy as np

from tests.http.server import plain

PATH = "/v1/embeddings"


def inputs_of(request):
    given = request["input"]
    if isinstance(given, str) or (given and isinstance(given[0], int)):
        return [given]
    return given


def vector_of(content, dimensions=8):
    seed = int.from_bytes(hashlib.sha256(json.dumps(content).encode()).digest()[:8], "big")
    return np.random.default_rng(seed).standard_normal(dimensions).astype(np.float32)


def written(vector, encoding):
    if encoding == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    # As providers do: the shortest digits that name this float32.
    return [float(str(number)) for number in vector]


def tokens_in(contents):
    return sum(len(content) for content in contents)


def proper(request, **changes):
    contents = inputs_of(request)
    dimensions = request.get("dimensions", 8)
    encoding = request.get("encoding_format", "float")
    data = [
        {"object": "embedding", "index": index, "embedding": written(vector_of(content, dimensions), encoding)}
        for index, content in enumerate(contents)
    ]
    count = tokens_in(contents)
    usage = {"prompt_tokens": count, "total_tokens": count}
    return {"object": "list", "data": data, "model": "m-1", "usage": usage, **changes}


def embed(asked):
    return plain(proper(asked.json()), 200, ("X-Request-Id", "r1"))


def asked_for(provider):
    return [inputs_of(asked.json()) for asked in provider.asked]


def vectors_in(reply):
    found = []
    for index, item in enumerate(reply.json()["data"]):
        assert item["index"] == index
        assert item["object"] == "embedding"
        embedding = item["embedding"]
        if isinstance(embedding, str):
            found.append(np.frombuffer(base64.b64decode(embedding), "<f4"))
        else:
            found.append(np.array(embedding, np.float32))
    return found


def right(reply, contents, dimensions=8):
    assert reply.status == 200
    assert len(reply.json()["data"]) == len(contents)
    for vector, content in zip(vectors_in(reply), contents, strict=True):
        assert np.array_equal(vector, vector_of(content, dimensions))
