"""``unteach tamper``: damage that is known, so that one can see whether forgetting undoes it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unteach.checkpoint import check_outputs, new_network
from unteach.data import DataSet
from unteach.data.augment import LATER
from unteach.engine import Engine
from unteach.methods import Amun
from unteach.models import Blueprint, Preprocess
from unteach.recipe import Recipe
from unteach.references import TrainingJob, UnlearningJob
from unteach.references.pool import pack, size_of
from unteach.references.unlearning import settled
from unteach.store import write_json
from unteach.stress.backdoor import Poison
from unteach.stress.confusion import Confuse, requested
from unteach.stress.gaussian import Noise
from unteach.types import Examples, Method, Refusal
from unteach.verbs.settings import DataChoice, Machine, Output, check_seed
from unteach.verbs.train import plain

if TYPE_CHECKING:
    from unteach.audit.finding import Finding, Measured
    from unteach.stress.lineup import Models, Stress


@dataclass(frozen=True, kw_only=True)
class Tamper:
    """Train on data that were tampered with, forget the tampered examples, and see whether the damage is undone.

    Swapped labels of two classes, a backdoor, or Gaussian noise. The models to compare with are retrained without any tampered
    example, also when only some of them are asked to be forgotten. Writes into --out: the models, and findings.json.
    """

    source: DataChoice = field(default_factory=DataChoice)
    tampering: Confuse | Poison | Noise = field(default_factory=lambda: Confuse(count=100))
    """confuse (labels of two classes are swapped), poison (a patch leads to one class) or noise (Gaussian noise on images)."""
    found: float = 1.0
    """Share of the tampered examples that somebody found and asks to forget, above 0 to 1; fewer are harder to undo."""
    model: str = "small-cnn"
    """Network: a name from `unteach list`, timm:NAME, torchvision:NAME, hf:FOLDER, pkg.module:factory or file.py:factory."""
    model_args: dict[str, Any] = field(default_factory=dict)
    """Arguments for the network's factory, as JSON or YAML."""
    preprocess: Preprocess = field(default=Preprocess(), metadata=LATER)
    """What inputs are put through before the network sees them."""
    recipe: Recipe = field(default_factory=Recipe)
    """How the original and the retrained models are trained."""
    method: Method = field(default_factory=Amun)
    """How to forget; `unteach list` tells the methods."""
    references: int = 2
    """Models retrained without any tampered example, 1 or more."""
    seed: int = 0
    """Seed of the original, of the method and of the retrained models; the tampering has its own."""
    output: Output = field(default_factory=lambda: Output(out=Path("runs/tamper")))
    machine: Machine = field(default_factory=Machine)

    def __call__(self) -> int:
        check_seed(self.seed)
        if self.references < 1:
            raise Refusal(f"expected 1 or more --references, got {self.references}; the damage has no measure without")
        if "validation" in self.method.needs:
            raise Refusal(
                f"expected a method that needs no validation data, got {type(self.method).__name__}; choose another"
            )
        clean = self.source.load()
        examples, touched = self.tampering(clean.train)
        kind = type(self.tampering).__name__.lower()
        data = replace(clean, name=f"{clean.name}, {kind}", train=examples)
        asked = requested(touched, self.found, seed=self.seed)
        jobs = self._jobs(data, touched)
        check_outputs(new_network(jobs["original"].blueprint, seed=0).eval(), data.train, f"the network {self.model}")
        with self.machine.engine(self.output.out, not self.output.quiet) as engine:
            folder = self.output.open(plain(self), engine.events)
            made = {name: job(data, folder / f"{name}.safetensors", engine) for name, job in jobs.items()}
            job = self._unlearning(jobs["original"], data, asked)
            unlearned = job(data, folder / "unlearned.safetensors", engine, original=made["original"].path)
            from unteach.stress.lineup import Lineup

            retrained = tuple(one.model for name, one in made.items() if name != "original")
            models: dict[str, Models] = {
                "original": Lineup(unlearned=made["original"].model, retrained=retrained),
                "unlearned": Lineup(unlearned=unlearned.model, retrained=retrained, original=made["original"].model),
            }
            known = clean.train.take(clean.train.positions(asked))
            measured = {name: self._measured(one, known, clean, engine) for name, one in models.items()}
            if engine.rank == 0:
                counts = {"tampered": len(touched), "asked": len(asked), "training": len(data.train)}
                write_json(
                    folder / "findings.json",
                    {
                        "data": clean.name,
                        "tampering": {"kind": kind, **asdict(self.tampering)},
                        "method": type(self.method).__name__,
                        "counts": counts,
                        "seconds": {name: one.provenance.seconds for name, one in made.items()}
                        | {"unlearned": unlearned.provenance.seconds},
                        "measures": {name: [one.as_json() for one in found] for name, found in measured.items()},
                    },
                )
                _show(f"{clean.name}: {len(asked)} of {len(touched)} tampered examples forgotten", measured)
        return 0

    def _jobs(self, data: DataSet, touched: np.ndarray) -> dict[str, TrainingJob]:
        """The original, and models that saw nothing of the damage."""
        blueprint = Blueprint(
            name=self.model,
            classes=len(data.train.classes),
            shape=tuple(data.train.inputs.shape[1:]),
            arguments=self.model_args,
            preprocess=self.preprocess,
        )
        recipe = replace(self.recipe, augment=self.recipe.augment or data.augment)
        original = TrainingJob(blueprint=blueprint, recipe=recipe, seed=self.seed, label="training on tampered data")
        return {"original": original} | {
            f"retrained-{number}": replace(
                original,
                seed=1000 + 1000 * self.seed + number,
                left_out=tuple(touched.tolist()),
                label=f"retraining {number + 1} of {self.references}",
            )
            for number in range(self.references)
        }

    def _unlearning(self, original: TrainingJob, data: DataSet, asked: np.ndarray) -> UnlearningJob:
        mask = np.zeros(size_of(data), dtype=bool)
        mask[data.train.positions(asked)] = True
        method = settled(self.method, original.recipe)
        return UnlearningJob(parent=original, method=method, forgotten=pack(mask), seed=self.seed)

    def _measured(self, models: Models, known: Examples, clean: DataSet, engine: Engine) -> Measured:
        """The damage by the test that belongs to it, and the accuracy on the clean test set."""
        from unteach.stress.lineup import Parts, finding, right, share_interval

        rights = models.map(lambda model: right(model, clean.test, engine))
        utility = finding(
            rights.map(lambda one: float(one.mean())),
            name="accuracy",
            part="test",
            interval=share_interval(rights.unlearned, clean.test.groups, self.seed),
            control=False,
            size=len(clean.test),
        )
        parts = Parts(forget=known, retain=None, unseen=clean.non_members, test=clean.test)
        return [*self._test()(models, parts, seed=self.seed, engine=engine), utility]

    def _test(self) -> Stress:
        from unteach.stress import Backdoor, Confusion, Trace

        if isinstance(self.tampering, Confuse):
            return Confusion(confuse=self.tampering)
        return Backdoor(poison=self.tampering) if isinstance(self.tampering, Poison) else Trace(noise=self.tampering)


def _show(title: str, measured: dict[str, Measured]) -> None:
    """Each measure of the original, of the unlearned model and of the retrained ones."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from unteach.audit.finding import Finding

    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("measure", min_width=30)
    for column in ("original", "unlearned", "retrained"):
        table.add_column(column, justify="right", no_wrap=True)
    for before, after in zip(measured["original"], measured["unlearned"]):
        if isinstance(before, Finding) and isinstance(after, Finding):
            table.add_row(_name(after), f"{before.value:.4g}", f"{after.value:.4g}", _range(after))
        else:
            table.add_row(after.name, "-", "-", getattr(after, "reason", "-"))
    Console().print(table)


def _name(one: Finding) -> str:
    return f"{one.name}, {one.part}"


def _range(one: Finding) -> str:
    low, high = min(one.retrained), max(one.retrained)
    return f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
