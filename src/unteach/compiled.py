"""A network compiled for training: torch.compile where shapes stay equal, the network itself everywhere else."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch

from unteach.types import Refusal

COMPILERS = ("g++", "clang++", "c++", "cl")


def compiled(
    network: torch.nn.Module, sizes: Collection[int], mode: str | None = None, backend: str = "inductor"
) -> torch.nn.Module:
    """A network in training whose passes over batches of these ``sizes`` are compiled; its weights and names stay its own.

    Batches of other sizes go through the network as it is: each further size would be compiled anew, tens of seconds for
    a step or two. Compiled code and, on a GPU, graphs are shared by all networks of one architecture in the process.
    ``mode`` and ``backend``: torch.compile's; mode "reduce-overhead" replays a pass as one CUDA graph.
    """
    fast = torch.compile(network, dynamic=False, mode=mode, backend=backend)
    made: torch.nn.Module = _kind()(network, fast, frozenset(sizes))
    return made


def uncompiled(network: torch.nn.Module) -> torch.nn.Module:
    """The network within what ``compiled`` made, or itself."""
    inner: torch.nn.Module = network.network if isinstance(network, _kind()) else network
    return inner


@cache
def _kind() -> Any:
    """The module around a network; made when it is asked for, since ``--help`` need not load torch."""

    class Compiled(torch.nn.Module):
        def __init__(self, network: torch.nn.Module, fast: Any, sizes: frozenset[int]) -> None:
            super().__init__()
            self.network, self.sizes, self.training = network, sizes, network.training
            self.fast = (fast,)  # in a tuple: as a module of its own it would stand among the network's a second time

        def forward(self, inputs: torch.Tensor, *others: Any) -> Any:
            if len(inputs) not in self.sizes:
                return self.network(inputs, *others)
            from torch._dynamo.exc import TorchDynamoException

            try:
                return self.fast[0](inputs, *others)
            except TorchDynamoException as error:
                told = " ".join(str(error).strip().partition("\n\n")[0].split()).rstrip(".")
                raise Refusal(f"expected PyTorch to compile the network, got: {told}; leave out --compile") from error

        def __getattr__(self, name: str) -> Any:
            """What belongs to the network, as a loss may ask for it."""
            try:
                return super().__getattr__(name)
            except AttributeError:
                return getattr(super().__getattr__("network"), name)

    return Compiled


def refuse_without_compiler(device: torch.device) -> None:
    """Refuse to compile where what torch.compile needs is missing, before anything is done."""
    if device.type == "cuda" and find_spec("triton") is None:
        raise Refusal(
            "expected the package triton for --compile on a GPU, got none; install it, or leave out --compile"
        )
    named = os.environ.get("CXX")
    if not any(map(shutil.which, (named,) if named else COMPILERS)):
        raise Refusal(
            f"expected a C++ compiler for --compile ({named or ', '.join(COMPILERS)}), got none; "
            "install one, or leave out --compile"
        )
