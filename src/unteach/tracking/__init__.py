"""What a run tells to programs that show runs side by side: settings, curves, final numbers. Off unless asked for."""

from __future__ import annotations

from importlib.util import find_spec

from unteach.tracking.figures import finals, flattened, shortened
from unteach.tracking.following import Following, Tracker
from unteach.tracking.mlflow import MLflow
from unteach.tracking.tensorboard import TensorBoard
from unteach.tracking.wandb import WandB
from unteach.types import Refusal

TRACKERS: dict[str, type[Tracker]] = {"tensorboard": TensorBoard, "mlflow": MLflow, "wandb": WandB}


def trackers_named(names: str) -> dict[str, type[Tracker]]:
    """The trackers of a list with commas; none for an empty one. Nothing of them is imported.

    Raises: Refusal for a name that is no tracker, and where a tracker's extra is not installed.
    """
    chosen = dict.fromkeys(name.strip() for name in names.split(",")) if names.strip() else {}
    for name in chosen:
        if name not in TRACKERS:
            raise Refusal(f"expected --track to be of {', '.join(TRACKERS)}, got {name!r}; choose some of these")
        if missing := [module for module in TRACKERS[name].modules if find_spec(module) is None]:
            raise Refusal(
                f"expected {', '.join(missing)} to be installed for --track {name}, got none; "
                f"pip install 'unteach[{name}]', or leave it out"
            )
    return {name: TRACKERS[name] for name in chosen}


__all__ = [
    "TRACKERS",
    "Following",
    "MLflow",
    "TensorBoard",
    "Tracker",
    "WandB",
    "finals",
    "flattened",
    "shortened",
    "trackers_named",
]
