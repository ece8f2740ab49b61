"""What a training needs to go on after an interruption: its state after the last whole epoch, in a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from unteach.store import write
from unteach.types import Refusal


class Stateful(Protocol):
    """What goes on after an interruption: networks, optimisers."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: Any) -> Any: ...


class Resume:
    """The state after the last whole epoch, in a file; nothing when there is no file to keep."""

    def __init__(self, path: Path | None, identity: dict[str, Any]) -> None:
        self.path = path
        self.identity = repr(identity)

    def load(self, model: torch.nn.Module, carried: Mapping[str, Stateful]) -> list[dict[str, float]]:
        if self.path is None or not self.path.is_file():
            return []
        try:
            saved = torch.load(self.path, weights_only=True)
            if saved["identity"] != self.identity:
                return []
            model.load_state_dict(saved["model"])
            for name, thing in carried.items():
                thing.load_state_dict(saved[name])
            return list(saved["log"])
        except Exception as error:  # damaged files fail in many ways
            raise Refusal(
                f"expected a resumable state in {self.path}, got: {error}; delete the file to start anew"
            ) from error

    def save(self, model: torch.nn.Module, carried: Mapping[str, Stateful], log: list[dict[str, float]]) -> None:
        if self.path is not None:
            state = {
                "identity": self.identity,
                "model": model.state_dict(),
                "log": log,
                **{name: thing.state_dict() for name, thing in carried.items()},
            }
            write(self.path, lambda temporary: torch.save(state, temporary))
