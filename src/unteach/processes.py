"""Several processes as one: how many there are, sums that gradients flow through, batch norm over the examples of all."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from multiprocessing import parent_process
from typing import Any

import torch

from unteach.types import Refusal


def summed(values: torch.Tensor) -> torch.Tensor:
    """The sum over all processes, on each of them; gradients flow back to every process's own values."""
    total: torch.Tensor = _sum_function().apply(values)
    return total


@cache
def _sum_function() -> Any:
    """The sum as torch.autograd wants it; made when it is asked for, since ``--help`` need not load torch."""

    class Sum(torch.autograd.Function):
        """What each process does with the sum moves every process's values: their gradients add up as well."""

        @staticmethod
        def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:
            return _added(values)

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return _added(gradient)

    return Sum


def _added(values: torch.Tensor) -> torch.Tensor:
    total = values.detach().clone(memory_format=torch.contiguous_format)
    torch.distributed.all_reduce(total)
    return total


def gathered(rows: torch.Tensor, sizes: Sequence[int], shape: Sequence[int], device: torch.device) -> torch.Tensor:
    """The rows of all processes end to end, on each of them; ``sizes``: how many each has, ``shape``: of one row."""
    # gloo can't send bool.
    sent = rows.to(device, torch.uint8 if rows.dtype == torch.bool else rows.dtype)
    padded = sent.new_zeros((max(sizes), *shape))
    if len(sent):
        padded[: len(sent)] = sent
    every = [torch.empty_like(padded) for _ in sizes]
    torch.distributed.all_gather(every, padded)
    return torch.cat([part[:size] for part, size in zip(every, sizes)]).to(rows.device, rows.dtype)


@contextmanager
def normalising_together(networks: Sequence[torch.nn.Module]) -> Iterator[None]:
    """Inside, batch norm in these networks standardises by the examples of all processes, as one process with all would.

    To hold around the backward pass too, which may compute activations again. Every process is to call it equally often.
    """
    norms = [
        module
        for network in networks
        for module in network.modules()
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)
    ]
    for norm in norms:
        norm.forward = partial(_normalised, norm)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward


def _normalised(norm: torch.nn.modules.batchnorm._BatchNorm, inputs: torch.Tensor) -> torch.Tensor:
    """Batch norm's forward pass; its running statistics follow those of all processes.

    torch.nn.SyncBatchNorm does the same on GPUs only, as another class of module.
    """
    if not norm.training:
        return type(norm).forward(norm, inputs)
    across = [0, *range(2, inputs.ndim)]
    var, mean = torch.var_mean(inputs.float(), across, correction=0)
    mine = inputs.numel() // inputs.shape[1]
    shared = summed(torch.cat((mine * mean, mean.new_tensor([float(mine)]))))
    count = shared[-1].detach()
    middle = shared[:-1] / count
    spread = summed(mine * (var + (mean - middle).square())) / count
    if norm.track_running_stats and norm.running_mean is not None and norm.running_var is not None:
        assert norm.num_batches_tracked is not None
        norm.num_batches_tracked.add_(1)
        pace = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
        norm.running_mean.lerp_(middle.detach().to(norm.running_mean), pace)
        norm.running_var.lerp_((spread.detach() * count / (count - 1)).to(norm.running_var), pace)
    scale = (spread + norm.eps).rsqrt()
    scale = scale if norm.weight is None else scale * norm.weight
    shift = -middle * scale if norm.bias is None else norm.bias - middle * scale
    shape = (1, -1, *[1] * (inputs.ndim - 2))
    return torch.addcmul(shift.view(shape), inputs.float(), scale.view(shape)).to(inputs.dtype)


def fully_sharded(network: torch.nn.Module, mesh: Any) -> torch.nn.Module:
    """Divide the network's weights among the processes, block by block, so that one block at a time is whole."""
    from torch.distributed.fsdp import fully_shard

    containers = (torch.nn.Sequential, torch.nn.ModuleList)
    for child in network.children():
        for block in child.children() if isinstance(child, containers) else [child]:
            if next(block.parameters(), None) is not None and not isinstance(block, torch.nn.ModuleList):
                fully_shard(block, mesh=mesh["data_parallel"])
    fully_shard(network, mesh=mesh["data_parallel"])
    return network


def world_told(devices: int, nodes: int) -> tuple[int, int]:
    """Devices a node and nodes: as torchrun or srun says in the environment, where it started this process.

    A worker that such a process started inherits the environment, but is on its own.
    """
    told = os.environ
    if parent_process() is not None:
        return devices, nodes
    if "TORCHELASTIC_RUN_ID" in told and "LOCAL_WORLD_SIZE" in told and "GROUP_WORLD_SIZE" in told:
        return int(told["LOCAL_WORLD_SIZE"]), int(told["GROUP_WORLD_SIZE"])
    tasks = int(told.get("SLURM_STEP_NUM_TASKS", "1"))
    if tasks > 1 and told.get("SLURM_JOB_NAME") not in ("bash", "interactive"):  # a shell that srun started
        nodes = int(told.get("SLURM_STEP_NUM_NODES", "1"))
        if tasks % nodes:
            raise Refusal(f"expected as many tasks on each of {nodes} nodes, got {tasks}; give srun --ntasks-per-node")
        told.setdefault("SLURM_NTASKS_PER_NODE", str(tasks // nodes))  # Fabric asks for it, srun --ntasks leaves it out
        return tasks // nodes, nodes
    return devices, nodes
