"""The engine leaves models as they are, counts what it does, shares work out and gathers it in order."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from made import blobs
from unteach.engine import Engine, Meter, pixels
from unteach.events import Events
from unteach.models import Blueprint, build
from unteach.store import fingerprint
from unteach.types import Refusal


def exact() -> Engine:
    return Engine(accelerator="cpu", precision="fp32")


@pytest.fixture
def model() -> torch.nn.Module:
    """A network with statistics that are not those of a fresh one, half of it in training mode."""
    made = build(Blueprint(name="small-cnn", classes=3, shape=(1, 8, 8)), seed=0)
    made.train()
    with torch.no_grad():
        made(pixels(blobs(64).inputs))
    made[2].eval()
    return made


def test_logits_leave_the_model_as_it_is(model: torch.nn.Module) -> None:
    before, flags = fingerprint(model), [module.training for module in model.modules()]
    assert len(set(flags)) == 2
    random = torch.get_rng_state()
    exact().logits(model, blobs().inputs)
    assert fingerprint(model) == before
    assert [module.training for module in model.modules()] == flags
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), random)


def test_a_model_straight_from_its_file_is_scored_in_the_quick_layout() -> None:
    made = build(Blueprint(name="small-cnn", classes=3, shape=(1, 8, 8)), seed=0)
    inner = made[5].weight
    assert not inner.is_contiguous(memory_format=torch.channels_last)
    found = exact().logits(made, blobs().inputs)
    assert made[5].weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(found, exact().logits(exact().place(made), blobs().inputs))


def test_training_flags_come_back_even_when_the_model_fails(model: torch.nn.Module) -> None:
    flags = [module.training for module in model.modules()]
    with pytest.raises(RuntimeError):
        exact().logits(model, torch.zeros(4, 2, 8, 8))
    assert [module.training for module in model.modules()] == flags


@given(batch=st.integers(1, 100))
@settings(max_examples=20, deadline=None)
def test_batch_size_and_order_do_not_matter(batch: int) -> None:
    made = build(Blueprint(name="small-cnn", classes=3, shape=(1, 8, 8)), seed=0)
    data = blobs(60).inputs
    whole = exact().logits(made, data)
    assert whole.shape == (60, 3)
    assert whole.dtype == torch.float32
    torch.testing.assert_close(exact().logits(made, data, batch=batch), whole, rtol=0, atol=1e-5)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(batch))
    torch.testing.assert_close(exact().logits(made, data[order], batch=batch), whole[order], rtol=0, atol=1e-5)


def test_logits_are_exact_though_training_is_in_bf16() -> None:
    made, data = build(Blueprint(name="small-cnn", classes=3, shape=(1, 8, 8)), seed=0), blobs(8).inputs
    half = Engine(accelerator="cpu", precision="bf16")
    assert torch.equal(half.logits(made, data), exact().logits(made, data))
    assert not torch.equal(half.logits(made, data, exact=False), exact().logits(made, data))
    with half.autocast():
        assert made(pixels(data)).dtype == torch.bfloat16


def test_pixels() -> None:
    bytes_ = torch.tensor([[[[0, 255]]]], dtype=torch.uint8)
    assert torch.equal(pixels(bytes_), torch.tensor([[[[0.0, 1.0]]]]))
    assert bytes_.tolist() == [[[[0, 255]]]]
    features = torch.tensor([[3.0, -2.0]])
    assert pixels(features) is features


def test_what_it_costs() -> None:
    assert Meter().units == 0
    assert Meter(trained=10, gradients=6, forwards=9).units == 10 + 4 + 3
    before, after = (
        Meter(trained=7, gradients=5, forwards=1_000_003),
        Meter(trained=11, gradients=5, forwards=1_000_004),
    )
    assert after.units_since(before) == 4 + 1 / 3, (
        "the same whatever was counted before: no difference of large numbers"
    )
    engine = exact()
    with engine.stage("one"):
        engine.logits(torch.nn.Flatten(), torch.zeros(30, 4))

    def fail() -> None:
        with engine.stage("two"):
            engine.meter.trained += 5
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [(stage.what, stage.units) for stage in engine.stages] == [("one", 10), ("two", 5)]
    assert all(stage.seconds >= 0 for stage in engine.stages)


def test_one_process_has_everything() -> None:
    engine = exact()
    assert (engine.rank, engine.world) == (0, 1)
    assert engine.share(7) == slice(0, 7)
    rows = torch.arange(6).reshape(3, 2)
    assert engine.gather(rows, 3) is rows
    engine.wait()
    engine.close()


@given(total=st.integers(0, 50), world=st.integers(1, 9))
@settings(deadline=None)
def test_shares_are_a_partition(total: int, world: int) -> None:
    class Member(Engine):
        place_in_group = 0
        world = property(lambda self: world)  # type: ignore[assignment]
        rank = property(lambda self: self.place_in_group)  # type: ignore[assignment]

    engine, seen = Member(accelerator="cpu"), []
    for engine.place_in_group in range(world):
        part = engine.share(total)
        seen += list(range(total))[part]
        assert part.stop - part.start in (total // world, -(-total // world))
    assert seen == list(range(total)), "each once, in order"


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"precision": "fp8"}, "precision"),
        ({"accelerator": "tpu"}, "--device"),
        ({"accelerator": "tpu", "devices": 2}, "--device"),
        ({"devices": 0}, "at least one device"),
        ({"nodes": 0}, "at least one device"),
    ],
)
def test_what_is_not_there_is_refused(wanted: dict[str, object], words: str) -> None:
    with pytest.raises(Refusal, match=words):
        Engine(**wanted)  # type: ignore[arg-type]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(Refusal, match="CUDA"):
        Engine(accelerator="cuda")


def test_events_are_lines_of_json(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    events = Events(tmp_path / "e.jsonl", lambda *said: told.append(said))
    events.emit("one", x=1)
    events.emit("two")
    events.progress("work", 1, 2)
    lines = (tmp_path / "e.jsonl").read_text().splitlines()
    assert [line.partition(",")[0] for line in lines] == ['{"event": "one"', '{"event": "two"']
    assert told == [("work", 1, 2)]
    Events().emit("nobody hears")
    Events().progress("nobody hears", 1, 1)


GROUP = """
import sys
from pathlib import Path

