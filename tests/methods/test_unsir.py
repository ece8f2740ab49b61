"""UNSIR: noise that is misread, one step of each stage by hand, and which requests each kind of noise takes."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from made import blobs
from unteach.engine import Engine, pixels
from unteach.methods.unsir import BatchNoise, ClassNoise, Unsir, against, descended
from unteach.models.layers import Normalise
from unteach.models.small import small_cnn
from unteach.store import fingerprint
from unteach.testing import check_method
from unteach.train import Batch, Sgd, Source, fit
from unteach.types import Examples, Refusal, Split

SHORT = Sgd(lr=0.02, epochs=1, batch=32)
FEW = ClassNoise(steps=6, images=16)
METHODS = {
    "class-noise": Unsir(noise=FEW, optim=SHORT, repair=SHORT),
    "class-noise-stage-1": Unsir(noise=FEW, optim=SHORT, repair=None, retain_share=1.0),
    "batch-noise": Unsir(noise=BatchNoise(), optim=SHORT, repair=SHORT),
}


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="module")
def trained() -> tuple[torch.nn.Module, Examples, Split]:
    data = blobs(120, noise=0.45)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = small_cnn(1, 3, 8, 8, filters=8)
    fit(model, [Source(data)], Sgd(lr=0.1, epochs=6, batch=32), seed=0, engine=Engine(precision="fp32"))
    gone = data.labels.numpy() == 1
    return model, data, Split(forget=data.take(gone), retain=data.take(~gone))


@pytest.mark.parametrize("name", METHODS)
def test_contract(name: str, trained: tuple[torch.nn.Module, Examples, Split]) -> None:
    model, data, split = trained
    method = METHODS[name]
    assert fingerprint(check_method(method, model, split)) != fingerprint(model)
    alone = data.labels.numpy() == 1
    check_method(method, model, Split(forget=data.take(alone).take([0]), retain=data.take(~alone)))


@pytest.mark.parametrize("name", METHODS)
def test_several_labels_and_parts_of_classes_need_batch_noise(
    name: str, trained: tuple[torch.nn.Module, Examples, Split]
) -> None:
    model, data, _ = trained
    method = METHODS[name]
    many = data.relabel(torch.nn.functional.one_hot(data.labels, 3).float())
    requests = [Split(forget=d.take(range(10)), retain=d.take(range(10, 60))) for d in (many, data)]
    assert ("class" in method.needs) == isinstance(method.noise, ClassNoise)
    if "class" in method.needs:
        for request, words in zip(requests, ("one class for each example", "whole classes")):
            with pytest.raises(Refusal, match=words):
                method(model, request, rng(), Engine())
    else:
        for request in requests:
            check_method(method, model, request)


# The noise


def test_descent_is_adams() -> None:
    """On Σ c x² / 2 the gradient is c x; its two moving averages by hand."""
    scale, start = torch.tensor([[1.0, 3.0], [0.2, 10.0]]), torch.tensor([[1.0, -2.0], [0.5, 0.1]])
    found = descended(start, lambda x: (scale * x.square()).sum(1) / 2, steps=4, lr=0.1)
    x, first, second = start.double(), torch.zeros(2, 2).double(), torch.zeros(2, 2).double()
    for step in range(1, 5):
        slope = scale * x
        first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
        x = x - 0.1 * (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
    torch.testing.assert_close(found.double(), x, rtol=1e-5, atol=1e-6)


def test_class_noise_is_misread_more_and_more(trained: tuple[torch.nn.Module, Examples, Split]) -> None:
    model, _, split = trained
    before, engine = fingerprint(model), Engine(precision="fp32")

    def loss(steps: int) -> float:
        noise = ClassNoise(steps=steps, images=8, penalty=0.0)(copy.deepcopy(model), split.forget, rng(), engine)
        assert noise.inputs.shape == (8, 1, 8, 8)
        assert (noise.labels == 1).all()
        return float(noise.task.loss(engine.logits(model, noise.inputs), noise.labels).mean())

    losses = [loss(steps) for steps in (0, 5, 20)]
    assert losses == sorted(losses)
    assert losses[2] > losses[0] + 1
    assert fingerprint(model) == before
    assert engine.meter.gradients == 8 * 25


def test_class_noise_starts_as_the_layer_behind_the_scaling_sees_it(
    trained: tuple[torch.nn.Module, Examples, Split],
) -> None:
    _, _, split = trained
    model = torch.nn.Sequential(Normalise([0.2], [0.5]), torch.nn.Flatten(), torch.nn.Linear(64, 3))
    noise = ClassNoise(steps=0, images=4)(model, split.forget, rng(), Engine())
    torch.testing.assert_close(model[0](noise.inputs), torch.randn(4, 1, 8, 8, generator=rng()))


def test_two_classes_have_noise_each(trained: tuple[torch.nn.Module, Examples, Split]) -> None:
    model, data, _ = trained
    gone = data.labels.numpy() != 0
    noise = FEW(copy.deepcopy(model), data.take(gone), rng(), Engine())
    assert noise.labels.bincount().tolist() == [0, 16, 16]
    check_method(METHODS["class-noise"], model, Split(forget=data.take(gone), retain=data.take(~gone)))


def test_batch_noise_goes_away_from_the_forgotten_answers(trained: tuple[torch.nn.Module, Examples, Split]) -> None:
    model, _, split = trained
    network, engine = copy.deepcopy(model).train(), Engine(precision="fp32")
    forgotten = pixels(split.forget.inputs)

    def distance(steps: int) -> float:
        torch.manual_seed(0)
        noise = BatchNoise(steps=steps, lr=0.05)(network, forgotten, engine)
        assert float(noise.min()) >= 0
        assert float(noise.max()) <= 1
        return float((engine.logits(model, noise) - engine.logits(model, forgotten)).square().mean())

    with torch.random.fork_rng(devices=[]):
        assert distance(10) > distance(0)
    assert all(module.training for module in network.modules())
    assert fingerprint(network) == fingerprint(model), "no statistics may move"


# The stages


def test_batch_noise_counts_both_halves_whole(trained: tuple[torch.nn.Module, Examples, Split]) -> None:
    """CE(noise, retained labels) + CE(retained), each a mean over its own half."""
    model, data, split = trained
    assert split.retain is not None
    network = copy.deepcopy(model).eval()
    gone, kept = split.forget.take(range(6)), split.retain.take(range(6))
    inputs = pixels(torch.cat((gone.inputs, kept.inputs)))
    batch = Batch(inputs, torch.cat((gone.labels, kept.labels)), torch.arange(12) // 6, torch.arange(12) % 6, 12)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        ours = against(BatchNoise(), data.task, Engine(precision="fp32"))(network, batch).sum() / batch.size
        torch.manual_seed(3)
        noise = BatchNoise()(network, inputs[:6], Engine())
    entropy = torch.nn.functional.cross_entropy
    expected = entropy(network(noise), kept.labels) + entropy(network(pixels(kept.inputs)), kept.labels)
    torch.testing.assert_close(ours, expected)


def test_one_impairing_and_one_repairing_step_by_hand(trained: tuple[torch.nn.Module, Examples, Split]) -> None:
    _, _, split = trained
    assert split.retain is not None
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    step = Sgd(lr=0.1, epochs=1, batch=1000, schedule="constant", momentum=0.0, weight_decay=0.0)
    few = replace(FEW, images=len(split.retain))  # as many as retained: each is shown once
    new = Unsir(noise=few, optim=step, repair=step, retain_share=1.0)(model, split, rng(), Engine(precision="fp32"))
    noise = few(copy.deepcopy(model), split.forget, rng(), Engine(precision="fp32"))
    plain = copy.deepcopy(model)
    stages = (
        (torch.cat((pixels(split.retain.inputs), noise.inputs)), torch.cat((split.retain.labels, noise.labels))),
        (pixels(split.retain.inputs), split.retain.labels),
    )
    for inputs, labels in stages:
        plain.zero_grad()
        torch.nn.functional.cross_entropy(plain(inputs), labels).backward()
        with torch.no_grad():
            for weight in plain.parameters():
                weight -= 0.1 * weight.grad
    torch.testing.assert_close(new[1].weight, plain[1].weight, rtol=1e-4, atol=1e-6)


def test_what_each_stage_costs(trained: tuple[torch.nn.Module, Examples, Split]) -> None:
    model, _, split = trained
    for share, repair in ((1.0, None), (0.25, SHORT)):
        engine = Engine()
        Unsir(noise=FEW, optim=SHORT, repair=repair, retain_share=share)(model, split, rng(), engine)
        assert [stage.what for stage in engine.stages] == ["unsir noise", "unsir impair", "unsir repair"][
            : 3 if repair else 2
        ]
        assert engine.meter.gradients == 6 * 16
        assert engine.meter.trained == 80 * share * (3 if repair else 2)


def test_feature_vectors(trained: tuple[torch.nn.Module, Examples, Split]) -> None:
    _, _, split = trained
    assert split.retain is not None
    flat = [replace(part, inputs=part.inputs.flatten(1).float() / 50 - 2) for part in (split.forget, split.retain)]
    model = torch.nn.Linear(64, 3)
    for name in ("class-noise", "batch-noise"):
        check_method(METHODS[name], model, Split(forget=flat[0], retain=flat[1]))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ClassNoise(images=0), "noise.images"),
        (lambda: ClassNoise(lr=0.0), "noise.lr"),
        (lambda: BatchNoise(steps=-1), "noise.steps"),
        (lambda: Unsir(retain_share=0.0), "retain_share"),
    ],
    ids=["images", "lr", "steps", "share"],
)
def test_refusals(make: object, words: str) -> None:
    with pytest.raises(Refusal, match=words):
        make()  # type: ignore[operator]
