"""Running askonce embed in tests."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

ROOT = Path(__file__).parents[2]
MODEL = "python:tests.bulk.models:{}"
STORE = "sqlite:///cache.db"


def write(name, texts):
    Path(name).write_text("".join(f"{text}\n" for text in texts))


def read(folder="out"):
    table = pq.read_table(sorted(Path(folder).glob("*.parquet")))
    return table["id"].to_pylist(), np.array(table["vector"].to_pylist(), np.float32)
