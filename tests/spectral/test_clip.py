"""Clipping: closed forms, a full decomposition as judge, and what must not be touched."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from torch import nn

from made import blobs
from unteach.engine import Engine
from unteach.models import Blueprint, build
from unteach.models.masks import masks_of, set_masks
from unteach.spectral import Bound, Clip, Clipper, Gouk, Layer, LinearMap, Miyato, layers_of, reshaped_norm, spectrum
from unteach.store import fingerprint
from unteach.train import Sgd, Source, fit
from unteach.types import Refusal

DATA = blobs(96, noise=0.45)
SHAPE = (1, 8, 8)
QUICK = Sgd(lr=0.05, epochs=20, batch=16)


def network() -> nn.Module:
    return build(Blueprint(name="small-cnn", classes=3, shape=SHAPE), seed=0)


def norms(model: nn.Module, shape: tuple[int, ...] = SHAPE) -> dict[str, float]:
    """The truth: every layer decomposed."""
    return {layer.name: float(spectrum(layer.map())[0]) for layer in layers_of(model, shape)}


def clipped(model: nn.Module, shape: tuple[int, ...] = SHAPE, bound: Bound | None = None) -> dict[str, float]:
    watches = (bound or Clip()).watches
    return {layer.name: float(spectrum(layer.map())[0]) for layer in layers_of(model, shape) if watches(layer)}


def dense(values: list[float] | None = None) -> nn.Linear:
    layer, rng = nn.Linear(40, 30, bias=False), torch.Generator().manual_seed(0)
    weight = 0.18 * torch.randn(30, 40, generator=rng)
    if values is not None:
        left, _, right = torch.linalg.svd(weight, full_matrices=False)
        weight = left[:, : len(values)] @ torch.diag(torch.tensor(values)) @ right[: len(values)]
    with torch.no_grad():
        layer.weight.copy_(weight)
    return layer


def test_a_dense_layer_moves_as_the_closed_form_says() -> None:
    """λ = 0.35, five steps: the excess shrinks by 0.3 each, to 0.0024 of itself; every other value stays."""
    layer = dense()
    before = torch.linalg.svdvals(layer.weight.detach())
    settings = Clip(directions=1, step=0.35, steps=5, iterations=400)
    (found,) = layers_of(layer, (40,))
    rng = torch.Generator().manual_seed(0)
    warm = Clip(target=10.0, directions=1).tighten(found, None, rng)  # finds the vector, clips nothing
    settings.tighten(found, warm, rng)
    after = torch.linalg.svdvals(layer.weight.detach())
    assert float(after[-1]) > 0
    expected = torch.cat((before[1:], torch.tensor([1 + 0.3**5 * float(before[0] - 1)]))).sort(descending=True).values
    torch.testing.assert_close(after, expected, rtol=0, atol=2e-5)


def test_several_directions_go_together_and_the_rest_stays() -> None:
    layer = dense([3.0, 2.0, 1.5, 0.9, 0.5])
    Clip(directions=3)(layer, (40,))
    expected = torch.tensor([1.0, 1.0, 1.0, 0.9, 0.5])
    torch.testing.assert_close(torch.linalg.svdvals(layer.weight.detach())[:5], expected, rtol=0, atol=0.011)


@pytest.mark.parametrize("mode", ["zeros", "reflect", "circular", "replicate"])
@pytest.mark.parametrize("stride", [1, 2])
def test_convolutions_end_under_the_target(mode: str, stride: int) -> None:
    layer = nn.Conv2d(3, 8, 3, stride, 1, padding_mode=mode)
    with torch.no_grad():
        layer.weight.copy_(0.3 * torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(0)))
    before = spectrum(LinearMap(layer, (3, 8, 8)))
    Clip()(layer, (3, 8, 8))
    after = spectrum(LinearMap(layer, (3, 8, 8)))
    assert before[0] > 1.5
    assert 0.98 < after[0] < 1.002
    divided = before / before[0]
    assert after.mean() > 1.15 * divided.mean(), "clipping keeps more of the layer than dividing does"


def test_what_is_under_the_target_keeps_its_bytes() -> None:
    model = network()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.1)
    before = fingerprint(model)
    Clip()(model, SHAPE)
    assert fingerprint(model) == before


def test_exact_raises_what_is_far_below() -> None:
    layer = dense([0.5, 0.4])
    (found,) = layers_of(layer, (40,))
    rng = torch.Generator().manual_seed(0)
    Clip().tighten(found, None, rng)
    assert torch.linalg.svdvals(layer.weight.detach())[0] == pytest.approx(0.5, rel=1e-5)
    Clip(exact=True).tighten(found, None, rng)
    torch.testing.assert_close(torch.linalg.svdvals(layer.weight.detach())[:2], torch.tensor([1.0, 0.4]))


def trained(bound: Bound | None, **more: object) -> tuple[nn.Module, Clipper | None]:
    model = network()
    clipper = Clipper(bound, model, SHAPE) if bound else None
    fit(model, [Source(DATA)], QUICK, seed=0, engine=Engine(precision="fp32"), after_step=clipper, **more)  # type: ignore
    return model, clipper


def test_a_training_stays_near_the_target_and_ends_under_it() -> None:
    free, _ = trained(None)
    model, clipper = trained(Clip())
    assert clipper is not None
    assert max(clipped(free).values()) > 2
    assert max(clipped(model).values()) < 1.1, "while the rate is high every step leads away"
    clipper.settle()
    assert max(clipped(model).values()) < 1.002
    assert list(model.state_dict()) == list(free.state_dict())
    right = (Engine(precision="fp32").logits(model, DATA.inputs).argmax(1) == DATA.labels).float().mean()
    assert right > 0.9


def test_gradients_flags_layout_and_random_state_are_left_alone() -> None:
    model = network().to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    model(torch.rand(8, *SHAPE)).square().sum().backward()
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    strides = [p.stride() for p in model.parameters()]
    random = torch.get_rng_state()
    clipper = Clipper(Clip(target=0.1, every=1, pairs=True), model, SHAPE)
    with torch.autocast("cpu", torch.bfloat16):
        clipper(model)
        clipper(model)
    clipper.settle()
    assert len(gradients) == len(list(model.parameters()))
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients) if p.grad is not None)
    assert all(p.is_leaf and p.requires_grad for p in model.parameters())
    assert [p.stride() for p in model.parameters()] == strides
    assert all(module.training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), random)
    assert max(clipped(model).values()) < 0.1002


def test_forwards_between_two_steps_do_not_matter() -> None:
    """Two forwards before one backward give the gradient of their sum, clipper or not."""
    model = network().eval()
    clipper = Clipper(Clip(every=1), model, SHAPE)
    clipper(model)
    inputs = [torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(k)) for k in (0, 1)]
    both = model(inputs[0]).sum() + model(inputs[1]).sum()
    both.backward()
    together = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    for each in inputs:
        model(each).sum().backward()
    for one, other in zip(together, (p.grad for p in model.parameters() if p.grad is not None)):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("bound", [Clip(every=3), Miyato()])
def test_a_stopped_training_goes_on_to_the_same_bytes(bound: Bound, tmp_path: Path) -> None:
    whole, _ = trained(bound)
    for cut in (True, False):
        model = network()
        clipper = Clipper(bound, model, SHAPE)

        def stop(model: nn.Module, clipper: Clipper = clipper, cut: bool = cut) -> None:
            clipper(model)
            if cut and clipper.steps == 85:
                raise KeyboardInterrupt

        engine = Engine(precision="fp32", scratch=tmp_path)
        arguments = {"seed": 0, "engine": engine, "after_step": stop, "carry": {"clip": clipper}}
        if cut:
            with pytest.raises(KeyboardInterrupt):
                fit(model, [Source(DATA)], QUICK, **arguments)  # type: ignore[arg-type]
        else:
            fit(model, [Source(DATA)], QUICK, **arguments)  # type: ignore[arg-type]
    assert clipper.steps == 120
    assert fingerprint(model) == fingerprint(whole)


def test_pruned_weights_stay_zero() -> None:
    model = network()
    masks = {
        name: torch.rand(p.shape, generator=torch.Generator().manual_seed(0)) > 0.5
        for name, p in model.named_parameters()
        if p.ndim == 4
    }
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    set_masks(model, masks)
    assert max(clipped(model).values()) > 1.5
    Clip()(model, SHAPE, masks=masks_of(model))
    assert max(clipped(model).values()) < 1.002
    for name, mask in masks.items():
        assert not (model.get_parameter(name).detach()[~mask] != 0).any()


def test_the_fixed_whitening_layer_is_never_moved() -> None:
    shape = (3, 9, 9)
    images = torch.rand(64, *shape, generator=torch.Generator().manual_seed(0))
    model = build(Blueprint(name="airbench-small", classes=3, shape=shape), seed=0, sample=images)
    (first, *_) = layers_of(model, shape)
    assert first.name == "whitening"
    assert first.weight == ""
    assert float(spectrum(first.map())[0]) > 2
    before = model.get_parameter("whitening.weight").detach().clone()
    for bound in (Clip(target=0.8, every=1), Gouk(target=0.5, every=1), Miyato(target=0.2)):
        clipper = Clipper(bound, model, shape)
        assert len(clipper.layers) == 7
        clipper(model)
        clipper.settle()
        assert torch.equal(model.get_parameter("whitening.weight"), before)


def paired() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(512, 3)
        )
    model(torch.rand(64, *SHAPE, generator=torch.Generator().manual_seed(0)))
    return model.eval()


def test_pairs_are_held_by_the_batch_norm() -> None:
    model = paired()
    Clip()(model, SHAPE)
    alone = norms(model)
    assert alone["0"] < 1.002
    assert alone["0 + 1"] > 1.05, "without pairs the two as one map are left as they are"
    convolution = model[0].get_parameter("weight").detach().clone()
    Clip(pairs=True)(model, SHAPE)
    assert norms(model)["0 + 1"] < 1.002
    torch.testing.assert_close(model[0].get_parameter("weight").detach(), convolution, rtol=1e-3, atol=0)


class Twisted(nn.Module):
    """What may stand between a convolution and a batch norm."""

    def __init__(self, between: nn.Module) -> None:
        super().__init__()
        self.conv, self.between, self.norm = nn.Conv2d(1, 4, 3, padding=1), between, nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x) if x.sum() < 1e9 else x  # code that no tracer follows
        x = self.norm(self.between(x))
        out: torch.Tensor = self.head(self.between(x).mean((2, 3)))
        return out


def test_only_what_touches_is_a_pair() -> None:
    def kinds(between: nn.Module) -> list[str]:
        return [layer.kind for layer in layers_of(Twisted(between), SHAPE)]

    single = ["convolution", "batch norm", "dense"]
    assert kinds(nn.Identity()) == ["convolution", "batch norm", "convolution + batch norm", "dense"]
    assert kinds(nn.ReLU()) == kinds(nn.ReLU(inplace=True)) == kinds(nn.MaxPool2d(2)) == single


def test_a_layer_used_at_two_shapes_is_looked_at_twice() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 3, stride=2, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.conv(self.conv(x))
            return out

    assert [layer.shape for layer in layers_of(Twice(), SHAPE)] == [(1, 8, 8), (1, 4, 4)]


def test_wrong_shapes_and_settings_are_refused() -> None:
    with pytest.raises(Refusal, match="expected the network to read"):
        layers_of(network(), (3, 8, 8))
    for wrong in ({"target": 0.0}, {"step": 1.0}, {"every": 0}, {"directions": 0}, {"steps": 0}, {"iterations": 0}):
        with pytest.raises(Refusal, match="expected"):
            Clip(**wrong)  # type: ignore[arg-type]
    with pytest.raises(Refusal, match="expected target"):
        Gouk(target=-1.0)
    for bound in (Clip(), Gouk(), Miyato()):
        assert type(bound)(**json.loads(json.dumps(asdict(bound)))) == bound


def test_dividing_shrinks_everything() -> None:
    layer = dense([3.0, 2.0, 1.5])
    (found,) = layers_of(layer, (40,))
    Gouk().settle([found], 0)
    torch.testing.assert_close(torch.linalg.svdvals(layer.weight.detach())[:3], torch.tensor([1.0, 2 / 3, 0.5]))


@pytest.mark.parametrize("bound", [Gouk(every=1), Miyato()])
def test_peers_hold_their_own_norm(bound: Bound) -> None:
    model, clipper = trained(bound)
    assert clipper is not None
    clipper.settle()

    def own(layer: Layer) -> float:
        return reshaped_norm(layer) if isinstance(bound, Miyato) else float(spectrum(layer.map())[0])

    assert max(own(layer) for layer in clipper.layers) < 1.002
    true = max(clipped(model).values())
    assert (true > 1.5) == isinstance(bound, Miyato), "the norm of a reshaped kernel isn't that of the layer"


def test_a_diverged_training_is_left_to_its_loss() -> None:
    model = network()
    with torch.no_grad():
        model[1].get_parameter("weight")[0] = torch.nan  # type: ignore[index]
    clipper = Clipper(Clip(every=1), model, SHAPE)
    clipper(model)
    clipper(model)


RANKS = """
import sys, torch
from unteach.spectral import Clip, Clipper
from unteach.store import fingerprint
rank, file = int(sys.argv[1]), sys.argv[2]
torch.distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
model = torch.nn.Sequential(
    torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.BatchNorm2d(4), torch.nn.Flatten(), torch.nn.Linear(256, 3))
for p in model.parameters():
    torch.distributed.broadcast(p.data, 0)
model.to(memory_format=torch.channels_last)
model[1].running_var.fill_(0.1 + rank)  # as after a step: each process has statistics of its own batches
clipper = Clipper(Clip(target=0.1, every=1, pairs=True), model, (1, 8, 8))
clipper(model)
clipper(model)
clipper.settle()
model[1].running_var.fill_(1)
print(fingerprint(model))
torch.distributed.destroy_process_group()
"""


def test_processes_agree(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    commands = [[sys.executable, "-c", RANKS, str(rank), str(tmp_path / "meet")] for rank in range(2)]
    children = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        for command in commands
    ]
    said = [child.communicate(timeout=120) for child in children]
    assert all(child.returncode == 0 for child in children), said
    assert said[0][0] == said[1][0]
    assert len(said[0][0].strip()) == 64


def test_a_copy_of_the_network_is_another_network() -> None:
    model = network()
    clipper = Clipper(Clip(), model, SHAPE)
    with pytest.raises(AssertionError, match="one network"):
        clipper(copy.deepcopy(model))
