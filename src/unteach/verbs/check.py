"""``unteach check``: everything that can be known before a model is made to forget."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from unteach.checkpoint import Checkpoint
from unteach.data import DataSet, forget_ids, write_ids
from unteach.data.augment import LATER
from unteach.methods import Amun
from unteach.models import Preprocess
from unteach.preflight import LEVELS, Remark, check, extended
from unteach.preflight.ids import named_ids
from unteach.recipe import Recipe
from unteach.store import write_json
from unteach.types import Method, Refusal
from unteach.verbs.network import checkpoint_at
from unteach.verbs.settings import DataChoice, Machine, check_seed

WIDTH = 110


@dataclass(frozen=True, kw_only=True)
class Check:
    """Say before an hour is spent whether a request can work: ids, copies, fit, memory, minutes, and what to do.

    Takes what forget takes. Every remark has a level: stop, warn, note or fine; the last is a recommendation. Writes into --out,
    if given: check.json (every remark with its numbers) and extended.txt (the request with all its copies, to forget instead).
    """

    checkpoint: Path = field(default=Path("model.safetensors"))
    """The trained model: safetensors, or a PyTorch file with a state dict (read without running code)."""
    model: str = ""
    """Network of the checkpoint, if it does not say or is no name of `unteach list`: timm:NAME, torchvision:NAME, hf:FOLDER,
    pkg.module:factory, file.py:factory. Which code runs is never left to a checkpoint."""
    model_args: dict[str, Any] = field(default_factory=dict)
    """Arguments for the network's factory, as JSON or YAML."""
    preprocess: Preprocess = field(default=Preprocess(), metadata=LATER)
    """What inputs are put through before the network sees them; left out, what the checkpoint tells."""
    source: DataChoice = field(default_factory=DataChoice)
    ids: str = "random:0.1"
    """What to forget: a file of ids (.txt, .csv, .json), random:SHARE, random:COUNT, class:NAME, group:NAME, groups:COUNT
    (so many, drawn whole), or benchmark: the request that comes with the data, as with mufac and mucac."""
    validation: str = ""
    """Ids the original never saw, for methods that need validation data: in the same words; left out, those held
    out in its training."""
    method: Method = field(default_factory=Amun)
    """How to forget; `unteach list` tells the methods."""
    preset: bool = True
    """Whether settings of the method that are left at their defaults are those measured for such requests, relative to how the
    original was trained."""
    recipe: Recipe | None = None
    """How the original was trained, for the time that retraining takes, when the checkpoint does not say."""
    sample: int = 0
    """Examples of each part that the network is asked about, drawn once, 10 or more; 0 for 2000, fewer of a large network
    on a CPU."""
    seed: int = 0
    """Seed of the request's draw and of the samples."""
    gate: bool = False
    """Whether to exit with 3 when a remark says stop."""
    out: Path | None = None
    """Folder for check.json and extended.txt, written over what is there; left out, the remarks are only shown."""
    machine: Machine = field(default_factory=Machine)

    def __call__(self) -> int:
        check_seed(self.seed)
        if self.sample and self.sample < 10:
            raise Refusal(f"expected --sample to be 0 or at least 10, got {self.sample}; 2000 is usual")
        data = self.source.load()
        original = checkpoint_at(self, self.checkpoint, data.train)
        held = self._validation(data, original)
        gone = {*original.provenance.trained_on.get("left_out", []), *held}
        ids = named_ids(self.ids, data, self.seed, gone)
        with self.machine.engine(None, False) as engine:
            remarks = check(
                original.model,
                data,
                ids,
                self.method,
                provenance=original.provenance,
                validation=held,
                recipe=self.recipe,
                preset=self.preset,
                sample=self.sample,
                seed=self.seed,
                engine=engine,
            )
            if engine.rank == 0:
                print(shown(remarks))
                if self.out is not None:
                    print(self._write(self.out, ids, remarks, original, data))
        return 3 if self.gate and any(remark.level == "stop" for remark in remarks) else 0

    def _validation(self, data: DataSet, original: Checkpoint) -> list[str]:
        story = original.provenance.trained_on
        if not self.validation:
            return list(story.get("validation", []))
        seen = set(data.train.ids.tolist()) - set(story["left_out"]) if story else set()
        return forget_ids(self.validation, data.train, self.seed, seen, data.requests)

    def _write(
        self, out: Path, ids: Sequence[str], remarks: Sequence[Remark], original: Checkpoint, data: DataSet
    ) -> str:
        whole = extended(ids, remarks)
        told = {
            "checkpoint": str(self.checkpoint),
            "fingerprint": original.fingerprint,
            "data": data.name,
            "data_fingerprint": data.fingerprint,
            "request": {"spec": self.ids, "count": len(ids), "extended": len(whole)},
            "levels": {level: sum(remark.level == level for remark in remarks) for level in LEVELS},
            "remarks": [asdict(remark) for remark in remarks],
        }
        write_json(out / "check.json", told)
        write_ids(out / "extended.txt", whole)
        return f"{out / 'check.json'}; {out / 'extended.txt'}: {len(whole):,} ids, {len(whole) - len(ids):,} more than asked"


def shown(remarks: Sequence[Remark]) -> str:
    """The remarks for a terminal: level, check, sentence, and below it what can be done; the recommendation apart."""
    lines = []
    for remark in remarks[:-1]:
        lines += _wrapped(f"{remark.level:5} {remark.name:15} ", remark.sentence)
        lines += _wrapped(" " * 22 + "→ ", remark.do) if remark.do else []
    return "\n".join([*lines, "", *_wrapped("", f"Recommendation. {remarks[-1].sentence}")])


def _wrapped(head: str, text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=head, subsequent_indent=" " * len(head), break_on_hyphens=False)
