"""Every method on two processes does what it does on one: the same network but for rounding, at the same cost."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from groups import run
from methods.test_methods import ANY_NETWORK

DRAWS_ITS_OWN = {"dau", "unsir-batch"}  # each process draws noise for its own examples: others than one process draws
WHOLE_ON_EACH = {"svd-removal"}  # some of the work is done by every process, and billed so
NEEDS_WHOLE_WEIGHTS = {
    *(
        "amun-salun",
        "amun-salun-forget-only",
        "salun",
        "salun-forget-only",
        "masked-small-gradients",
    ),  # hooks on weights
    *("cf-k", "eu-k", "boundary-expand", "dau", "l1-sparse", "uam"),
}
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
from unteach.types import Refusal, Split

folder, devices, strategy = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
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
engine = Engine(accelerator="cpu", devices=devices, precision="fp32", strategy=strategy)
made = {}
for name in ANY_NETWORK:
    method = quick(METHODS[name]())
    if name in ("ssd", "lfssd"):  # left to itself the threshold is some weight's own ratio, and rounding decides about that one
        method = replace(method, alpha=1.5)
    for what, split in splits.items():
        if what == "one" and "class" in method.needs:
            continue
        engine.stages.clear()
        try:
            new = method(model, asked(method, data, split), torch.Generator().manual_seed(0), engine)
        except Refusal as refusal:
            made[name, what] = str(refusal), 0.0
        else:
            made[name, what] = new.state_dict(), sum(stage.units for stage in engine.stages)
torch.save(made, folder / f"{devices}-{strategy}-{engine.rank}.pt")
engine.close()
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[tuple[str, str], Any]]]:
    """What one process made, and the first and the second of two, by strategy."""
    folder = tmp_path_factory.mktemp("group")
    (folder / "program.py").write_text(PROGRAM)
    for devices, strategy in (("1", "auto"), ("2", "ddp"), ("2", "fsdp2")):
        run([str(folder / "program.py"), str(folder), devices, strategy])
    groups = {how: ["1-auto-0.pt", f"2-{how}-0.pt", f"2-{how}-1.pt"] for how in ("ddp", "fsdp2")}
    return {how: [torch.load(folder / name) for name in names] for how, names in groups.items()}


@pytest.mark.slow
@pytest.mark.parametrize("how", ["ddp", "fsdp2"])
@pytest.mark.parametrize("what", ["some", "one"])
@pytest.mark.parametrize("name", ANY_NETWORK)
def test_two_processes_do_what_one_does(
    name: str, what: str, how: str, saved: dict[str, list[dict[tuple[str, str], Any]]]
) -> None:
    """``one``: a single forgotten example, fewer than there are processes."""
    made = saved[how]
    if (name, what) not in made[0]:
        pytest.skip("a method for whole classes")
    (alone, cost), (first, billed), (second, billed_too) = (each[name, what] for each in made)
    assert isinstance(first, str) == (how == "fsdp2" and name in NEEDS_WHOLE_WEIGHTS)
    if isinstance(first, str):
        assert first == second
        assert "--strategy fsdp2" in first
        return
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
