"""Amnesiac unlearning, as everyone runs it, is random labelling under other settings: one step of it, by hand."""

from __future__ import annotations

import copy
from functools import partial

import torch

from made import blobs
from unteach.engine import Engine, pixels
from unteach.methods import RandomLabel
from unteach.testing import check_method
from unteach.train import Sgd
from unteach.types import Split
from unteach.wrong_labels import wrong_labels

# Graves et al., 2020, arXiv 2010.10981: labels drawn once from all other classes, then a few epochs on everything.
Amnesiac = partial(RandomLabel, optim=Sgd(lr=0.01, epochs=3, schedule="constant"))


def test_one_step_on_the_relabelled_data_is_random_labelling() -> None:
    data = blobs(60)
    split = Split(forget=data.take(range(12)), retain=data.take(range(12, 60)))
    assert split.retain is not None
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    check_method(Amnesiac(), model, split)
    step = Sgd(lr=0.1, epochs=1, batch=1000, schedule="constant", momentum=0.0, weight_decay=0.0)
    new = Amnesiac(optim=step)(model, split, torch.Generator().manual_seed(0), Engine(precision="fp32"))
    labels = wrong_labels(split.forget.labels, 3, torch.Generator().manual_seed(0))
    assert not (labels == split.forget.labels).any()
    plain = copy.deepcopy(model)
    inputs = pixels(torch.cat((split.retain.inputs, split.forget.inputs)))
    torch.nn.functional.cross_entropy(plain(inputs), torch.cat((split.retain.labels, labels))).backward()
    torch.testing.assert_close(new[1].weight, model[1].weight - 0.1 * plain[1].weight.grad, rtol=1e-5, atol=1e-6)
