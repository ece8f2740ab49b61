"""Devices, precision and processes: the one file that imports Lightning Fabric."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from unteach.eval_mode import evaluating
from unteach.events import Events
from unteach.precision import autocast, has_fast_bf16
from unteach.types import Refusal


@dataclass
class Meter:
    """What the work cost, counted where it is done.

    ``trained``, ``gradients``, ``forwards``: examples that went through a training step, an input gradient, a forward
    pass. One training step costs one unit, an input gradient 2/3, a forward pass 1/3 (the usual arithmetic of
    multiply-adds), so ``units / len(data)`` is the cost in full-data epochs.
    """

    trained: int = 0
    gradients: int = 0
    forwards: int = 0

    @property
    def units(self) -> float:
        return self.trained + self.gradients * 2 / 3 + self.forwards / 3


@dataclass(frozen=True)
class Stage:
    """One line of the bill: what was done, in seconds and in training steps of one example (``Meter.units``)."""

    what: str
    seconds: float
    units: float


class Watch(Protocol):
    """Looks at a network after each epoch of its training, and may stop it; its state goes on after an interruption."""

    stopped: bool

    def __call__(self, model: torch.nn.Module, label: str, epoch: int) -> bool: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Any) -> None: ...


class Engine:
    """Where and how the arithmetic is done; one object for a whole job.

    ``devices`` > 1 and torchrun form a group of processes through Fabric; with one device Fabric is not imported.
    ``precision``: "auto" (bf16 autocast where the chip multiplies it natively), "bf16" or "fp32". ``scratch``: a folder where
    trainings keep their state, to go on after an interruption. ``watch``: who looks at every training, see ``guard``.
    """

    def __init__(
        self,
        *,
        accelerator: str = "auto",
        devices: int = 1,
        nodes: int = 1,
        precision: str = "auto",
        events: Events | None = None,
        scratch: Path | None = None,
    ) -> None:
        if precision not in ("auto", "bf16", "fp32"):
            raise Refusal(f"expected precision to be auto, bf16 or fp32, got {precision!r}; choose one of these")
        devices, nodes = _world(devices, nodes)
        if devices < 1 or nodes < 1:
            raise Refusal(f"expected at least one device and one node, got {devices} and {nodes}; give 1 or more")
        self.scratch = scratch
        self.watch: Watch | None = None
        self.meter = Meter()
        self.stages: list[Stage] = []
        self._fabric: Any = None
        self.device = _device(accelerator, devices)
        if devices * nodes > 1:
            self._fabric = _launch(self.device.type, devices, nodes)
            self.device = self._fabric.device
        self.events = events if events is not None and self.rank == 0 else Events()  # one voice for the group
        self.bf16 = has_fast_bf16(self.device) if precision == "auto" else precision == "bf16"

    @property
    def rank(self) -> int:
        return int(self._fabric.global_rank) if self._fabric else 0

    @property
    def world(self) -> int:
        return int(self._fabric.world_size) if self._fabric else 1

    def autocast(self) -> torch.autocast:
        """The precision of forward and backward passes."""
        return autocast(self.device, self.bf16)

    def place(self, model: torch.nn.Module) -> torch.nn.Module:
        """The model on the device in channels_last, the layout that is faster on every chip measured."""
        placed: torch.nn.Module = model.to(device=self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return placed

    def setup(
        self, model: torch.nn.Module, optimizer: torch.optim.Optimizer
    ) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        """Wrap for several processes; with one, both come back as they are."""
        if self._fabric is None:
            return model, optimizer
        wrapped, stepper = self._fabric.setup(model, optimizer)
        return wrapped, stepper

    def backward(self, loss: torch.Tensor) -> None:
        """Gradients of the loss; summed over processes where there are several."""
        if self._fabric is None:
            loss.backward()  # type: ignore[no-untyped-call]
        else:
            self._fabric.backward(loss)

    def share(self, total: int) -> slice:
        """This process's part of ``total`` rows: nothing padded, nothing twice."""
        cut = [total * r // self.world for r in range(self.world + 1)]
        return slice(cut[self.rank], cut[self.rank + 1])

    def gather(self, rows: torch.Tensor, total: int) -> torch.Tensor:
        """All processes' rows in order, ``total`` of them, on every process."""
        if self._fabric is None:
            return rows
        longest = -(-total // self.world)
        padded = rows.new_zeros((longest, *rows.shape[1:]))
        padded[: len(rows)] = rows
        every = [torch.empty_like(padded) for _ in range(self.world)]
        torch.distributed.all_gather(every, padded)
        sizes = [total * (r + 1) // self.world - total * r // self.world for r in range(self.world)]
        return torch.cat([part[:size] for part, size in zip(every, sizes)])

    def wait(self) -> None:
        """Until all processes are here: what rank 0 wrote is then there for everyone."""
        if self._fabric is not None:
            torch.distributed.barrier()

    def logits(
        self, model: torch.nn.Module, inputs: torch.Tensor, *, batch: int = 256, exact: bool = True
    ) -> torch.Tensor:
        """Logits of every input: eval mode, no augmentation, given order, fp32, on the CPU; shape ``n × classes``.

        The model's bytes and training flags are left as they were. ``exact=False`` allows bf16, for accuracies during a
        job; scores that an audit reads are exact.
        """
        total = len(inputs)
        alone = total < self.world  # too few to go round: everyone does all
        mine = slice(0, total) if alone else self.share(total)
        out = []
        with evaluating(model), torch.no_grad(), autocast(self.device, self.bf16 and not exact):
            for start in range(mine.start, mine.stop, batch):
                x = pixels(inputs[start : min(start + batch, mine.stop)].to(self.device))
                out.append(model(x).float())
        self.meter.forwards += mine.stop - mine.start
        local = torch.cat(out) if out else torch.zeros(0, 0, device=self.device)
        return (local if alone else self.gather(local, total)).cpu()

    @contextmanager
    def stage(self, what: str) -> Iterator[None]:
        """Measures what is done inside and adds it to ``stages`` as one line of the bill."""
        before, start = self.meter.units, time.perf_counter()
        try:
            yield
        finally:
            self.stages.append(Stage(what, time.perf_counter() - start, self.meter.units - before))

    def close(self) -> None:
        """End the group of processes; without this a gloo job may end with a crash after its work is done."""
        if self._fabric is not None and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def pixels(inputs: torch.Tensor) -> torch.Tensor:
    """uint8 images 0–255 as floats in 0–1, in channels_last; floats pass through."""
    if inputs.dtype == torch.uint8:
        inputs = inputs.float().div_(255)
    return inputs.contiguous(memory_format=torch.channels_last) if inputs.ndim == 4 else inputs


def unwrapped(network: torch.nn.Module) -> torch.nn.Module:
    """The network itself, without what several processes wrap around it."""
    fabric = getattr(network, "_forward_module", None)
    inner = getattr(fabric, "module", None) if fabric is not None else None
    return inner if isinstance(inner, torch.nn.Module) else network


def _device(accelerator: str, devices: int) -> torch.device:
    if accelerator == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    if accelerator in ("cuda", "gpu") and not torch.cuda.is_available():
        raise Refusal("expected a CUDA device for --device cuda, got none that torch can see; use --device cpu")
    if accelerator not in ("cuda", "gpu", "cpu"):
        raise Refusal(f"expected --device auto, cpu or cuda, got {accelerator!r}; choose one of these")
    if accelerator != "cpu" and devices > torch.cuda.device_count():
        raise Refusal(f"expected {devices} GPUs for --devices, got {torch.cuda.device_count()}; give a smaller number")
    return torch.device("cpu" if accelerator == "cpu" else "cuda")


def _world(devices: int, nodes: int) -> tuple[int, int]:
    """Devices a node and nodes: as torchrun says in the environment, where it started this process."""
    said = [os.environ.get(name) for name in ("LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE")]
    if "TORCHELASTIC_RUN_ID" in os.environ and all(said):
        return int(said[0] or 1), int(said[1] or 1)
    return devices, nodes


def _launch(accelerator: str, devices: int, nodes: int) -> Any:
    from lightning_fabric import Fabric

    fabric = Fabric(accelerator=accelerator, devices=devices, num_nodes=nodes, strategy="ddp")
    fabric.launch()
    return fabric
