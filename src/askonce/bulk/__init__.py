"""A corpus through a model into files: planned first, stopped at any moment, gone on with.

The store is the only checkpoint: whatever it holds is not asked for again.
"""

from askonce.bulk.job import Job, Outcome
from askonce.bulk.models import Model, Rate, open_model
from askonce.bulk.plan import Plan, plan
from askonce.bulk.sources import Corpus
from askonce.bulk.stopping import JobError, Stopped

__all__ = [
    "Corpus",
    "Job",
    "JobError",
    "Model",
    "Outcome",
    "Plan",
    "Rate",
    "Stopped",
    "open_model",
    "plan",
]
