"""Was this model trained on these data, with these class names and this preprocessing?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from unteach.engine import pixels
from unteach.preflight.case import Case
from unteach.preflight.remark import Remark, percent
from unteach.types import Examples

LIFT = 0.1  # accuracy (0–1) that another reading must add before it is believed
TRIED = 200  # retained examples that other preprocessings are tried on
SURE = 0.01  # chance that a guess does as well, below which an accuracy is above chance
SURER = 0.0001  # the same for a reading that is the best of several
USUAL = {  # mean and standard deviation of the training images, by channel, that public code normalises with
    "ImageNet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "CIFAR-10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "one half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "MNIST": ((0.1307,), (0.3081,)),
    "Fashion-MNIST": ((0.2860,), (0.3530,)),
    "one half (grey)": ((0.5,), (0.5,)),
}


def trace_origin(case: Case) -> list[Remark]:
    """What the checkpoint says of its data."""
    theirs, told = case.provenance.data_fingerprint, case.provenance.trained_on
    if "pool" in told:
        said = "The checkpoint is a reference model of an audit: it was trained on test examples too."
        return [Remark(name="origin", level="stop", sentence=said, do="Give a model of the training set.")]
    if theirs and theirs != case.data.fingerprint:
        said = (
            f"The checkpoint was trained on {case.provenance.data or 'other data'} with fingerprint {theirs[:12]}, these have "
            f"{case.data.fingerprint[:12]}: some input, label, id or class name differs."
        )
        return [Remark(name="origin", level="stop", sentence=said, do="Give the data it was trained on.")]
    if not theirs:
        said = "The checkpoint does not say what it was trained on: that it saw the request is taken on trust."
        return [Remark(name="origin", level="note", sentence=said)]
    said = "The checkpoint names these very data (fingerprint of inputs, labels and ids)."
    return [Remark(name="origin", level="fine", sentence=said)]


def judge_fit(case: Case) -> list[Remark]:
    """Accuracy beside the commonest answer's, and what makes it worse than it could be: preprocessing, order of classes."""
    seen = {name: case.accuracy(name) for name in ("retain", "test") if len(case.looked[name])}
    if guessed := [*_preprocessing(case), *_permuted(case)]:
        return [max(guessed, key=lambda remark: float(remark.numbers["best"] or 0.0))]
    numbers = {**seen, **{f"{name}_commonest": float(_commonest(case.looked[name]).mean()) for name in seen}}
    told = ", ".join(
        f"{name} {percent(seen[name])} (commonest answer {percent(numbers[name + '_commonest'])})" for name in seen
    )
    if not _above_chance(case, "retain"):
        said = f"The model is no better on its own training data than the commonest answer is: {told}."
        do = "Give the data it was trained on, in the preprocessing and order of classes it was trained with."
        return [Remark(name="fit", level="stop", sentence=said, do=do, numbers=numbers)]
    if "test" in seen and not _above_chance(case, "test"):
        said = f"The model knows its training data and nothing beyond them: {told}."
        do = "Check the test data; with such a model everything unseen looks unlike everything seen."
        return [Remark(name="fit", level="warn", sentence=said, do=do, numbers=numbers)]
    said = f"The model fits the data; accuracy on {told}."
    return [Remark(name="fit", level="fine", sentence=said, numbers=numbers)]


def _commonest(part: Examples) -> np.ndarray:
    """Right answers (0–1) of whoever always gives the commonest answer of these examples."""
    labels = part.labels
    if labels.ndim == 2:
        return np.asarray((labels == (labels.mean(0) > 0.5).float()).double().mean(1))
    return np.asarray((labels == labels.bincount().argmax()).double())


def _above_chance(case: Case, name: str) -> bool:
    return _surely_better(case.correct(name), _commonest(case.looked[name]), SURE)


def _surely_better(mine: np.ndarray, theirs: np.ndarray, sure: float) -> bool:
    """Sign test, one-sided, of right answers (0–1) to the same examples: would as many wins come by chance?"""
    from scipy.stats import binomtest

    won, lost = int((mine > theirs).sum()), int((mine < theirs).sum())
    return won + lost > 0 and bool(binomtest(won, won + lost, alternative="greater").pvalue < sure)


