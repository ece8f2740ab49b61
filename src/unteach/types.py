"""The words every room shares: examples, splits, tasks, and what a method or an attack is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import torch

from unteach.mapped import Mapped, blocks

if TYPE_CHECKING:
    from unteach.engine import Engine


SCANNED = 65_536  # ids that are Python text at one time


class Refusal(Exception):  # noqa: N818 - it is not a fault of the program
    """Bad input, told in one sentence: *expected … got …; do …*. The command line prints it and exits with 2."""


@dataclass(frozen=True)
class OwnLoss:
    """A user's loss, in training and by methods in place of cross-entropy; no audit reads it.

    ``function``: logits and labels to the loss of each example, shape ``n``. ``code``: its name and SHA-256, see ``user_code``.
    """

    function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    code: str

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor, smoothing: float) -> torch.Tensor:
        if smoothing:
            raise Refusal(f"expected no label smoothing with a loss of your own, got {smoothing}; do it in {self.code}")
        found = self.function(logits.float(), labels)
        if not isinstance(found, torch.Tensor) or found.shape != labels.shape[:1]:
            shape = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
            raise Refusal(f'expected one loss per example from {self.code}, got {shape}; such as by reduction="none"')
        return found


class MultiClass:
    """One label of ``classes`` per example; labels are int64 of shape ``n``, logits ``n × classes``."""

    def __init__(self, classes: int, own: OwnLoss | None = None) -> None:
        self.classes, self.own = classes, own

    def loss(self, logits: torch.Tensor, labels: torch.Tensor, smoothing: float = 0.0) -> torch.Tensor:
        """Cross-entropy of each example, in nats, shape ``n``; ``smoothing`` spreads that share of each label over all."""
        if self.own is not None:
            return self.own(logits, labels, smoothing)
        return torch.nn.functional.cross_entropy(logits.float(), labels, reduction="none", label_smoothing=smoothing)

    def correct(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Share of right answers of each example: 0 or 1, float, shape ``n``."""
        return (logits.argmax(1) == labels).double()

    def confidence(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Logit-scaled confidence φ = f_y − logsumexp over the other classes, float64, shape ``n``.

        Equal to log(p_y / (1 − p_y)), computed without leaving logit space.
        *Source:* Carlini et al., LiRA, 2022, arXiv 2112.03570, section IV; the same as KLoM's margin.
        """
        z = logits.double()
        true = z.gather(1, labels[:, None]).squeeze(1)
        others = z.scatter(1, labels[:, None], -torch.inf)
        return true - torch.logsumexp(others, 1)

    def margin(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """How far the example is from being misread: z_y − max of the others; negative when wrong. Shape ``n``."""
        true = logits.gather(1, labels[:, None]).squeeze(1)
        return true - logits.scatter(1, labels[:, None], -torch.inf).amax(1)

    def predict(self, logits: torch.Tensor) -> torch.Tensor:
        """The model's own labels, in the form of the data's."""
        return logits.argmax(1)


class MultiLabel:
    """``classes`` yes-or-no labels per example; labels are float32 0/1 of shape ``n × classes``."""

    def __init__(self, classes: int, own: OwnLoss | None = None) -> None:
        self.classes, self.own = classes, own

    def loss(self, logits: torch.Tensor, labels: torch.Tensor, smoothing: float = 0.0) -> torch.Tensor:
        """Binary cross-entropy averaged over the labels of each example, in nats, shape ``n``."""
        if self.own is not None:
            return self.own(logits, labels, smoothing)
        soft = labels * (1 - smoothing) + smoothing / 2 if smoothing else labels
        return torch.nn.functional.binary_cross_entropy_with_logits(logits.float(), soft, reduction="none").mean(1)

    def correct(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Share of an example's labels answered right (threshold: probability 0.5), float, shape ``n``."""
        return ((logits > 0) == (labels > 0.5)).double().mean(1)

    def confidence(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Logit of each true answer, averaged over the labels: the per-label φ of the binary case, float64."""
        return (logits.double() * (2 * labels.double() - 1)).mean(1)

    def margin(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The least sure of the answers: negative as soon as one label is wrong. Shape ``n``."""
        return (logits * (2 * labels - 1)).amin(1)

    def predict(self, logits: torch.Tensor) -> torch.Tensor:
        """The model's own labels, in the form of the data's."""
        return (logits > 0).float()


Task = MultiClass | MultiLabel


@dataclass(frozen=True, eq=False)
class Examples:
    """Inputs with labels and names: the only notion of a data set in this library.

    ``inputs``: uint8 images 0–255 of shape ``n × c × h × w``, or float32 (perturbed images in 0–1; features ``n × k``; embeddings
    ``n × tokens × width``). Those of data larger than memory are ``Mapped``, which reads from disk what it is asked for.
    ``labels``: int64 ``n`` (one class each) or float32 ``n × k`` (multi-label).
    ``ids``: array of ``n`` different strings that stay with their example through every selection.
    ``groups``: array of ``n`` strings (person, household …) or None.
    ``classes``: the names of the classes, or of the labels of a multi-label task.
    ``kinds``: array of ``n`` strings (subclass, site …) or None. Unlike a group, a kind is no unit of what was drawn: training
    and test data both have examples of it, and no half of the data must keep it whole.
    ``loss``: the user's own, or None for cross-entropy; ``task`` tells it to whoever trains.
    """

    inputs: torch.Tensor
    labels: torch.Tensor
    ids: np.ndarray
    groups: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    kinds: np.ndarray | None = None
    loss: OwnLoss | None = None

    def __post_init__(self) -> None:
        n = len(self.inputs)
        lengths = {"labels": len(self.labels), "ids": len(self.ids)}
        lengths |= {k: len(v) for k, v in {"groups": self.groups, "kinds": self.kinds}.items() if v is not None}
        for name, length in lengths.items():
            if length != n:
                raise Refusal(f"expected one entry of {name} per input ({n}), got {length}; check the data")

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def task(self) -> Task:
        """What the labels ask of a model."""
        kind = MultiLabel if self.labels.ndim == 2 else MultiClass
        return kind(len(self.classes), self.loss)

    def take(self, index: torch.Tensor | np.ndarray | Sequence[int]) -> Examples:
        """The examples at these positions, in this order."""
        rows = np.asarray(index)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows.astype(np.int64)
        at = torch.from_numpy(rows)
        groups, kinds = (None if names is None else names[rows] for names in (self.groups, self.kinds))
        inputs = self.inputs.chosen(rows) if isinstance(self.inputs, Mapped) else self.inputs[at]
        return replace(self, inputs=inputs, labels=self.labels[at], ids=self.ids[rows], groups=groups, kinds=kinds)

    def relabel(self, labels: torch.Tensor) -> Examples:
        """The same inputs and ids under other labels."""
        return replace(self, labels=labels)

    def positions(self, ids: Sequence[str] | np.ndarray) -> np.ndarray:
        """Where these ids stand; an unknown id is refused by name."""
        # The few that are asked for in a table, not the many that are there: of a million it would take 200 MiB.
        where = dict.fromkeys(ids, -1)
        for start in range(0, len(self.ids), SCANNED):
            for at, name in enumerate(self.ids[start : start + SCANNED].tolist(), start):
                if name in where:
                    where[name] = at
        missing = [name for name in ids if where[name] < 0]
        if missing:
            shown = ", ".join(repr(str(name)) for name in missing[:3]) + (" …" if len(missing) > 3 else "")
            raise Refusal(
                f"expected ids of the training set, got {len(missing)} unknown: {shown}; "
                f"ids here look like {str(self.ids[0])!r}"
            )
        return np.fromiter((where[name] for name in ids), dtype=np.int64, count=len(ids))

    def fingerprint(self) -> str:
        """SHA-256 of inputs, labels, ids, shape and class names: the same data always gives the same 64 digits.

        A loss of the user's own counts, for whatever is kept of a training that it had a part in.
        """
        digest = hashlib.sha256()
        for tensor in (self.inputs, self.labels):
            digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
            for block in blocks(tensor):
                digest.update(block.contiguous().numpy().data)
        for names in (self.ids.tolist(), self.classes, *([] if self.loss is None else [[self.loss.code]])):
            digest.update("\0".join(names).encode())
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Split:
    """What an unlearning method may see. There is no test set: what a method cannot see it cannot leak.

    ``retain`` is None when the operator no longer holds the rest of the training data.
    """

    forget: Examples
    retain: Examples | None
    validation: Examples | None = None

    @property
    def task(self) -> Task:
        return self.forget.task


@dataclass(frozen=True, kw_only=True)
class Range:
    """Values of a setting worth trying: from ``low`` to ``high``, evenly on a log scale or not; whole numbers if both are.

    Of a learning rate (a setting named ``lr``) they are shares of the highest rate that the original was trained with.
    """

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Values of a setting worth trying, one by one."""

    values: tuple[str | float | bool | None, ...]


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a user should know before choosing a method; source and departures stand in the method's docstring.

    ``does``: three sentences at most. ``suits``: of "random", "class", "group", "sequence". ``cost``: in words, beside what
    retraining costs. ``knobs``: names of the settings that matter, in the order to try them, each with what it moves.
    ``layers``: what the network must have. ``search``: knobs with the values that a search for good settings tries.
    ``more``: the knob that makes the method forget more, and whether it is to go ``"up"`` or ``"down"`` for that.
    """

    does: str
    suits: tuple[str, ...]
    cost: str
    knobs: dict[str, str]
    layers: str = "any"
    search: dict[str, Range | Choice] = field(default_factory=dict)
    more: tuple[str, str] | None = None


@runtime_checkable
class Method(Protocol):
    """An unlearning method: a frozen dataclass of settings that is called.

    ``needs`` names what it can't do without: any of ``"retain"``, ``"validation"``, ``"class"`` (a request of whole
    classes), ``"convolutions"``. A class attribute ``card`` tells users more.
    The given model stays bit-identical; the same generator state gives the same bytes.
    """

    @property
    def needs(self) -> frozenset[str]: ...

    def __call__(
        self, model: torch.nn.Module, split: Split, rng: torch.Generator, engine: Engine
    ) -> torch.nn.Module: ...


@runtime_checkable
class Attack(Protocol):
    """Perturbs inputs so that the model errs: floats in 0–1 in, floats in 0–1 out, no gradients left behind."""

    def __call__(
        self, model: torch.nn.Module, inputs: torch.Tensor, labels: torch.Tensor, rng: torch.Generator
    ) -> torch.Tensor: ...


@dataclass(frozen=True, eq=False)
class Signals:
    """What the judges read: the logits of every model on every example, and who trained on what.

    ``logits``: float32 ``models × views × examples × classes`` (views: 1 = no augmentation).
    ``labels``: as in the data. ``members``, ``forgotten``: bool ``models × examples``; forgotten ≤ members.
    ``groups``: the independent units for intervals (person …), or None. ``references``: positions of the models that an
    attacker would train on random halves of the data, to learn what members and others look like; never of judged ones.
    ``logits`` may be read from disk model by model: index it by one model first (``logits[at]``), and keep few at a time.
    """

    models: tuple[str, ...]
    logits: np.ndarray
    labels: np.ndarray
    members: np.ndarray
    forgotten: np.ndarray
    groups: np.ndarray | None = None
    references: tuple[int, ...] = ()
