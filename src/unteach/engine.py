"""Devices, precision and processes: the one file that imports Lightning Fabric."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import astuple, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

from unteach.bill import Meter, Stage
from unteach.compiled import compiled, refuse_without_compiler, uncompiled
from unteach.devices import device_of
from unteach.eval_mode import evaluating
from unteach.events import Events
from unteach.precision import autocast, has_fast_bf16, whole_fp32
from unteach.processes import fully_sharded, gathered, normalising_together, summed, world_told
from unteach.types import Refusal

__all__ = ["Engine", "Meter", "Stage", "Watch", "pixels", "unwrapped"]

T = TypeVar("T")
R = TypeVar("R")


class Watch(Protocol):
    """Looks at a network after each epoch of its training, and may stop it; its state goes on after an interruption."""

    stopped: bool

    def __call__(self, model: torch.nn.Module, label: str, epoch: int) -> bool: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Any) -> None: ...


class Engine:
    """Where and how the arithmetic is done; one object for a whole job.

    ``devices`` > 1 and torchrun form a group of processes through Fabric; with one device Fabric is not imported.
    ``strategy``: "auto" and "ddp" keep the network whole on every process; "fsdp2" divides its weights, their gradients and
    the optimiser's state among the processes while it trains. ``precision``: "auto" (bf16 autocast where the chip multiplies
    it natively), "bf16" or "fp32". ``compiles``: whether networks are compiled for training, see ``compiled``. ``scratch``: a
    folder where trainings keep their state, to go on after an interruption. ``watch``: looks at every training, see ``guard``.
    """

    def __init__(
        self,
        *,
        accelerator: str = "auto",
        devices: int = 1,
        nodes: int = 1,
        precision: str = "auto",
        strategy: str = "auto",
        compiles: bool = False,
        events: Events | None = None,
        scratch: Path | None = None,
    ) -> None:
        if precision not in ("auto", "bf16", "fp32"):
            raise Refusal(f"expected precision to be auto, bf16 or fp32, got {precision!r}; choose one of these")
        if strategy not in ("auto", "ddp", "fsdp2"):
            raise Refusal(f"expected strategy to be auto, ddp or fsdp2, got {strategy!r}; choose one of these")
        devices, nodes = world_told(devices, nodes)
        if devices < 1 or nodes < 1:
            raise Refusal(f"expected at least one device and one node, got {devices} and {nodes}; give 1 or more")
        self.scratch = scratch
        self.watch: Watch | None = None
        self.meter = Meter()
        self._settled = Meter()
        self.stages: list[Stage] = []
        self._fabric: Any = None
        self.device = device_of(accelerator, devices)
        if compiles and devices * nodes > 1:
            raise Refusal(f"expected one process for --compile, got {devices * nodes}; leave out one of the two")
        if compiles:
            refuse_without_compiler(self.device)
        self.compiles = compiles
        self.divides_weights = strategy == "fsdp2" and devices * nodes > 1
        if devices * nodes > 1:
            self._fabric = _launch(self.device.type, devices, nodes, strategy)
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
        self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, sizes: Collection[int] = ()
    ) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        """Wrap for several processes, or compile for batches of these sizes where wished; else both come back as they are."""
        if self._fabric is None:
            mode = "reduce-overhead" if self.device.type == "cuda" else None
            return compiled(model, sizes, mode) if self.compiles and sizes else model, optimizer
        wrapped, stepper = self._fabric.setup(model, optimizer)
        return wrapped, stepper

    def setup_divided(
        self, model: torch.nn.Module, optimizer_of: Callable[[torch.nn.Module], torch.optim.Optimizer]
    ) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        """A copy of the model whose weights the processes divide among them, and its optimiser.

        The model itself waits on the CPU; ``collect`` brings it the weights.
        """
        copied = copy.deepcopy(model.cpu()).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        wrapped = self._fabric.setup_module(copied)
        return wrapped, self._fabric.setup_optimizers(optimizer_of(wrapped))

    def collect(self, divided: torch.nn.Module, model: torch.nn.Module) -> None:
        """Put the whole weights of a divided copy into the model, on every process."""
        state = divided.state_dict().items()
        model.load_state_dict({name: getattr(value, "full_tensor", lambda v=value: v)() for name, value in state})
        self.place(model)

    def agree(self, model: torch.nn.Module) -> None:
        """The first process's buffers for all: noise that each draws for itself may have moved them apart."""
        if self._fabric is None:
            return
        for buffer, value in zip(model.buffers(), self._from_first([buffer.cpu() for buffer in model.buffers()])):
            buffer.copy_(value)

    def refuse_if_divided(self, what: str) -> None:
        """Refuse work that needs whole weights while it trains, where they are divided among processes."""
        if self.divides_weights:
            raise Refusal(
                f"expected whole weights on every process for {what}, got --strategy fsdp2, which divides them; give ddp"
            )

    def backward(self, loss: torch.Tensor) -> None:
        """Gradients of the loss; summed over processes where there are several."""
        if self._fabric is None:
            loss.backward()  # type: ignore[no-untyped-call]
        else:
            self._fabric.backward(loss)

    def share(self, total: int, block: int = 1) -> slice:
        """This process's part of ``total`` rows, whole blocks of them: nothing padded, nothing twice."""
        cut = self._cuts(total, block)
        return slice(cut[self.rank], cut[self.rank + 1])

    def _cuts(self, total: int, block: int) -> list[int]:
        blocks = -(-total // block)
        return [min(total, block * (blocks * r // self.world)) for r in range(self.world + 1)]

    def part(self, total: int) -> slice:
        """This process's share of a step's rows, or all of them where they are too few to go round."""
        return slice(0, total) if total < self.world else self.share(total)

    def gather(self, rows: torch.Tensor, total: int, block: int = 1) -> torch.Tensor:
        """All processes' shares in order, ``total`` rows, on every process; one without rows need not know their shape."""
        if self._fabric is None:
            return rows
        cut = self._cuts(total, block)
        sizes = [end - start for start, end in pairwise(cut)]
        shape = rows.shape[1:] if min(sizes) else self._from_first(tuple(rows.shape[1:]), sizes.index(max(sizes)))
        return gathered(rows, sizes, shape, self.device)

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """The sum over all processes, on every process; gradients flow through."""
        return values if self._fabric is None else summed(values)

    def divided(self, things: Sequence[T], work: Callable[[T], R]) -> list[R]:
        """``work`` of each of these, done by one process each in turn; the results in order on every process."""
        mine = [work(thing) for thing in things[self.rank :: self.world]]
        if self._fabric is None:
            return mine
        every: list[Any] = [None] * self.world
        torch.distributed.all_gather_object(every, mine)
        return [every[i % self.world][i // self.world] for i in range(len(things))]

    @contextmanager
    def own_draws(self, rng: torch.Generator) -> Iterator[torch.Generator]:
        """Randomness for work that is shared out: the generator itself for the first process, others for the others.

        At the end every process's generator is where the first one's is, so that they go on alike.
        """
        if self.rank:
            rng.manual_seed(rng.initial_seed() + self.rank)
        yield rng
        rng.set_state(self._from_first(rng.get_state()))

    def _from_first(self, value: T, rank: int = 0) -> T:
        """The first process's value, or that of another one, for all."""
        if self._fabric is None:
            return value
        held = [value]
        torch.distributed.broadcast_object_list(held, rank)
        return held[0]

    def together(self, *networks: torch.nn.Module) -> AbstractContextManager[None]:
        """Inside, batch norm in these standardises by all processes' examples; forward and backward passes belong inside."""
        return nullcontext() if self._fabric is None else normalising_together(networks)

    def settle(self) -> None:
        """Add up what all processes have counted since the last time: the meter is then the whole group's."""
        if self._fabric is None:
            return
        now, before = (torch.tensor(astuple(meter), dtype=torch.int64) for meter in (self.meter, self._settled))
        counts = (before + summed((now - before).to(self.device)).cpu()).tolist()
        self.meter.trained, self.meter.gradients, self.meter.forwards = counts
        self._settled = Meter(*counts)

    def wait(self) -> None:
        """Until all processes are here: what rank 0 wrote is then there for everyone."""
        if self._fabric is not None:
            torch.distributed.barrier()

    def logits(
        self, model: torch.nn.Module, inputs: torch.Tensor, *, batch: int = 256, exact: bool = True
    ) -> torch.Tensor:
        """Logits of every input: eval mode, no augmentation, given order, fp32, on the CPU; shape ``n × classes``.

        The model is placed (``place``); its bytes and training flags are left as they were. ``exact=False`` allows bf16, for
        accuracies during a job; scores that an audit reads are exact. Of several processes each takes whole batches, so that the
        arithmetic, and on a CPU every bit of it, is that of one process.
        """
        mine, model = self.share(len(inputs), batch), self.place(model)
        out = torch.zeros(0, 0)
        whole = whole_fp32(self.device) if exact else nullcontext()
        with evaluating(model), torch.no_grad(), autocast(self.device, self.bf16 and not exact), whole:
            for start in range(mine.start, mine.stop, batch):
                end = min(start + batch, mine.stop)
                found = model(pixels(inputs[start:end].to(self.device))).float()
                if start == mine.start:  # one place for all: small results kept one by one would cut up freed memory
                    out = found.new_empty((mine.stop - mine.start, *found.shape[1:]))
                out[start - mine.start : end - mine.start] = found
                del found
        self.meter.forwards += mine.stop - mine.start
        return self.gather(out, len(inputs), batch).cpu()

    @contextmanager
    def stage(self, what: str) -> Iterator[None]:
        """Measures what is done inside, by all processes, and adds it to ``stages`` as one line of the bill."""
        self.settle()
        before, start = replace(self.meter), time.perf_counter()
        try:
            yield
            self.settle()
        finally:
            self.stages.append(Stage(what, time.perf_counter() - start, self.meter.units_since(before)))

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
    """The network itself, without what several processes or a compiler wrap around it."""
    fabric = getattr(network, "_forward_module", None)
    inner = getattr(fabric, "module", None) if fabric is not None else None
    return inner if isinstance(inner, torch.nn.Module) else uncompiled(network)


def _launch(accelerator: str, devices: int, nodes: int, strategy: str) -> Any:
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.model_parallel import ModelParallelStrategy

    # A kernel of one input channel is in both layouts at once, and torch may call it by either.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    made: Any = "ddp"
    if strategy == "fsdp2":
        made = ModelParallelStrategy(fully_sharded, data_parallel_size=devices * nodes, tensor_parallel_size=1)
    fabric = Fabric(accelerator=accelerator, devices=devices, num_nodes=nodes, strategy=made)
    fabric.launch()
    return fabric