def _permuted(case: Case) -> list[Remark]:
    """Whether other names for the classes would make far more of the answers right.

    The names are those of a linear assignment on the confusions of one half of the retained examples; the other half tells
    how many are right, so that an assignment to noise earns nothing.
    """
    from scipy.optimize import linear_sum_assignment

    if not case.one_class_each:
        return []
    names, labels = case.forget.classes, case.looked["retain"].labels.numpy()
    said = case.answers["retain"].argmax(1).numpy()
    confusion = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(confusion, (labels[::2], said[::2]), 1)
    meant = linear_sum_assignment(-confusion)[1]
    plain, other = said[1::2] == labels[1::2], said[1::2] == meant[labels[1::2]]
    before, best = float(plain.mean()), float(other.mean())
    if best - before <= LIFT or not _surely_better(other, plain, SURER):
        return []
    moved = [f"{names[a]} is called {names[b]}" for a, b in enumerate(meant) if confusion[a, b] > confusion[a, a]]
    sentence = (
        f"The classes seem to stand in another order than the model's: {percent(before)} of retained examples are right, "
        f"{percent(best)} with names exchanged ({'; '.join(moved[:3])}{' …' if len(moved) > 3 else ''})."
    )
    do = "Give class names in the order the model was trained with."
    return [Remark(name="fit", level="stop", sentence=sentence, do=do, numbers={"plain": before, "best": best})]


def _preprocessing(case: Case) -> list[Remark]:
    """Whether the model is clearly better on images that are normalised, unscaled or with channels reversed."""
    part = case.looked["retain"].take(np.arange(min(TRIED, case.most // 2, len(case.looked["retain"]))))
    if part.inputs.ndim != 4 or case.accuracy("retain") > 1 - LIFT:
        return []

    def right(inputs: torch.Tensor) -> np.ndarray:
        logits = case.engine.logits(case.model, inputs).nan_to_num(0.0)
        return np.asarray(part.task.correct(logits, part.labels))

    images = pixels(part.inputs)
    plain = right(images)
    others = [(name, do, right(changed)) for name, do, changed in _readings(images)]
    name, do, best = max(others, key=lambda other: float(other[2].mean()))
    if best.mean() - plain.mean() <= LIFT or not _surely_better(best, plain, SURER):
        return []
    before, after = float(plain.mean()), float(best.mean())
    said = (
        f"The preprocessing seems to be missing: {percent(before)} of retained examples are right as they come (0–1), "
    )
    said += f"{percent(after)} with {name}."
    return [Remark(name="fit", level="stop", sentence=said, do=do, numbers={"plain": before, "best": after})]


def _readings(images: torch.Tensor) -> Iterator[tuple[str, str, torch.Tensor]]:
    """Other ways to read these images (0–1): what is done, how to have it done, and the images."""
    channels = images.shape[1]
    own, spread = images.mean((0, 2, 3)), images.std((0, 2, 3)).clamp_min(1e-6)
    known = {**USUAL, "the data's own": (tuple(own.tolist()), tuple(spread.tolist()))}
    for name, (mean, std) in known.items():
        if len(mean) == channels:
            flags = [" ".join(f"{value:.4g}" for value in values) for values in (mean, std)]
            do = f"Give --preprocess.mean {flags[0]} --preprocess.std {flags[1]}, then check again."
            yield f"mean and deviation taken off ({name})", do, _normalised(images, mean, std)
    do = "Give --preprocess.mean 0 --preprocess.std 0.003922, then check again."
    yield "pixels of 0–255", do, images * 255
    wrap = "Wrap the network so that this is its first step, then check again."
    yield "black and white exchanged", wrap, 1 - images
    if channels == 3:
        yield "the colour channels in reverse", wrap, images.flip(1)


def _normalised(images: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    shift, scale = (torch.tensor(value).reshape(1, -1, 1, 1) for value in (mean, std))
    return (images - shift) / scale
