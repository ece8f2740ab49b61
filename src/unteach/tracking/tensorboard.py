"""TensorBoard: event files in the run folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from unteach.tracking.figures import Plain


class TensorBoard:
    """Writes into ``tensorboard/`` of the run folder; ``tensorboard --logdir runs`` shows all runs there.

    Settings stand under Text from the start, and beside the final numbers under HParams from the end.
    """

    modules: ClassVar[tuple[str, ...]] = ("tensorboard",)

    def __init__(self, folder: Path, settings: Mapping[str, Plain]) -> None:
        from torch.utils import tensorboard

        self._settings = dict(settings)
        self._writer: Any = tensorboard.SummaryWriter(str(folder / "tensorboard"))  # type: ignore[no-untyped-call]
        self._writer.add_text("settings", _block(self._settings))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def finish(self, numbers: Mapping[str, float], tags: Mapping[str, str], failed: bool) -> None:
        try:
            self._writer.add_text("tags", _block({**tags, "failed": failed}))
            # run_name: into this folder, not one named by the clock.
            self._writer.add_hparams(self._settings | dict(tags), dict(numbers), run_name=".")
        finally:
            self._writer.close()


def _block(values: Mapping[str, Any]) -> str:
    """JSON as Markdown shows it unchanged."""
    return "\n".join(f"    {line}" for line in json.dumps(values, indent=1, sort_keys=True).splitlines())
