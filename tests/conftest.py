"""What tests of several rooms need."""

from __future__ import annotations

import multiprocessing
from multiprocessing.context import ForkServerContext

import pytest


@pytest.fixture(scope="session")
def quick_processes() -> ForkServerContext:
    """Processes that are new, as spawned ones are, but don't import torch again."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["unteach.references.stages", "torch._dynamo"])
    return context
