"""Distillation: divergences to the formula, and a teacher's answers whether looked up or given anew."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, rel_entr, softmax

from made import blobs
from unteach.data.augment import Augment
from unteach.distill import answers, check_temperature, divergence
from unteach.engine import Engine, pixels
from unteach.models import Blueprint, build
from unteach.train import Batch, Sgd, Source
from unteach.types import MultiClass, MultiLabel, Refusal

seeds = st.integers(0, 2**31 - 1)
warmth = st.floats(0.5, 8.0)
some = settings(max_examples=40, deadline=None)


def pair(seed: int, n: int = 5, k: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(3 * torch.randn(2, n, k, generator=torch.Generator().manual_seed(seed)))  # type: ignore[return-value]


@some
@given(seeds, warmth)
def test_of_one_class_it_is_the_kl_of_softmaxes(seed: int, temperature: float) -> None:
    student, teacher = pair(seed)
    p, q = (softmax(logits.double().numpy() / temperature, axis=1) for logits in (teacher, student))
    found = divergence(MultiClass(4), student, teacher, temperature)
    np.testing.assert_allclose(found, temperature**2 * rel_entr(p, q).sum(1), rtol=1e-4, atol=1e-5)


@some
@given(seeds, warmth)
def test_of_several_labels_it_is_the_mean_kl_of_bernoullis(seed: int, temperature: float) -> None:
    student, teacher = pair(seed)
    p, q = (expit(logits.double().numpy() / temperature) for logits in (teacher, student))
    expected = temperature**2 * (rel_entr(p, q) + rel_entr(1 - p, 1 - q)).mean(1)
    np.testing.assert_allclose(divergence(MultiLabel(4), student, teacher, temperature), expected, rtol=1e-4, atol=1e-5)


@some
@given(seeds)
def test_one_label_is_a_class_of_two(seed: int) -> None:
    student, teacher = pair(seed, k=1)
    two = [torch.cat((logits, torch.zeros_like(logits)), 1) for logits in (student, teacher)]
    torch.testing.assert_close(divergence(MultiLabel(1), student, teacher, 2.0), divergence(MultiClass(2), *two, 2.0))


def test_a_change_that_all_labels_share_is_seen() -> None:
    """A softmax over independent labels, as in public code, is blind to it."""
    _, teacher = pair(0)
    assert (divergence(MultiLabel(4), teacher + 1, teacher, 4.0) > 0.01).all()
    assert divergence(MultiClass(4), teacher + 1, teacher, 4.0).abs().max() < 1e-5


@some
@given(seeds, warmth)
def test_its_gradient_is_the_difference_of_answers(seed: int, temperature: float) -> None:
    student, teacher = pair(seed)
    student.requires_grad_(True)
    divergence(MultiClass(4), student, teacher, temperature).sum().backward()
    expected = temperature * ((student / temperature).softmax(1) - (teacher / temperature).softmax(1))
    torch.testing.assert_close(student.grad, expected.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("task", [MultiClass(4), MultiLabel(4)], ids=["class", "labels"])
def test_sure_answers_stay_finite(task: MultiClass | MultiLabel) -> None:
    teacher = torch.tensor([[1e4, -1e4, 0.0, 0.0]])
    student = (-teacher).requires_grad_(True)
    found = divergence(task, student, teacher, 1.0)
    found.sum().backward()
    assert torch.isfinite(found).all()
    assert torch.isfinite(student.grad).all()  # type: ignore[arg-type]
    assert float(divergence(task, teacher, teacher, 1.0)) == 0


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf"), float("nan")])
def test_a_temperature_is_above_zero(temperature: float) -> None:
    with pytest.raises(Refusal, match="temperature above 0"):
        check_temperature(temperature)


def mixed(sources: list[Source], part: list[int], row: list[int]) -> Batch:
    inputs = torch.stack([pixels(sources[p].examples.inputs)[r] for p, r in zip(part, row)])
    labels = torch.stack([sources[p].examples.labels[r] for p, r in zip(part, row)])
    return Batch(inputs, labels, torch.tensor(part), torch.tensor(row), len(part))


def networks() -> list[torch.nn.Module]:
    return [build(Blueprint(name="small-cnn", classes=3, shape=(1, 8, 8)), seed=seed).train() for seed in (0, 1)]


@pytest.mark.parametrize("augment", [None, Augment(), Augment(flip=True)], ids=["none", "still", "varied"])
def test_each_example_is_answered_by_its_own_teacher(augment: Augment | None) -> None:
    teachers, engine = networks(), Engine(precision="fp32")
    sources = [Source(blobs(20), augment), Source(blobs(7, seed=1))]
    taught = answers(teachers, sources, engine)
    assert not any(module.training for teacher in teachers for module in teacher.modules())
    once = engine.meter.forwards
    assert once == 7 + (0 if augment and augment.flip else 20)
    for part, row in (([1, 0, 0, 1, 0], [6, 19, 0, 2, 3]), ([1, 1], [0, 5]), ([0], [4])):
        batch = mixed(sources, part, row)
        found = taught(batch)
        assert not found.requires_grad
        with torch.no_grad():
            expected = torch.cat([teachers[p](batch.inputs[at : at + 1]) for at, p in enumerate(part)])
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert engine.meter.forwards - once == (4 if augment and augment.flip else 0), "what is looked up costs nothing"


def test_features_do_not_vary() -> None:
    data = blobs(9)
    flat = replace(data, inputs=data.inputs.flatten(1).float())
    engine = Engine(precision="fp32")
    taught = answers([torch.nn.Linear(64, 3)], [Source(flat, Augment(flip=True))], engine)
    assert engine.meter.forwards == 9
    taught(mixed([Source(flat)], [0, 0], [3, 8]))
    assert engine.meter.forwards == 9


def test_a_source_that_is_hardly_shown_is_answered_as_it_is_shown() -> None:
    teachers, sources = networks(), [Source(blobs(20)), Source(blobs(7, seed=1))]
    engine = Engine(precision="fp32")
    taught = answers(teachers, sources, engine, Sgd(epochs=2, sample=8))  # shows 16 of 20, and all 7 twice
    assert engine.meter.forwards == 7
    batch = mixed(sources, [1, 0, 0], [6, 19, 0])
    torch.testing.assert_close(
        taught(batch), answers(teachers, sources, Engine(precision="fp32"))(batch), rtol=1e-4, atol=1e-5
    )
    assert engine.meter.forwards == 9
