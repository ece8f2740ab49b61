"""MLflow: runs in a SQLite file, or on the server that the environment names."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from unteach.tracking.figures import Plain


class MLflow:
    """Writes into ``mlflow.db`` beside the run folder, which all runs there share.

    ``mlflow ui --backend-store-uri sqlite:///runs/mlflow.db`` shows them. MLFLOW_TRACKING_URI names another store,
    MLFLOW_EXPERIMENT_NAME another experiment than unteach.
    """

    modules: ClassVar[tuple[str, ...]] = ("mlflow", "sqlalchemy", "alembic")

    def __init__(self, folder: Path, settings: Mapping[str, Plain]) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # else it reports its use when it is imported
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        self._metric: Any = Metric
        here = folder.absolute().parent
        self._client: Any = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{here / 'mlflow.db'}")
        self._run: str = self._client.create_run(_experiment(self._client, here), run_name=folder.name).info.run_id
        params = [Param(name, str(value)[:500]) for name, value in settings.items()]
        for start in range(0, len(params), 100):  # as many as it takes at once
            self._client.log_batch(self._run, params=params[start : start + 100])

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        now = int(1000 * time.time())
        points = [self._metric(name, value, now, step) for name, value in values.items()]
        for start in range(0, len(points), 1000):
            self._client.log_batch(self._run, metrics=points[start : start + 1000])

    def finish(self, numbers: Mapping[str, float], tags: Mapping[str, str], failed: bool) -> None:
        try:
            self.scalars(0, numbers)
            for name, value in tags.items():
                self._client.set_tag(self._run, name, value)
        finally:
            self._client.set_terminated(self._run, "FAILED" if failed else "FINISHED")


def _experiment(client: Any, here: Path) -> str:
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "unteach"
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    own = {} if os.environ.get("MLFLOW_TRACKING_URI") else {"artifact_location": (here / "mlartifacts").as_uri()}
    return str(client.create_experiment(name, **own))
