"""Embed lines of text with Spark, over one store: what any worker asked, none asks again.

    python examples/spark_embed.py TEXT-FILE... --out FOLDER

runs on this machine, with a toy for a model and a file for a store; spark-submit takes the same
file to a cluster. There, give a store that all of its nodes reach, and a model:

    --store redis://cache.example --model text-embedding-3-small

It needs Java and, on every node, `pip install 'askonce[spark,redis,openai]'`.
"""

import argparse
import functools
import os
import sys
from pathlib import Path

import numpy as np
from pyspark.sql import SparkSession

import askonce
from askonce.integrations.spark import Embedder
from askonce.providers import OpenAIEmbedder, cache

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def count_letters(texts: list[str]) -> np.ndarray:
    """Be a model that needs no server and no weights."""
    return np.array([[text.count(letter) for letter in LETTERS] for text in texts], np.float32)


def open_cache(given: argparse.Namespace) -> askonce.EmbeddingCache:
    """Make the cache; called in the workers, for each partition."""
    if given.model is None:
        return askonce.EmbeddingCache(
            count_letters, model="letters", store=given.store, batch_size=given.batch_size
        )
    # A late answer is better than one that is paid for twice.
    embedder = OpenAIEmbedder(given.model, base_url=given.base_url, timeout=300)
    return cache(embedder, given.store, batch_size=given.batch_size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, help="text files; a line is a text")
    parser.add_argument("--out", required=True, type=Path, help="folder for Parquet files")
    parser.add_argument("--store", default=f"sqlite:///{Path.cwd() / 'vectors.db'}", help="URL")
    parser.add_argument("--partitions", type=int, default=8)
    parser.add_argument("--model", help="of an OpenAI-compatible server (default: a toy)")
    parser.add_argument("--base-url", help="of that server (default: OpenAI's)")
    parser.add_argument("--batch-size", type=int, default=100, help="texts asked for at once")
    given = parser.parse_args()

    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    spark = SparkSession.builder.appName("embed").getOrCreate()
    texts = spark.read.text([path.resolve().as_uri() for path in given.files])
    texts = texts.withColumnRenamed("value", "text").repartition(given.partitions)
    embed = Embedder(functools.partial(open_cache, given))
    vectors = texts.mapInPandas(embed, embed.schema(texts))
    out = given.out.resolve().as_uri()
    vectors.write.parquet(out)
    print(f"embedded {spark.read.parquet(out).count()} texts")
    spark.stop()


if __name__ == "__main__":
    main()
