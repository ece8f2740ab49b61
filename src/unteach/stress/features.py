"""Below the last layer: what the features of a model still say about what its answers no longer tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from unteach.audit.finding import Finding, Measured, Skipped
from unteach.engine import Engine
from unteach.models.anatomy import last_linear
from unteach.stress.lineup import Lineup, Models, Parts, auc_finding, sampled
from unteach.types import Examples, MultiClass, Refusal

FEWEST = 10  # examples on a side; a probe that is fitted on fewer says nothing


def features_of(model: torch.nn.Module, examples: Examples, engine: Engine) -> np.ndarray:
    """What goes into the model's last linear layer, float64 ``n × d``, in eval mode; NaN and infinity are refused."""
    from unteach.models.penultimate import Penultimate

    last_linear(model)
    found = engine.logits(Penultimate(model), examples.inputs).double().numpy()
    if not np.isfinite(found).all():
        raise Refusal("expected finite features, got NaN or infinity; check the checkpoints and the inputs")
    return found


@dataclass(frozen=True, eq=False)
class _Read:
    """Features of one model, ``n × d`` each."""

    forget: np.ndarray
    unseen: np.ndarray
    retain: np.ndarray | None


@dataclass(frozen=True, kw_only=True)
class Features:
    """Linear probes on the input of the last layer: they catch a method that edits that layer only.

    1. A new last layer, fitted on retained examples; then the membership game on its confidence, forgotten against unseen.
       What an edited last layer hid, a new one shows.
    2. A probe that tells forgotten from unseen examples, cross-fitted, with all examples of a group in one fold.
    3. Where whole classes were forgotten, a probe that tells their unseen images from those of other classes, in place of 1.

    Probes are logistic regressions on standardised features. AUCs are of scores on examples that the probe was not fitted on;
    their intervals take the scores as given. Of few examples or groups, cross-fitted AUCs of nothing at all lie below ½: the
    retrained models' are the mark.

    *Source:* probing: Alain and Bengio, 2016, arXiv 1610.01644. *Departs:* the new last layer and the class probe are ours.
    """

    penalty: float = 0.1
    """C of the logistic regressions, above 0: the larger, the closer they fit."""
    folds: int = 5
    """Parts of the cross-fitting, at least 2; fewer where there are fewer groups."""
    sample: int = 5000
    """Most examples of each part, at least 10."""

    def __post_init__(self) -> None:
        if not self.penalty > 0:
            raise Refusal(f"expected penalty above 0, got {self.penalty}; 0.1 is the default")
        if self.folds < 2 or self.sample < FEWEST:
            raise Refusal(
                f"expected 2 or more folds and a sample of {FEWEST} or more, got {self.folds} and {self.sample}; give more"
            )

    def __call__(self, models: Models, parts: Parts, *, seed: int, engine: Engine) -> Measured:
        """AUCs, 0–1."""
        forget, unseen = (sampled(part, self.sample, seed) for part in (parts.forget, parts.matched))
        retain = sampled(parts.retain, self.sample, seed) if parts.retain else None
        if min(len(forget), len(unseen)) < FEWEST:
            why = f"{len(forget)} forgotten and {len(unseen)} comparable unseen examples, {FEWEST} are needed of each"
            return (Skipped(name="feature probes", family="behaviour", reason=why),)

        def read(model: torch.nn.Module) -> _Read:
            kept = None if retain is None else features_of(model, retain, engine)
            return _Read(features_of(model, forget, engine), features_of(model, unseen, engine), kept)

        try:
            found = models.map(read)
        except Refusal as refusal:
            return (Skipped(name="feature probes", family="behaviour", reason=str(refusal)),)
        head: Finding | Skipped
        if parts.whole_classes:
            head = self._class_probe(models, parts, seed, engine)
        else:
            head = self._new_head(found, forget, unseen, retain, seed)
        return (head, self._told_apart(found, forget, unseen, seed))

    def _new_head(
        self, found: Lineup[_Read], forget: Examples, unseen: Examples, retain: Examples | None, seed: int
    ) -> Finding | Skipped:
        name = "FT AUC after fitting a new last layer"
        if retain is None or not isinstance(forget.task, MultiClass):
            why = "there is no retain set" if retain is None else "it needs one class for each example"
            return Skipped(name=name, family="behaviour", reason=why)
        known: torch.Tensor = torch.unique(retain.labels)  # type: ignore[no-untyped-call]
        sides = [part.take(torch.isin(part.labels, known).numpy()) for part in (forget, unseen)]
        kept = [torch.isin(part.labels, known).numpy() for part in (forget, unseen)]
        if min(map(len, sides)) < FEWEST or len(known) < 2:
            return Skipped(name=name, family="behaviour", reason="too few examples of the classes of the retain set")

        def confidences(one: _Read) -> tuple[np.ndarray, np.ndarray]:
            head = self._machine().fit(one.retain, retain.labels.numpy())
            rows = one.forget[kept[0]], one.unseen[kept[1]]
            plus, minus = (_confidence(head, x, part.labels, known) for x, part in zip(rows, sides))
            return plus, minus

        return auc_finding(found.map(confidences), name, "FT", (sides[0].groups, sides[1].groups), seed)

    def _told_apart(self, found: Lineup[_Read], forget: Examples, unseen: Examples, seed: int) -> Finding | Skipped:
        name = "forget-versus-unseen probe AUC"
        folds = folds_of(forget, unseen, self.folds, seed)
        if folds is None:
            why = "one side has a single group, which can't be in a fold of its own and be learned from"
            return Skipped(name=name, family="behaviour", reason=why)
        scores = found.map(lambda one: self._cross_fitted(one.forget, one.unseen, folds))
        return auc_finding(scores, name, "FT", (forget.groups, unseen.groups), seed)

    def _class_probe(self, models: Models, parts: Parts, seed: int, engine: Engine) -> Finding | Skipped:
        name = "forgotten-class probe AUC"
        gone = np.isin(parts.unseen.labels.numpy(), parts.whole_classes)
        inside, outside = (sampled(parts.unseen.take(mask), self.sample, seed) for mask in (gone, ~gone))
        folds = folds_of(inside, outside, self.folds, seed)
        if min(len(inside), len(outside)) < FEWEST or folds is None:
            return Skipped(name=name, family="behaviour", reason="too few unseen examples, or groups, on a side")

        def scores(model: torch.nn.Module) -> tuple[np.ndarray, np.ndarray]:
            return self._cross_fitted(features_of(model, inside, engine), features_of(model, outside, engine), folds)

        return auc_finding(models.map(scores), name, "test", (inside.groups, outside.groups), seed)

    def _cross_fitted(self, plus: np.ndarray, minus: np.ndarray, folds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores of both sides by machines that were fitted on the other folds; higher on the first side."""
        from sklearn.model_selection import PredefinedSplit, cross_val_predict

        x, y = np.concatenate([plus, minus]), np.repeat([1, 0], [len(plus), len(minus)])
        scores = cross_val_predict(self._machine(), x, y, cv=PredefinedSplit(folds), method="decision_function")
        return scores[: len(plus)], scores[len(plus) :]

    def _machine(self) -> Any:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        return make_pipeline(
            StandardScaler(), LogisticRegression(C=self.penalty, class_weight="balanced", max_iter=2000)
        )


def folds_of(plus: Examples, minus: Examples, most: int, seed: int) -> np.ndarray | None:
    """A fold for each example of both, whole groups together, the groups of each side shared out evenly.

    Examples without groups are groups of one. None where a side has one group only.
    """
    names = np.concatenate([part.ids if part.groups is None else part.groups for part in (plus, minus)])
    _, group = np.unique(names, return_inverse=True)
    on_minus = np.zeros(group.max() + 1, dtype=np.int64)
    on_plus = on_minus.copy()
    on_plus[group[: len(plus)]], on_minus[group[len(plus) :]] = 1, 2
    fewest = min(int((on_plus > 0).sum()), int((on_minus > 0).sum()))
    if fewest < 2:
        return None
    order = np.random.default_rng(seed).permutation(len(on_plus))
    order = order[np.argsort((on_plus + on_minus)[order], kind="stable")]
    fold = np.empty(len(order), dtype=np.int64)
    fold[order] = np.arange(len(order)) % min(most, fewest)
    folds: np.ndarray = fold[group]
    return folds


def _confidence(head: Any, features: np.ndarray, labels: torch.Tensor, known: torch.Tensor) -> np.ndarray:
    """Logit-scaled confidence of the true class by a fitted machine; ``known``: its classes, in order."""
    z = head.decision_function(features)
    z = np.stack([np.zeros(len(z)), z], 1) if z.ndim == 1 else z
    at = torch.searchsorted(known, labels)
    return MultiClass(len(known)).confidence(torch.from_numpy(z), at).numpy()
