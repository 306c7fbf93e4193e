"""Embed lines of text on a Ray cluster, over one store: what any worker asked, none asks again.

    python examples/ray_embed.py TEXT-FILE... --out FOLDER

runs on this machine, with a toy for a model and a file for a store. On a cluster, give what all
of its nodes reach:

    python examples/ray_embed.py TEXT-FILE... --out FOLDER --address auto \\
        --store redis://cache.example --model text-embedding-3-small

It needs `pip install 'askonce[ray,redis,openai]'`, on every node.
"""

import argparse
import functools
import os
from pathlib import Path

import numpy as np
import ray

import askonce
from askonce.integrations.ray import Embedder
from askonce.providers import OpenAIEmbedder, cache

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def count_letters(texts: list[str]) -> np.ndarray:
    """Be a model that needs no server and no weights."""
    return np.array([[text.count(letter) for letter in LETTERS] for text in texts], np.float32)


@ray.remote(num_cpus=0)
class Tally:
    """Count the texts that any worker has asked for."""

    def __init__(self) -> None:
        self._asked = 0

    def add(self, count: int) -> None:
        self._asked += count

    def asked(self) -> int:
        return self._asked


def tell(tally, event: askonce.Event) -> None:
    if event.kind == "stored":
        ray.get(tally.add.remote(event.count))


def open_cache(given: argparse.Namespace, tally) -> askonce.EmbeddingCache:
    """Make the cache; called in each worker."""
    observe = functools.partial(tell, tally)
    if given.model is None:
        return askonce.EmbeddingCache(
            count_letters,
            model="letters",
            store=given.store,
            batch_size=given.batch_size,
            observe=observe,
        )
    # A late answer is better than one that is paid for twice.
    embedder = OpenAIEmbedder(given.model, base_url=given.base_url, timeout=300)
    return cache(embedder, given.store, batch_size=given.batch_size, observe=observe)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, help="text files; a line is a text")
    parser.add_argument("--out", required=True, type=Path, help="folder for Parquet files")
    parser.add_argument("--store", default=f"sqlite:///{Path.cwd() / 'vectors.db'}", help="URL")
    parser.add_argument("--address", default="local", help="of the cluster; auto finds one")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--model", help="of an OpenAI-compatible server (default: a toy)")
    parser.add_argument("--base-url", help="of that server (default: OpenAI's)")
    parser.add_argument("--batch-size", type=int, default=100, help="texts asked for at once")
    parser.add_argument("--block-size", type=int, default=1000, help="texts a worker gets at once")
    given = parser.parse_args()

    key = os.environ.get("OPENAI_API_KEY")
    ray.init(
        address=given.address,
        runtime_env={"env_vars": {"OPENAI_API_KEY": key}} if key else None,
    )
    tally = Tally.remote()
    texts = ray.data.read_text([str(path.resolve()) for path in given.files])
    # A block is what a worker gets at once, and so what is in memory with its vectors.
    blocks = texts.repartition(target_num_rows_per_block=given.block_size)
    vectors = blocks.map_batches(
        Embedder,
        fn_constructor_args=(functools.partial(open_cache, given, tally),),
        compute=ray.data.ActorPoolStrategy(size=given.workers),
        num_cpus=0.25,  # they wait for the model; reading and writing need room beside them
        batch_format="pyarrow",
    )
    vectors.write_parquet(str(given.out.resolve()))
    rows = ray.data.read_parquet(str(given.out.resolve())).count()
    print(f"embedded {rows} texts, asked for {ray.get(tally.asked.remote())}")


if __name__ == "__main__":
    main()
