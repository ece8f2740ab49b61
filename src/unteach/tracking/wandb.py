"""Weights & Biases: offline in the run folder, unless the environment says otherwise."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from unteach.tracking.figures import Plain


class WandB:
    """Writes into ``wandb/`` of the run folder, offline: ``wandb sync runs/NAME/wandb/offline-run-*`` uploads it.

    With WANDB_MODE=online (and an account) the run is sent as it goes on; WANDB_PROJECT names another project than unteach.
    Neither command line, code, console, host nor machine is told.
    """

    modules: ClassVar[tuple[str, ...]] = ("wandb",)

    def __init__(self, folder: Path, settings: Mapping[str, Plain]) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # else it reports its own failures even when offline
        import wandb

        self._run: Any = wandb.init(
            dir=str(folder.absolute()),
            project=os.environ.get("WANDB_PROJECT") or "unteach",
            name=folder.name,
            mode=os.environ.get("WANDB_MODE") or "offline",
            config=dict(settings),
            settings=wandb.Settings(
                silent=True,
                console="off",
                disable_git=True,
                disable_code=True,
                x_disable_stats=True,
                x_disable_meta=True,
                x_disable_machine_info=True,
            ),
        )
        # Its own count of steps goes on through all curves; ours begin anew in every training.
        self._run.define_metric("*", step_metric="step")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({**values, "step": step})

    def finish(self, numbers: Mapping[str, float], tags: Mapping[str, str], failed: bool) -> None:
        try:
            self._run.summary.update(dict(numbers))
            self._run.config.update(dict(tags))
        finally:
            self._run.finish(exit_code=int(failed))
