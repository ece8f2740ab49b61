"""What settings are tuned towards: a retrained model of another request, chance, or, for researchers, the answer itself."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from unteach.api import apply
from unteach.data.request import kind_of
from unteach.engine import Engine
from unteach.methods import Retrain
from unteach.recipe import Recipe
from unteach.store import digest_of, fingerprint, load_into, load_tensors, save_tensors
from unteach.train import Sgd
from unteach.tuning.judge import Judge, Reading, gap, judge_of, mean_of
from unteach.tuning.proxy import proxy_request
from unteach.types import Examples, Method, Refusal, Split

HOLD_OUT = "hold some out when the original is trained (unteach train --validation random:0.1)"


@dataclass(frozen=True, eq=False, kw_only=True)
class Case:
    """What is to be tuned on: a trained model, the real request, and where the work is done.

    There is no test set in it. ``retrained``: models retrained for the real request, which only ``Oracle`` takes.
    """

    method: Method
    model: torch.nn.Module
    split: Split
    recipe: Recipe | None
    retrained: tuple[torch.nn.Module, ...]
    seed: int
    engine: Engine
    folder: Path | None

    @property
    def size(self) -> int:
        """Examples the model was trained on."""
        return len(self.split.forget) + (len(self.split.retain) if self.split.retain else 0)

    @property
    def halves(self) -> tuple[Examples | None, Examples | None]:
        """Validation data for the method and for the judge: two halves where the method trains on them, else all to judge."""
        held = self.split.validation
        if held is None or "validation" not in self.method.needs:
            return None, held
        order = np.random.default_rng([self.seed, 13]).permutation(len(held))
        if len(order) < 2:
            raise Refusal(f"expected validation examples for method and judge, got {len(order)}; {HOLD_OUT}")
        return held.take(np.sort(order[::2])), held.take(np.sort(order[1::2]))


@dataclass(frozen=True, eq=False, kw_only=True)
class Aim:
    """What the trials of a tuning work on, and how they are scored: the lower, the better.

    ``floor``: the score of a second retrained model, which no method need beat; None where there is none. ``limit``: above
    this score a condition is broken.
    """

    words: str
    split: Split
    judge: Judge
    score: Callable[[Reading], float]
    target: Reading | None = None
    floor: float | None = None
    limit: float = math.inf


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """Draw another request of the same size and kind from the retained examples, retrain without it, and come near that.

    Nothing of the real request's outcome is looked at. Retrained models are trained on all else the original saw, the real
    request among it; see ``proxy_request`` for why. They have to be deleted with the original.
    """

    retrains: int = 2
    """Models to train without the proxy request, 1 or more; of several the last is the floor, and the target their mean."""
    epochs_share: float = 1.0
    """Share of the original's epochs to retrain them for, above 0 and at most 1; less is cheaper and another target."""
    without_validation: bool = False
    """Whether to tune where no validation data were held out: then without their accuracy, and the attack tells retained from
    forgotten examples."""

    def __post_init__(self) -> None:
        if self.retrains < 1:
            raise Refusal(f"expected at least 1 proxy retrain, got {self.retrains}; 2 is the default")
        if not 0 < self.epochs_share <= 1:
            raise Refusal(f"expected epochs_share above 0 and at most 1, got {self.epochs_share}; 1 retrains in full")

    def check(self, split: Split, recipe: Recipe | None, retrained: int) -> None:
        """Refuse what this target can't be made from, before anything is done."""
        _refuse_answers(retrained)
        if recipe is None:
            raise Refusal(
                "expected to know how the original was trained, to retrain without a proxy request, got no recipe; give "
                "--recipe.optim.lr, --recipe.optim.epochs …, or --target.kind chance"
            )
        shortened(recipe.optim, self.epochs_share)
        if split.validation is None and not self.without_validation:
            raise Refusal(
                f"expected validation data to tune on, which the original never saw, got none; {HOLD_OUT}, or accept a target "
                "without them: --target.without_validation true"
            )

    def __call__(self, case: Case) -> Aim:
        assert case.recipe is not None
        recipe = replace(case.recipe, optim=shortened(case.recipe.optim, self.epochs_share))
        lent, kept = case.halves
        request = replace(proxy_request(case.split, case.seed), validation=lent)
        judge = judge_of(request, seed=case.seed, validation=kept)
        readings = [
            _finite(judge(_retrained(case, request, recipe, number), case.engine)) for number in range(self.retrains)
        ]
        shorter = "" if self.epochs_share == 1 else f", for {100 * self.epochs_share:g} % of the epochs"
        words = f"proxy (retrained without another {kind_of(case.split)} request of {len(request.forget)} examples{shorter})"
        return _towards(words, request, judge, readings)


