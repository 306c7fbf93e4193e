"""Carrying out jobs in tests."""

import json

import numpy as np
import pyarrow.parquet as pq

from askonce import open_store
from askonce.bulk import Job, plan
from askonce.bulk.job import observer
from askonce.bulk.models import Model
from askonce.bulk.output import Output
from askonce.bulk.passages import Passage
from askonce.bulk.stopping import Brake
from askonce.providers import cache


def rows_of(texts):
    return [Passage(f"id{number}", "f", number, text) for number, text in enumerate(texts, 1)]


def model_of(embedder, **fields):
    fields = {"batch_size": 4, "at_once": 2, "is_local": False, "price": None} | fields
    return Model(embedder, **fields)


class Run:
    """Carry out a job on texts, or on rows."""

    def __init__(self, folder, embedder, store="memory://", brake=None, namespace="", **fields):
        self.folder = folder / "out"
        self.model = model_of(embedder, **fields)
        self.store = open_store(store)
        self.brake = brake or Brake()
        self.namespace = namespace
        self.told = []

    def plan(self, rows):
        found = cache(
            self.model.embedder, self.store, self.namespace, observe=observer(self.brake)
        )
        return plan(rows, found, self.model, self.brake, batch_size=4, tick=lambda count: None)

    def __call__(self, texts):
        rows = rows_of(texts) if texts and isinstance(texts[0], str) else texts
        with Output(self.folder) as output:
            self.planned = self.plan(rows)
            self.job = Job(
                self.model,
                self.store,
                self.planned,
                self.brake,
                namespace=self.namespace,
                batch_size=self.model.batch_size,
                at_once=self.model.at_once,
            )
            return self.job.run(rows, output, "parquet", self.told.append)

    def vectors(self):
        table = pq.read_table(sorted(self.folder.glob("*.parquet")))
        return dict(zip(table["id"].to_pylist(), map(np.array, table["vector"].to_pylist())))

    def failures(self):
        text = (self.folder / "failures.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]