import torch
from made import blobs

from unteach.engine import Engine
from unteach.events import Events
from unteach.train import Sgd, Source, fit

folder, label, devices = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 3))
heard = []
events = Events(folder / f"{label}.jsonl", lambda *said: heard.append(said))
engine = Engine(accelerator="cpu", devices=devices, precision="fp32", events=events)
optim = Sgd(lr=0.05, epochs=3, batch=31)
fit(net, [Source(blobs(91))], optim, seed=3, engine=engine, alongside=[Source(blobs(20, seed=4))])
state = {name: value.clone() for name, value in net.state_dict().items()}
logits = engine.logits(net, blobs(91).inputs, batch=7)
few = engine.logits(net, blobs(1).inputs)
if engine.rank == 0:
    (folder / "written").write_text("by the first")
engine.wait()
assert (folder / "written").exists()
kept = {"logits": logits, "few": few, "state": state, "heard": len(heard), "trained": engine.meter.trained}
torch.save(kept, folder / f"{label}-{engine.rank}.pt")
engine.close()
"""


@pytest.mark.slow
@pytest.mark.parametrize("launch", ["self", "torchrun"])
def test_two_processes_do_what_one_does(tmp_path: Path, launch: str) -> None:
    (tmp_path / "group.py").write_text(GROUP)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "PYTEST"))}
    environment = {**clean, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent), "PYTHONWARNINGS": "error"}
    alone = [str(tmp_path / "group.py"), str(tmp_path), "1", "1"]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    group = [*torchrun, *alone[:2], "2", "1"] if launch == "torchrun" else [*alone[:2], "2", "2"]
    for arguments in (alone, group):
        command = [sys.executable, *arguments]
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
        assert ran.returncode == 0, ran.stderr
    one, first, second = (torch.load(tmp_path / name) for name in ("1-0.pt", "2-0.pt", "2-1.pt"))
    for member in (first, second):
        for name, value in one["state"].items():
            torch.testing.assert_close(member["state"][name], value, rtol=0, atol=1e-5)
        torch.testing.assert_close(member["logits"], one["logits"], rtol=0, atol=1e-5)
        assert member["logits"].shape == (91, 3)
        torch.testing.assert_close(member["few"], one["few"], rtol=0, atol=1e-5)
    assert first["trained"] == second["trained"] == one["trained"] == 2 * 3 * 91, "nothing is padded, nothing is twice"
    assert (first["heard"], second["heard"]) == (one["heard"], 0), "one voice for the group"
    assert len((tmp_path / "2.jsonl").read_text().splitlines()) == 3


@pytest.mark.slow
def test_the_whole_job_on_two_processes(tmp_path: Path) -> None:
    import json

    import numpy as np

    data = blobs(60)
    np.savez(tmp_path / "d.npz", inputs=data.inputs.numpy(), labels=data.labels.numpy())
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "PYTEST"))}
    where = ["--data", f"npz:{tmp_path / 'd.npz'}", "--device", "cpu", "--devices", "2", "--optim.epochs", "2"]
    asked = [
        ["train", "--out", str(tmp_path / "o"), *where],
        ["forget", "--checkpoint", str(tmp_path / "o" / "model.safetensors"), "--out", str(tmp_path / "f"), *where],
    ]
    program = tmp_path / "program.py"  # each process starts the same program again
    program.write_text("from unteach.cli import script\n\nscript()\n")
    for arguments in asked:
        command = [sys.executable, str(program), *arguments]
        environment = {**clean, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
        assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("unlearned model:") == 1, "one voice for the group"
    found = json.loads((tmp_path / "f" / "findings.json").read_text())
    assert found["models"].keys() == {"original", "unlearned", "retrained", "held_out_retrained"}
    events = [json.loads(line) for line in (tmp_path / "f" / "events.jsonl").read_text().splitlines()]
    assert [event["stage"] for event in events if event["event"] == "epoch"].count("amun") == 2
