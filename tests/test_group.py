"""A group of processes, however it is started, makes what one process makes; nothing is done twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from groups import run, run_tasks
from made import blobs
from unteach.processes import world_told
from unteach.types import Refusal

PROGRAM = """
import sys
from pathlib import Path

import torch
from made import blobs

from unteach.adversarial import adversarial_set, perturbed, search
from unteach.attacks import Fgsm, Nearest, PgdL2, PgdLinf
from unteach.data.augment import Augment
from unteach.engine import Engine
from unteach.models import Blueprint, build
from unteach.recipe import Recipe
from unteach.spectral import Clip, Lanczos
from unteach.train import Sgd, Source, fit
from unteach.trades import Trades
from unteach.types import Refusal
from unteach.verbs.spectrum import describe

folder, label = Path(sys.argv[1]), sys.argv[2]
devices, strategy = int(sys.argv[3]), sys.argv[4] if len(sys.argv) > 4 else "auto"


def network():
    torch.manual_seed(0)
    nn = torch.nn
    layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.GELU(), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(144, 20), nn.BatchNorm1d(20, momentum=None), nn.Tanh(), nn.Linear(20, 3))


engine = Engine(accelerator="cpu", devices=devices, precision="fp32", strategy=strategy)
vary = Augment(crop=1, flip=True, shear=5, zoom=0.1, brightness=0.1, contrast=0.1)
optim = Sgd(lr=0.05, epochs=3, batch=31)
kept = {}


def keep(name, model):
    kept[name] = {key: value.clone() for key, value in model.state_dict().items()}


net = network()
log = fit(net, [Source(blobs(91), vary), Source(blobs(7, seed=2))], optim, seed=3, engine=engine,
          alongside=[Source(blobs(20, seed=4))])
keep("trained", net)
kept["losses"] = torch.tensor([record["loss"] for record in log])
kept["units"] = torch.tensor(engine.meter.units)
assert type(net) is torch.nn.Sequential
assert not any("FSDP" in type(module).__name__ for module in net.modules())
refused = []
for what, recipe in (("clip", Recipe(optim=optim, clip=Clip())), ("trades", Recipe(optim=optim, trades=Trades(steps=2)))):
    other = network()
    try:
        recipe(other, blobs(60), seed=1, engine=engine)
        keep(what, other)
    except Refusal as refusal:
        refused.append(str(refusal))
kept["refused"] = refused
net = engine.place(network().eval())
if (folder / "start.pt").exists():
    net.load_state_dict(torch.load(folder / "start.pt"))
else:
    fit(net, [Source(blobs(91))], optim, seed=3, engine=engine)
    torch.save(net.state_dict(), folder / "start.pt")

seen = []
hook = net[0].register_forward_hook(lambda _, args, made: seen.append(len(args[0])))
before = engine.meter.forwards
kept["seven"] = engine.logits(net, blobs(7).inputs)
engine.settle()
kept["scored"] = torch.tensor(engine.meter.forwards - before)
kept["logits"] = engine.logits(net, blobs(91).inputs, batch=16)
kept["none"] = engine.logits(net, blobs(7).inputs[:0]) if devices == 1 else kept["logits"][:0]
hook.remove()
kept["passed"] = torch.tensor(sum(seen))

rng = torch.Generator().manual_seed(0)
few = blobs(7, noise=0.4)
found = search(net, few, Nearest(bf16=False), rng=rng, engine=engine)
kept["near"], kept["distances"], kept["success"] = found.inputs, found.distances, found.success
kept["gradients"] = found.gradients_each
for name, attack in (("l2", PgdL2(random_start=True, steps=2)), ("linf", PgdLinf(random_start=True, steps=0))):
    kept[name] = perturbed(net, few, attack, rng=rng, engine=engine)
