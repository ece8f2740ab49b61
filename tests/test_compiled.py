"""Compiled training: what is learned, the names and the user's own module stay; other sizes go uncompiled."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from made import blobs
from unteach.compiled import compiled
from unteach.data.augment import Augment
from unteach.engine import Engine, pixels, unwrapped
from unteach.models import Blueprint, build
from unteach.store import fingerprint
from unteach.train import Batch, Sgd, Source, fit
from unteach.types import Refusal

Backend = Callable[[torch.fx.GraphModule, list[torch.Tensor]], Callable[..., object]]
OPTIM = Sgd(lr=0.1, epochs=3, batch=16)


def engine(compiles: bool) -> Engine:
    return Engine(accelerator="cpu", precision="fp32", compiles=compiles)


def network(seed: int = 0) -> torch.nn.Module:
    return build(Blueprint(name="small-cnn", classes=3, shape=(1, 8, 8)), seed=seed)


def with_backend(monkeypatch: pytest.MonkeyPatch, backend: Backend) -> None:
    """torch.compile traces and checks as ever, and hands what it has traced to this."""
    real = torch.compile
    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", lambda network, **more: real(network, **(more | {"backend": backend})))


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes that torch.compile has compiled for; the kernels are left as they are."""
    seen: list[int] = []

    def backend(graph: torch.fx.GraphModule, examples: list[torch.Tensor]) -> Callable[..., object]:
        seen.extend(len(each) for each in examples if isinstance(each, torch.Tensor) and each.shape[1:] == (1, 8, 8))
        return graph.forward

    with_backend(monkeypatch, backend)
    return seen


def trained(compiles: bool, seed: int = 0, **more: object) -> tuple[torch.nn.Module, list[float]]:
    model = network(seed)
    told = fit(model, [Source(blobs(70), Augment(flip=True))], OPTIM, seed=1, engine=engine(compiles), **more)  # type: ignore[arg-type]
    return model, [record["loss"] for record in told]


def test_compiled_training_learns_the_same(graphs: list[int]) -> None:
    (plain, losses), (fast, found) = trained(False), trained(True)
    assert graphs, "nothing was compiled"
    assert found == pytest.approx(losses, rel=1e-4)
    assert type(fast) is type(plain)
    assert list(fast.state_dict()) == list(plain.state_dict())
    for ours, theirs in zip(fast.state_dict().values(), plain.state_dict().values()):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_an_epoch_has_two_sizes_and_both_are_compiled_once_for_all_networks_of_a_kind(graphs: list[int]) -> None:
    trained(True)
    once = len(graphs)
    assert set(graphs) == {14}, "70 in steps of 14"
    trained(True, seed=5)
    assert len(graphs) == once, "another network of the same architecture is compiled anew"
    fit(network(), [Source(blobs(72))], OPTIM, seed=1, engine=engine(True))
    assert set(graphs) == {14, 15}, "72 in steps of 14 and 15"


def test_other_sizes_go_through_the_network_itself(graphs: list[int]) -> None:
    model = network().eval()
    fast = compiled(model, {8})
    for count in (1, 3, 8, 20):
        inputs = pixels(blobs(count).inputs)
        torch.testing.assert_close(fast(inputs), model(inputs))
    assert set(graphs) == {8}
    assert fast.training is False
    assert fast.train().training is model.training is True
    assert unwrapped(fast) is model


def test_a_loss_reaches_the_network_itself(graphs: list[int]) -> None:
    """What a method asks for by ``unwrapped`` is never compiled: attacks and scores see the network as it is."""
    seen: list[torch.nn.Module] = []

    def loss(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        seen.append(unwrapped(model))
        return torch.nn.functional.cross_entropy(unwrapped(model)(batch.inputs), batch.labels, reduction="none")

    model, _ = trained(True, loss=loss)
    assert all(one is model for one in seen)
    assert not graphs
    assert fingerprint(model) == fingerprint(trained(False)[0]), "the same bytes"


def test_alongside_doubles_the_sizes(graphs: list[int]) -> None:
    fit(network(), [Source(blobs(70))], OPTIM, seed=1, engine=engine(True), alongside=[Source(blobs(9, seed=2))])
    assert set(graphs) == {28}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda patch: patch.setenv("CXX", "no-such-compiler"), r"C\+\+ compiler for --compile \(no-such-compiler\)"),
        (lambda patch: patch.setenv("PATH", ""), r"C\+\+ compiler for --compile \(g\+\+"),
    ],
    ids=["named", "none"],
)
def test_no_compiler_is_told_at_once(
    change: Callable[[pytest.MonkeyPatch], None], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CXX", raising=False)
    change(monkeypatch)
    with pytest.raises(Refusal, match=words):
        engine(True)
    engine(False)


def test_no_triton_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unteach.engine.device_of", lambda accelerator, devices: torch.device("cuda"))
    monkeypatch.setattr("unteach.compiled.find_spec", lambda name: None)
    with pytest.raises(Refusal, match="triton"):
        Engine(compiles=True, precision="fp32")


def test_several_processes_are_refused() -> None:
    with pytest.raises(Refusal, match="one process for --compile"):
        Engine(accelerator="cpu", devices=2, compiles=True)


def test_what_fails_to_compile_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    def backend(graph: torch.fx.GraphModule, examples: list[torch.Tensor]) -> Callable[..., object]:
        raise OSError("no room for it")

    with_backend(monkeypatch, backend)
    with pytest.raises(Refusal, match=r"compile the network, got: .*no room for it.*leave out --compile"):
        trained(True)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_real_kernels(tmp_path: Path) -> None:
    """Inductor's own C++, from the command line."""
    command = [sys.executable, "-m", "unteach.cli", "train", "--data=digits", "--model=small-cnn", "--device=cpu"]
    command += ["--optim.epochs=2", "--optim.batch=128", "--precision=fp32", "--quiet=true"]
    for flag in ("false", "true"):
        subprocess.run([*command, f"--compile={flag}", f"--out={tmp_path / flag}"], check=True, timeout=400)
    from unteach.store import load_tensors

    plain, fast = (load_tensors(tmp_path / flag / "model.safetensors")[0] for flag in ("false", "true"))
    assert list(plain) == list(fast)
    for ours, theirs in zip(fast.values(), plain.values()):
        torch.testing.assert_close(ours, theirs, rtol=0.05, atol=0.02)
