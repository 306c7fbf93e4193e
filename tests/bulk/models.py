"""Models for tests of the bulk job: each text has a vector of its own, and some texts are bad."""

import hashlib
import os
import threading
import time

import numpy as np

DIMENSIONS = 8
asked: list[list[str]] = []
"""The batches that this process asked for."""

gate = threading.Event()
begun = threading.Semaphore(0)


def vector_of(text, dimensions=DIMENSIONS):
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
    return np.random.default_rng(seed).standard_normal(dimensions, np.float32)


def vectors_of(texts, dimensions=DIMENSIONS):
    rows = [vector_of(text, dimensions) for text in texts]
    return np.array(rows, np.float32).reshape(len(texts), dimensions)


def embed(texts):
    asked.append(list(texts))
    return vectors_of(texts)


def logged(texts):
    """Note what is asked for in a file, and take some time, as a provider does.

    Who is asked for more than ASKONCE_TEST_MOST texts never answers.
    """
    with open(os.environ["ASKONCE_TEST_LOG"], "a") as log:
        log.write("".join(f"{text}\n" for text in texts))
    asked.append(list(texts))
    if sum(map(len, asked)) > float(os.environ.get("ASKONCE_TEST_MOST", "inf")):
        threading.Event().wait()
    time.sleep(float(os.environ.get("ASKONCE_TEST_SECONDS", "0")))
    return vectors_of(texts)


def picky(texts):
    """Refuse a batch with a bad text in it, without telling which."""
    asked.append(list(texts))
    if any("bad" in text for text in texts):
        raise ValueError("I do not like that")
    return vectors_of(texts)


def nan(texts):
    asked.append(list(texts))
    rows = vectors_of(texts)
    rows[[place for place, text in enumerate(texts) if "bad" in text]] = np.nan
    return rows


def longer(texts):
    """Be another model of the same name."""
    return vectors_of(texts, DIMENSIONS + 1)


def broken(texts):
    asked.append(list(texts))
    raise ConnectionError("nobody there")


class Unauthorised(Exception):
    status_code = 401


def unauthorised_later(texts):
    """Answer once, then say 401."""
    asked.append(list(texts))
    if len(asked) > 1:
        raise Unauthorised("the key was revoked")
    return vectors_of(texts)


def slow(texts):
    """Answer once the gate opens."""
    asked.append(list(texts))
    begun.release()
    gate.wait(60)
    return vectors_of(texts)


class Named:
    """Be an embedder with a name of its own."""

    dimensions = None
    parameters = {}

    def __init__(self, model, function):
        self.model = model
        self.function = function

    def __call__(self, texts):
        return self.function(texts)


before = Named("m", embed)
after = Named("m", longer)
