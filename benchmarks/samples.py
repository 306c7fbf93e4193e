"""Inputs for benchmarks: passages, vectors, prompts, all the same on every run."""

import random

import numpy as np
from numpy.typing import NDArray

SEED = 20
_SYLLABLES = "ba do ki lu men nor pas qui rem sul ta vin wor ex yo zar the in of and".split()


def passages(count: int, *, words: int = 100) -> list[str]:
    """Make different passages of about six characters a word."""
    chance = random.Random(SEED)
    vocabulary = ["".join(chance.choices(_SYLLABLES, k=chance.randint(1, 3))) for _ in range(3000)]
    return [
        f"{number}. {' '.join(chance.choices(vocabulary, k=words))}." for number in range(count)
    ]


def texts(count: int, *, characters: int) -> list[str]:
    """Make different passages of exactly so many characters."""
    long_ones = passages(count, words=characters // 4)
    assert min(map(len, long_ones)) >= characters
    return [passage[:characters] for passage in long_ones]


def vectors(count: int, dimensions: int) -> NDArray[np.float32]:
    """Make vectors of length one, as embedding models give them."""
    rows = np.random.default_rng(SEED).standard_normal((count, dimensions), np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