kept["after"] = rng.get_state()
search(net, few, Fgsm(), rng=rng, engine=engine)
kept["state"] = rng.get_state()
stored = adversarial_set(net, few, Nearest(bf16=False), rng=rng, engine=engine, file=folder / f"{label}.safetensors")
kept["bill"] = torch.tensor(engine.stages[-1].units)
again = adversarial_set(net, few, Nearest(bf16=False), rng=rng, engine=engine, file=folder / f"{label}.safetensors")
assert torch.equal(stored.inputs, again.inputs)
assert "reused" in engine.stages[-1].what
kept["spectra"] = describe(net, (1, 8, 8), Lanczos(k=2), engine)["layers"]
kept["thirds"] = engine.divided(range(5), lambda number: number**2)
torch.save(kept, folder / f"{label}-{engine.rank}.pt")
engine.close()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, and in ``1-0.pt`` what one process makes."""
    made = tmp_path_factory.mktemp("group")
    (made / "program.py").write_text(PROGRAM)
    run([str(made / "program.py"), str(made), "1", "1"])
    return made


def slurm(rank: int, tasks: int) -> dict[str, str]:
    """What srun tells a task of a step on one node."""
    told = {"JOB_ID": "41237", "JOB_NAME": "train", "NODELIST": "127.0.0.1", "NNODES": "1", "NTASKS": str(tasks)}
    told |= {"STEP_NUM_TASKS": str(tasks), "STEP_NUM_NODES": "1", "STEP_ID": "0"}
    told |= {"PROCID": str(rank), "LOCALID": str(rank), "NODEID": "0"}
    return {f"SLURM_{name}": value for name, value in told.items()}


def started(how: str, folder: Path) -> list[dict[str, Any]]:
    """What each of two processes made that were started in this way."""
    command = [str(folder / "program.py"), str(folder), how]
    if how == "torchrun":
        run(["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *command, "1"])
    elif how == "slurm":
        run_tasks([*command, "1"], [slurm(rank, 2) for rank in range(2)])
    else:
        run([*command, "2", *(["fsdp2"] if how == "fsdp2" else [])])
    return [torch.load(folder / f"{how}-{rank}.pt", weights_only=False) for rank in range(2)]


def close(one: Any, other: Any, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["self", "torchrun", "slurm", "fsdp2"])
def test_two_processes_make_what_one_makes(how: str, folder: Path) -> None:
    one = torch.load(folder / "1-0.pt", weights_only=False)
    made = started(how, folder)
    for two in made:
        close(two["trained"], one["trained"])  # uneven steps, several sources, augmentation, both kinds of batch norm
        close(two["losses"], one["losses"])
        assert two["units"] == one["units"]
        # Each process draws the noise that TRADES starts from for its own examples.
        close(two["trades"], one["trades"], 0.05)
        if how == "fsdp2":
            assert len(two["refused"]) == 1
            assert "--strategy fsdp2" in two["refused"][0]
        else:
            close(two["clip"], one["clip"], 1e-4)
        assert torch.equal(two["seven"], one["seven"]), "whole batches, so every bit"
        assert torch.equal(two["logits"], one["logits"])
        assert two["scored"] == one["scored"] == 7
        close(two["near"], one["near"], 1e-4)  # an example's batch is another, and so is its rounding
        close(two["distances"], one["distances"], 1e-4)
        for name in ("success", "gradients", "after", "linf", "bill"):
            assert torch.equal(two[name], one[name]), name
        close(two["l2"], one["l2"])
        for row, other in zip(two["spectra"], one["spectra"], strict=True):
            assert row["layer"] == other["layer"]
            assert row["values"] == pytest.approx(other["values"], rel=1e-5)
        assert two["thirds"] == one["thirds"] == [0, 1, 4, 9, 16]
    assert made[0]["passed"] + made[1]["passed"] == one["passed"], "nothing is padded, nothing is twice"
    for name in made[0]["trained"]:
        assert torch.equal(made[0]["trained"][name], made[1]["trained"][name]), name
    assert torch.equal(made[0]["state"], made[1]["state"]), "randomness goes on alike after an attack that draws"


@pytest.mark.slow
def test_a_divided_training_writes_an_ordinary_checkpoint(tmp_path: Path) -> None:
    """The verbs from end to end, one process against two that divide the weights."""
    from unteach.checkpoint import load

    data = blobs(60)
    np.savez(tmp_path / "d.npz", inputs=data.inputs.numpy(), labels=data.labels.numpy())
    (tmp_path / "program.py").write_text("from unteach.cli import script\n\nscript()\n")
    where = ["--data", f"npz:{tmp_path / 'd.npz'}", "--device", "cpu", "--precision", "fp32", "--quiet", "true"]
    short = ["--optim.epochs", "2", "--optim.lr", "0.02"]
    weights = {}
    for label, group in (("one", []), ("two", ["--devices", "2", "--strategy", "fsdp2"])):
        out = str(tmp_path / label)
        run([str(tmp_path / "program.py"), "train", "--out", out, *where, *short, *group])
        weights[label] = load(tmp_path / label / "model.safetensors", data=data).model.state_dict()
    close(weights["two"], weights["one"], 1e-4)
    told = [
        "forget",
        "--checkpoint",
        str(tmp_path / "one" / "model.safetensors"),
        "--method",
        "finetune",
        *where,
        *short,
    ]
    for label, group in (("f1", []), ("f2", ["--devices", "2", "--strategy", "fsdp2"])):
        run([str(tmp_path / "program.py"), *told, "--out", str(tmp_path / label), *group])
    found = [json.loads((tmp_path / label / "findings.json").read_text()) for label in ("f1", "f2")]
    assert found[0]["models"].keys() == found[1]["models"].keys()


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({}, (3, 2)),
        ({"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "4", "GROUP_WORLD_SIZE": "5"}, (4, 5)),
        (slurm(0, 8) | {"SLURM_STEP_NUM_NODES": "2"}, (4, 2)),
        (slurm(0, 1), (3, 2)),  # a task of its own, of a job array say
        (slurm(0, 8) | {"SLURM_JOB_NAME": "bash"}, (3, 2)),  # a shell
        ({"SLURM_NTASKS": "8", "SLURM_NNODES": "2", "SLURM_PROCID": "0"}, (3, 2)),  # a batch script without srun
    ],
    ids=["nobody", "torchrun", "srun", "one task", "shell", "batch script"],
)
def test_who_tells_how_many(told: dict[str, str], expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TORCHELASTIC_RUN_ID", "LOCAL_WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS_PER_NODE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("unteach.processes.parent_process", lambda: None)
    assert world_told(3, 2) == expected
    monkeypatch.setattr("unteach.processes.parent_process", lambda: object())
    assert world_told(1, 1) == (1, 1), "a worker that a process of the group started is none of the group"


def test_uneven_tasks_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (slurm(0, 3) | {"SLURM_STEP_NUM_NODES": "2"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("unteach.processes.parent_process", lambda: None)
    with pytest.raises(Refusal, match="ntasks-per-node"):
        world_told(1, 1)
