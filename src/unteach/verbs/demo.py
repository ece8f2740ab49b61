"""``unteach demo``: the whole story on embedded data, in under a minute."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from unteach.audit import Tolerance
from unteach.data.augment import Augment
from unteach.methods import Amun
from unteach.recipe import Recipe
from unteach.train import Sgd
from unteach.verbs.forget import Forget
from unteach.verbs.settings import DataChoice, Machine, Output
from unteach.verbs.train import Train


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Train a small CNN on handwritten digits, forget a third of them by AMUN, retrain, audit, and write the report.

    Writes into --out: original/, report.html, findings.json, the unlearned and the retrained checkpoints.
    """

    out: Path = field(default=Path("runs/demo"))
    """Folder for everything."""
    seed: int = 0
    """Seed of the whole story."""
    quiet: bool = False
    """No progress bars."""
    machine: Machine = field(default_factory=lambda: Machine(threads=1))  # the same bytes whatever the number of cores

    def __call__(self) -> int:
        digits = DataChoice(data="digits")
        still = Augment(crop=0, flip=False)
        Train(
            source=digits,
            model="small-cnn",
            training=Recipe(optim=Sgd(lr=0.05, epochs=30, batch=64, schedule="onecycle"), augment=still),
            seed=self.seed,
            output=Output(out=self.out / "original", overwrite=True, quiet=self.quiet),
            machine=self.machine,
        )()
        return Forget(
            checkpoint=self.out / "original" / "model.safetensors",
            source=digits,
            ids="random:0.3",
            method=Amun(optim=Sgd(lr=0.05, epochs=4, batch=64)),
            tolerance=Tolerance(),
            seed=self.seed,
            output=Output(out=self.out, overwrite=True, quiet=self.quiet),
            machine=self.machine,
        )()
