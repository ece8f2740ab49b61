"""Backdoors: a patch on some training images leads to one class; does forgetting those images close it?"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch

from unteach.audit.finding import Measured
from unteach.engine import Engine
from unteach.stress.lineup import Lineup, Models, Parts, answers, finding, one_class_each, right, share_interval
from unteach.types import Examples, Refusal

CORNERS = ("top-left", "top-right", "bottom-left", "bottom-right")
SOURCE = "Goel et al., 2024, arXiv 2402.14015; Fan et al., SalUn, 2023, arXiv 2310.12508"


@dataclass(frozen=True, kw_only=True)
class Patch:
    """A square of one grey level in a corner of every image."""

    size: int = 3
    """Side of the square, pixels, at least 1."""
    corner: str = "bottom-right"
    """Where it is: top-left, top-right, bottom-left or bottom-right."""
    value: int = 255
    """Its grey level in every channel, 0–255."""
    offset: int = 0
    """Pixels between the square and the two edges of its corner, 0 or more."""

    def __post_init__(self) -> None:
        if self.corner not in CORNERS:
            raise Refusal(f"expected a corner ({', '.join(CORNERS)}), got {self.corner!r}; choose one of these")
        if self.size < 1 or self.offset < 0 or not 0 <= self.value <= 255:
            raise Refusal(
                f"expected a size of at least 1, an offset of at least 0 and a value of 0 to 255, got {self.size}, "
                f"{self.offset} and {self.value}; correct the patch"
            )

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Stamped copies of images, uint8 0–255 or floats 0–1, ``n × c × h × w``."""
        if images.ndim != 4 or min(images.shape[2:]) < self.size + self.offset:
            raise Refusal(
                f"expected images of at least {self.size + self.offset} pixels to either side for the patch, got inputs of "
                f"shape {tuple(images.shape[1:])}; make the patch smaller"
            )
        vertical, horizontal = self.corner.split("-")
        height, width = images.shape[2:]
        top = self.offset if vertical == "top" else height - self.offset - self.size
        left = self.offset if horizontal == "left" else width - self.offset - self.size
        stamped = images.clone()
        value = self.value if images.dtype == torch.uint8 else self.value / 255
        stamped[:, :, top : top + self.size, left : left + self.size] = value
        return stamped


@dataclass(frozen=True, kw_only=True)
class Poison:
    """Stamp some images of other classes and give them the target's label.

    *Source:* ``CORRECTIVE``: Goel et al., Corrective Machine Unlearning, 2024, arXiv 2402.14015, 3 × 3 white pixels in the
    corner, target 0, 100 to 1,000 images. ``SALUN``: the public code of Fan et al., SalUn, 2023, arXiv 2310.12508, 4 × 4 black
    pixels, 2 off the edges. *Departs:* no image of the target class is drawn, whose label would not change.
    """

    patch: Patch = field(default_factory=Patch)
    """What the images are stamped with."""
    target: int = 0
    """Number of the class that the patch is to lead to."""
    count: int = 500
    """Images to poison, at least 1."""
    seed: int = 0
    """Seed of the draw."""

    def __post_init__(self) -> None:
        if self.count < 1 or self.target < 0:
            raise Refusal(
                f"expected count of 1 or more and target of 0 or more, got {self.count} and {self.target}; fix"
            )

    def __call__(self, examples: Examples) -> tuple[Examples, np.ndarray]:
        """The examples to train with, and the ids of the poisoned ones, in the order of the data."""
        one_class_each(examples, "poison")
        others = np.flatnonzero(examples.labels.numpy() != self.target)
        if len(others) < self.count:
            raise Refusal(f"expected {self.count} or more images of other classes, got {len(others)}; lower the count")
        rows = np.sort(np.random.default_rng(self.seed).permutation(others)[: self.count])
        inputs, labels = examples.inputs.clone(), examples.labels.clone()
        inputs[rows] = self.patch(examples.inputs[rows])
        labels[rows] = self.target
        return replace(examples, inputs=inputs, labels=labels), examples.ids[rows]


CORRECTIVE = Poison()
SALUN = Poison(patch=Patch(size=4, value=0, offset=2))


@dataclass(frozen=True, kw_only=True)
class Backdoor:
    """Whether the patch still leads to the target class, and what unlearning cost elsewhere.

    On unseen images: attack success rate, the share of stamped images of *other* classes that are taken for the target's;
    Acc_corr, the accuracy on stamped images of all classes by their clean labels; Acc_retain, the accuracy on images as they
    are. The models to compare with are trained without *all* poisoned images: retraining without those that were found alone
    (``requested``) keeps the backdoor.

    *Source:* as ``Poison``. *Departs:* images of the target class don't count as successes.
    """

    poison: Poison

    def __call__(self, models: Models, parts: Parts, *, seed: int, engine: Engine) -> Measured:
        """Shares 0–1 of the unseen images, which are given clean."""
        one_class_each(parts.useful, "poison removal")
        clean, target = parts.useful, self.poison.target
        stamped = replace(clean, inputs=self.poison.patch(clean.inputs))
        others = stamped.take(stamped.labels.numpy() != target)
        if not len(others):
            raise Refusal(f"expected unseen images of other classes than {target}, got none; choose another target")

        def led(model: torch.nn.Module) -> np.ndarray:
            return (answers(model, others, engine).argmax(1) == target).double().numpy()

        readings: tuple[tuple[str, Lineup[np.ndarray], Examples, bool], ...] = (
            ("attack success rate", models.map(led), others, True),
            ("Acc_corr", models.map(lambda model: right(model, stamped, engine)), stamped, False),
            ("Acc_retain", models.map(lambda model: right(model, clean, engine)), clean, False),
        )
        return tuple(
            finding(
                values.map(lambda one: float(one.mean())),
                name=name,
                part="test",
                interval=share_interval(values.unlearned, examples.groups, seed),
                two_sided=not corrupt,
                control=corrupt,
                size=len(examples),
                source=SOURCE,
            )
            for name, values, examples, corrupt in readings
        )
