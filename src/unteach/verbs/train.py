"""``unteach train``: a classifier from scratch, with or without some of the examples."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from unteach.checkpoint import check_outputs, new_network
from unteach.data import DataSet, forget_ids
from unteach.data.augment import LATER
from unteach.models import Blueprint, Preprocess
from unteach.recipe import Recipe
from unteach.references import TrainingJob
from unteach.store import record
from unteach.types import Refusal
from unteach.verbs.settings import DataChoice, Machine, Output, check_seed


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train a classifier from scratch and write its checkpoint.

    Leaving examples out (--without) makes a retrained model. A stopped training goes on after its last whole epoch and
    ends with the same bytes.
    """

    source: DataChoice = field(default_factory=DataChoice)
    model: str = "small-cnn"
    """Network: a name from `unteach list`, timm:NAME, torchvision:NAME, hf:FOLDER, pkg.module:factory or file.py:factory."""
    model_args: dict[str, Any] = field(default_factory=dict)
    """Arguments for the network's factory, as JSON or YAML."""
    preprocess: Preprocess = field(default=Preprocess(), metadata=LATER)
    """What inputs are put through before the network sees them."""
    training: Recipe = field(default_factory=Recipe)
    without: str = ""
    """Ids to leave out: a file of ids, random:SHARE, class:NAME, group:NAME or benchmark."""
    validation: str = ""
    """Ids to hold out as validation data, for methods that need some: in the same words; no later model sees them."""
    seed: int = 0
    """Seed of the weights and of the order."""
    output: Output = field(default_factory=Output)
    machine: Machine = field(default_factory=Machine)

    def __call__(self) -> int:
        check_seed(self.seed)
        data = self.source.load()
        left_out = self._chosen(self.without, data)
        validation = self._chosen(self.validation, data, left_out)
        refuse_if_all_is_gone(data, {*left_out, *validation})
        blueprint = Blueprint(
            name=self.model,
            classes=len(data.train.classes),
            shape=tuple(data.train.inputs.shape[1:]),
            arguments=self.model_args,
            preprocess=self.preprocess,
        )
        check_outputs(new_network(blueprint, seed=0).eval(), data.train, f"the network {self.model}")
        job = TrainingJob(
            blueprint=blueprint,
            recipe=replace(self.training, augment=self.training.augment or data.augment),
            seed=self.seed,
            left_out=left_out,
            validation=validation,
        )
        with self.machine.engine(self.output.out, not self.output.quiet) as engine:
            folder = self.output.open(plain(self), engine.events)
            made = job(data, folder / "model.safetensors", engine)
            logits = engine.logits(made.model, data.test.inputs)
            accuracy = float(data.test.task.correct(logits, data.test.labels).mean())
            engine.events.emit("trained", test_accuracy=accuracy, seconds=made.provenance.seconds)
            engine.events.conclude(
                numbers={"test_accuracy": accuracy, "seconds": made.provenance.seconds},
                tags={"data": data.name, "data_fingerprint": data.fingerprint, "fingerprint": made.fingerprint},
            )
            if engine.rank == 0:
                seconds = f"{made.provenance.seconds:.0f} s of training"
                print(f"test accuracy {100 * accuracy:.2f} % after {seconds}: {made.path}")
        return 0

    def _chosen(self, spec: str, data: DataSet, gone: tuple[str, ...] = ()) -> tuple[str, ...]:
        return tuple(forget_ids(spec, data.train, self.seed, gone, data.requests)) if spec else ()


def refuse_if_all_is_gone(data: DataSet, gone: set[str]) -> None:
    if len(gone) >= len(data.train):
        raise Refusal("expected examples to train on, got all of them left out or held out; leave some in")


def plain(settings: Any) -> dict[str, object]:
    """Settings as JSON that compares equal after a round trip; where results go does not count."""
    import json

    value = record(settings)
    value.pop("output", None)
    result: dict[str, object] = json.loads(json.dumps(value, default=str))
    return result
