"""Independent trainings from scratch, and unlearnings: originals, retrained models, and all that an audit compares with."""

from __future__ import annotations

from unteach.references.cache import Cache
from unteach.references.executors import EXECUTORS, Executor, Local, Ray, Shard, Slurm
from unteach.references.forecast import Forecast, forecast
from unteach.references.job import TrainingJob
from unteach.references.manifest import DataSpec, Manifest, in_order, jobs_of
from unteach.references.plan import Halves, Plan, Retrains, Shadows, Unlearned, Worlds, units_of
from unteach.references.stages import run
from unteach.references.unlearning import UnlearningJob

__all__ = [
    "EXECUTORS",
    "Cache",
    "DataSpec",
    "Executor",
    "Forecast",
    "Halves",
    "Local",
    "Manifest",
    "Plan",
    "Ray",
    "Retrains",
    "Shadows",
    "Shard",
    "Slurm",
    "TrainingJob",
    "Unlearned",
    "UnlearningJob",
    "Worlds",
    "forecast",
    "in_order",
    "jobs_of",
    "run",
    "units_of",
]