@dataclass(frozen=True, kw_only=True)
class Chance:
    """Retrain nothing: bring the attack on a proxy request to one half, as long as validation accuracy holds.

    The score is |AUC − ½|. Settings that cost more accuracy than allowed score ½ and what they cost, so worse than any
    others. It asks for more than retraining where forgotten groups are unlike all that is retained.
    """

    tolerance: float = 2.0
    """Points of validation accuracy that forgetting may cost, 0 or more."""

    def __post_init__(self) -> None:
        if not self.tolerance >= 0:
            raise Refusal(f"expected a tolerance of 0 points or more, got {self.tolerance}; 2 is the default")

    def check(self, split: Split, recipe: Recipe | None, retrained: int) -> None:
        """Refuse what this target can't be made from, before anything is done."""
        _refuse_answers(retrained)
        _refuse_without_validation(split)

    def __call__(self, case: Case) -> Aim:
        lent, kept = case.halves
        request = replace(proxy_request(case.split, case.seed), validation=lent)
        judge = judge_of(request, seed=case.seed, validation=kept)
        before = _finite(judge(case.model, case.engine)).validation
        assert before is not None

        def score(reading: Reading) -> float:
            assert reading.validation is not None
            lost = before - reading.validation
            return abs(reading.auc - 0.5) if lost <= self.tolerance / 100 else 0.5 + lost

        words = f"chance (AUC of 0.5, at most {self.tolerance:g} points of validation accuracy lost, nothing retrained)"
        return Aim(words=words, split=request, judge=judge, score=score, limit=0.5)


@dataclass(frozen=True, kw_only=True)
class Oracle:
    """Come near the model retrained for the real request: what an operator never has, to see what tuning without it loses."""

    def check(self, split: Split, recipe: Recipe | None, retrained: int) -> None:
        """Refuse what this target can't be made from, before anything is done."""
        if not retrained:
            raise Refusal("expected retrained models of this request for the oracle, got none; give --retrained FILES")
        _refuse_without_validation(split)

    def __call__(self, case: Case) -> Aim:
        lent, kept = case.halves
        request = replace(case.split, validation=lent)
        judge = judge_of(request, seed=case.seed, validation=kept)
        readings = [_finite(judge(model, case.engine)) for model in case.retrained]
        return _towards("oracle (peeks at the retrained model)", request, judge, readings)


Target = Proxy | Chance | Oracle


def shortened(optim: Sgd, share: float) -> Sgd:
    """The same training over a share of its epochs.

    Raises: Refusal for a schedule that counts epochs, which would then not fall as it should.
    """
    if share == 1:
        return optim
    if optim.schedule.partition(":")[0] in ("step", "multistep"):
        raise Refusal(
            f"expected a schedule that shrinks with the epochs for a shorter retraining, got {optim.schedule!r}; "
            "leave --target.epochs_share at 1"
        )
    return replace(optim, epochs=max(1, round(share * optim.epochs)))


def _refuse_answers(retrained: int) -> None:
    if retrained:
        raise Refusal(
            f"expected no retrained models of this request unless for --target.kind oracle, got {retrained}; leave them out"
        )


def _refuse_without_validation(split: Split) -> None:
    if split.validation is None:
        raise Refusal(f"expected validation data to attack the model with, which it never saw, got none; {HOLD_OUT}")


def _towards(words: str, request: Split, judge: Judge, readings: list[Reading]) -> Aim:
    target = mean_of(readings[:-1] or readings)
    floor = gap(readings[-1], target) if len(readings) > 1 else None
    return Aim(
        words=words,
        split=request,
        judge=judge,
        score=lambda reading: gap(reading, target),
        target=target,
        floor=floor,
    )


def _finite(reading: Reading | None) -> Reading:
    if reading is None:
        raise Refusal("expected finite logits of the models to tune by, got NaN or infinity; check the checkpoints")
    return reading


def _retrained(case: Case, request: Split, recipe: Recipe, number: int) -> torch.nn.Module:
    """A model retrained without the proxy request: read from its file, or trained and kept there."""
    file = case.folder and case.folder / "proxy" / f"retrained-{number}.safetensors"
    assert request.retain is not None
    key = digest_of([fingerprint(case.model), recipe.as_json(), request.retain.fingerprint(), case.seed, number])
    if file and file.is_file() and load_tensors(file)[1].get("key") == key:
        found = copy.deepcopy(case.model)
        load_into(found, load_tensors(file)[0], file)
        return found.eval()
    # Seeds that no original and no reference of the report has.
    rng = torch.Generator().manual_seed(500_000 + 1000 * case.seed + number)
    made = apply(Retrain(training=recipe), case.model, request, rng, case.engine)
    if file:
        save_tensors(file, made.state_dict(), {"key": key})
    return made
