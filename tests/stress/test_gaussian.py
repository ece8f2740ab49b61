"""Gaussian poisoning: the noise, the statistic by its formula, its null law and its power."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from torch import nn

from unteach.audit.finding import Finding, Skipped
from unteach.engine import Engine
from unteach.stress import Models, Noise, Parts, Trace
from unteach.stress.gaussian import traces_of
from unteach.types import Examples, Refusal

Training = Callable[[Examples, int], nn.Module]


def images(n: int, size: int = 8, seed: int = 0) -> Examples:
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(rng.integers(0, 256, (n, 3, size, size), dtype=np.uint8))
    y = torch.from_numpy(rng.integers(0, 10, n))
    return Examples(x, y, np.array([f"{seed}-{i}" for i in range(n)]), None, tuple("0123456789"))


def values(found: object) -> dict[tuple[str, str], Finding]:
    assert isinstance(found, tuple)
    assert all(isinstance(one, Finding) for one in found), found
    return {(one.name, one.part): one for one in found}


def honest(models: Models) -> Models:
    return replace(models, unlearned=models.retrained[0], retrained=models.retrained[1:])


def test_noise_is_drawn_by_id_and_seed() -> None:
    data = images(60)
    noise = Noise(share=0.5, sigma=0.1, seed=3)
    tampered, ids = noise(data)
    at = data.positions(ids)
    assert len(ids) == 30
    drawn = noise.drawn(data)
    shuffle = np.random.default_rng(0).permutation(60)
    assert torch.equal(noise.drawn(data.take(shuffle)), drawn[shuffle]), "no order matters"
    assert not torch.equal(replace(noise, seed=4).drawn(data), drawn)
    assert kstest(drawn.numpy().ravel(), "norm").pvalue > 0.001
    expected = (data.inputs[at].double() + 25.5 * drawn[at]).clamp(0, 255)
    assert float((tampered.inputs[at].double() - expected).abs().max()) <= 0.5 + 1e-9
    rest = np.delete(np.arange(60), at)
    assert torch.equal(tampered.inputs[rest], data.inputs[rest])
    assert torch.equal(tampered.labels, data.labels)


def test_noise_on_floats_is_kept_in_range_only_for_images() -> None:
    pictures = replace(images(20), inputs=images(20).inputs / 255)
    tampered, _ = Noise(share=1.0, sigma=0.5)(pictures)
    assert tampered.inputs.dtype == torch.float32
    assert float(tampered.inputs.min()) == 0
    assert float(tampered.inputs.max()) == 1
    table = replace(pictures, inputs=torch.zeros(20, 5))
    noise = Noise(share=1.0, sigma=2.0)
    torch.testing.assert_close(noise(table)[0].inputs, 2 * noise.drawn(table).float())


def test_a_model_that_never_saw_the_noise_has_standard_normal_traces(
    clean: tuple[Examples, Examples], class_request: tuple[Models, Parts]
) -> None:
    """With what clipping left of the noise it would not: digits are mostly black or white."""
    data, noise = clean[0], Noise(share=1.0, sigma=0.3, seed=5)
    model = class_request[0].retrained[0]
    fair = traces_of(model, data, noise.drawn(data))
    assert len(fair) == 400
    assert kstest(fair, "norm").pvalue > 0.01
    assert abs(fair.mean()) < 3 / math.sqrt(400)
    kept = (noise(data)[0].inputs.double() - data.inputs.double()) / (255 * noise.sigma)
    clipped = traces_of(model, data, kept)
    assert kstest(clipped, "norm").pvalue < 1e-4


def test_traces_are_the_formula(clean: tuple[Examples, Examples], class_request: tuple[Models, Parts]) -> None:
    data, model = clean[0].take(np.arange(9)), class_request[0].retrained[0].eval()
    drawn = Noise().drawn(data)
    expected = []
    for row in range(9):
        x = (data.inputs[row : row + 1].float() / 255).requires_grad_()
        loss = nn.functional.cross_entropy(model(x).double(), data.labels[row : row + 1])
        (gradient,) = torch.autograd.grad(loss, x)
        expected.append(float((gradient * drawn[row]).sum() / gradient.norm()))
    np.testing.assert_allclose(traces_of(model, data, drawn), expected, rtol=1e-3, atol=1e-4)


def test_a_model_fitted_to_the_noise_is_found_out(
    clean: tuple[Examples, Examples], train: Training, engine: Engine
) -> None:
    data, unseen = clean
    noise = Noise(share=0.3, sigma=0.4, seed=3)
    tampered, ids = noise(data)
    gone = np.isin(data.ids, ids)
    rest = data.take(~gone)
    fitted = train(tampered, 0)
    models = Models(unlearned=fitted, retrained=(train(rest, 1), train(rest, 2)), original=fitted)
    parts = Parts(forget=data.take(gone), retain=rest, unseen=unseen)
    found = values(Trace(noise=noise)(models, parts, seed=0, engine=engine))
    mean = found["Gaussian poisoning, mean trace", "forget"]
    assert mean.interval is not None
    assert mean.interval[1] < -0.3 < min(mean.retrained), "the loss falls along the noise"
    assert mean.doubts[0].startswith("Student's t is -")
    distance = found["Gaussian poisoning, Kolmogorov–Smirnov distance", "forget"]
    assert distance.inside is False
    fair = values(Trace(noise=noise)(honest(models), parts, seed=0, engine=engine))
    interval = fair["Gaussian poisoning, mean trace", "forget"].interval
    assert interval is not None
    assert interval[0] < 0 < interval[1]
    rate = fair["Gaussian poisoning, TPR at 1% FPR", "forget"]
    assert rate.interval is not None
    assert rate.interval[0] <= 0.01 <= rate.interval[1]


def test_a_network_without_gradients_is_skipped(clean: tuple[Examples, Examples], engine: Engine) -> None:
    constant = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    nn.init.zeros_(constant[1].weight)  # type: ignore[arg-type]
    parts = Parts(forget=clean[0].take(np.arange(20)), retain=None, unseen=clean[1])
    (only,) = Trace(noise=Noise())(Models(unlearned=constant), parts, seed=0, engine=engine)
    assert isinstance(only, Skipped)
    assert "input gradient" in only.reason


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Noise(share=0.0), "share above 0"),
        (lambda: Noise(sigma=math.nan), "sigma above 0"),
        (lambda: Trace(noise=Noise(), rate=1.0), "rate"),
    ],
    ids=["share", "sigma", "rate"],
)
def test_settings_that_can_not_be_are_refused(make: Callable[[], object], words: str) -> None:
    with pytest.raises(Refusal, match=words):
        make()
