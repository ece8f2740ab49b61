"""MIA-NN: does a classifier of a forgotten class's neighbour give away that the class was unlearned, not absent?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from unteach.audit.routing import check, check_logits, log_shares, neighbour_class
from unteach.types import Refusal


@dataclass(frozen=True, kw_only=True)
class MiaNn:
    """MIA-NN (later CMIA): does a classifier of the neighbour class, made from a retrained model, accept as many images?

    1. For each reference, a support vector machine tells the neighbour class from the other retained classes by the
       reference's answers to *retained* test images (log shares over the classes that stay, standardised).
    2. Share of the forgotten class's test images that it takes for the neighbour's: from the reference's own answers,
       and from the model's. The leakage is the second minus the first, averaged over references.
    3. The same with every other reference in the model's place: what retraining alone makes of it.

    A test of the distribution of answers, not of one example's membership. *Source:* Ebrahimpour-Boroojeny, Wang, Sundaram,
    2025, arXiv 2506.20893, as abstracts and public reviews describe it. *Departs:* kernel and penalty are ours (nothing
    known of the paper's); one machine, for the neighbour, since no other class enters the score; the columns of forgotten
    classes are left out, which ``routing`` reads apart; the comparison of references among themselves is ours.
    """

    rbf: bool = False
    """A Gaussian (RBF) kernel instead of a linear machine; it also rejects answers surer than all it was fitted on."""
    penalty: float = 1.0
    """C of the support vector machine, above 0: the larger, the fewer training images on the wrong side."""

    def __post_init__(self) -> None:
        if not self.penalty > 0:
            raise Refusal(f"expected penalty above 0, got {self.penalty}; 1 is the default")

    def __call__(
        self,
        model: np.ndarray,
        references: np.ndarray,
        gone: Sequence[int],
        *,
        retained: np.ndarray,
        labels: np.ndarray,
    ) -> Leakage:
        """``retained``: the references' logits of retained test images, ``references × m × classes``; ``labels``: ``m``."""
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
        from sklearn.svm import SVC

        check(model, references, gone)
        check_logits(retained, 3)
        expected = (len(references), len(labels), model.shape[1])
        if retained.shape != expected or np.isin(labels, gone).any():
            raise Refusal(
                f"expected logits of shape {expected} on retained test images, and labels of retained classes only, got "
                f"shape {retained.shape} or a forgotten label; leave the forgotten classes out"
            )
        neighbour = neighbour_class(references, gone)
        if not 0 < np.count_nonzero(labels == neighbour) < len(labels):
            raise Refusal(
                f"expected retained images of class {neighbour} and of others, got one kind; give more images"
            )
        kernel = "rbf" if self.rbf else "linear"
        accepted = np.empty((len(references), len(references) + 1))
        for at, answers in enumerate(retained):
            machine = make_pipeline(StandardScaler(), SVC(kernel=kernel, C=self.penalty))
            machine.fit(log_shares(answers, gone), labels == neighbour)
            for column, logits in enumerate([model, *references]):
                accepted[at, column] = machine.predict(log_shares(logits, gone)).mean()
        return Leakage(neighbour, tuple(accepted[:, 0].tolist()), tuple(map(tuple, accepted[:, 1:].tolist())))


@dataclass(frozen=True)
class Leakage:
    """Shares of forgotten images that the references' classifiers take for the neighbour's, 0–1.

    ``unlearned``: by each reference's classifier from the model's answers. ``retrained``: the same from every reference's
    answers; its diagonal is each classifier on its own reference.
    """

    neighbour: int
    unlearned: tuple[float, ...]
    retrained: tuple[tuple[float, ...], ...]

    @property
    def leakage(self) -> float:
        """Share accepted from the model's answers minus that from the retrained one's own, −1 to 1; 0 leaks nothing."""
        return float(np.mean(np.array(self.unlearned) - np.diag(self.retrained)))

    @property
    def floor(self) -> tuple[float, ...]:
        """The leakage of each reference, judged by the other references."""
        gaps = np.array(self.retrained) - np.diag(self.retrained)[:, None]
        return tuple(float(np.delete(gaps[:, out], out).mean()) for out in range(len(gaps)))

    @property
    def inside(self) -> bool:
        """No further from zero than the furthest reference."""
        return abs(self.leakage) <= max(map(abs, self.floor))

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"leakage": self.leakage, "floor": list(self.floor), "inside": self.inside}
