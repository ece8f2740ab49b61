"""Every method on two processes does what it does on one: the same network but for rounding, at the same cost."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from groups import run
from methods.test_methods import ANY_NETWORK

DRAWS_ITS_OWN = {"dau", "unsir-batch"}  # each process draws noise for its own examples: others than one process draws
WHOLE_ON_EACH = {"svd-removal"}  # some of the work is done by every process, and billed so
TOLERANCE = 1e-4  # of a tensor's largest value: sums are made in another order

PROGRAM = """
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from made import blobs
from test_methods import ANY_NETWORK, asked, quick

from unteach.engine import Engine
from unteach.methods import METHODS
from unteach.train import Sgd, Source, fit
from unteach.types import Split

folder, devices = Path(sys.argv[1]), int(sys.argv[2])
nn, data = torch.nn, blobs(120, noise=0.45)


def network(start):
    # Smooth, so that rounding stays rounding: at the kink of a ReLU it becomes another step, and where ARU leaves a channel
    # dead, batch norm makes it large.
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 8, 3, padding=1), nn.Tanh(), nn.AvgPool2d(2)]
    layers += [nn.Conv2d(8, 12, 3, padding=1), nn.BatchNorm2d(12), nn.GELU(), nn.Flatten(), nn.Linear(192, 3)]
    made = nn.Sequential(*layers)
    if start.exists():
        made.load_state_dict(torch.load(start))
        return made.eval()
    fit(made, [Source(data)], Sgd(lr=0.1, epochs=6, batch=32), seed=0, engine=Engine(precision="fp32"))
    torch.save(made.state_dict(), start)
    return made


gone = np.arange(len(data)) % 6 == 0
rest = [i for i in range(len(data)) if i != 5]
splits = {
    "some": Split(forget=data.take(gone), retain=data.take(~gone)),
    "one": Split(forget=data.take([5]), retain=data.take(rest)),
}
model = network(folder / "start.pt")
engine = Engine(accelerator="cpu", devices=devices, precision="fp32")
made = {}
for name in ANY_NETWORK:
    method = quick(METHODS[name]())
    if name in ("ssd", "lfssd"):  # left to itself the threshold is some weight's own ratio, and rounding decides about that one
        method = replace(method, alpha=1.5)
    for what, split in splits.items():
        if what == "one" and "class" in method.needs:
            continue
        engine.stages.clear()
        new = method(model, asked(method, data, split), torch.Generator().manual_seed(0), engine)
        made[name, what] = new.state_dict(), sum(stage.units for stage in engine.stages)
torch.save(made, folder / f"{devices}-{engine.rank}.pt")
engine.close()
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> list[dict[tuple[str, str], Any]]:
    """What one process made, and the first and the second of two."""
    folder = tmp_path_factory.mktemp("group")
    (folder / "program.py").write_text(PROGRAM)
    for devices in ("1", "2"):
        run([str(folder / "program.py"), str(folder), devices])
    return [torch.load(folder / name) for name in ("1-0.pt", "2-0.pt", "2-1.pt")]


@pytest.mark.slow
@pytest.mark.parametrize("what", ["some", "one"])
@pytest.mark.parametrize("name", ANY_NETWORK)
def test_two_processes_do_what_one_does(name: str, what: str, saved: list[dict[tuple[str, str], Any]]) -> None:
    """``one``: a single forgotten example, fewer than there are processes."""
    if (name, what) not in saved[0]:
        pytest.skip("a method for whole classes")
    (alone, cost), (first, billed), (second, billed_too) = (each[name, what] for each in saved)
    for tensor, value in alone.items():
        assert torch.equal(first[tensor], second[tensor]), f"the processes differ in {tensor}"
        assert torch.isfinite(first[tensor].float()).all()
        if name not in DRAWS_ITS_OWN:
            limit = TOLERANCE * (1 + float(value.float().abs().max()))
            torch.testing.assert_close(first[tensor], value, rtol=0, atol=limit)
    assert billed == billed_too
    # A step of fewer examples than processes is made by each of them whole.
    if what == "some" and name not in WHOLE_ON_EACH:
        assert billed == pytest.approx(cost)
    assert billed >= cost - 1e-9
