"""``unteach tune``: settings of a method for this model and kind of request, found without peeking."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from unteach.checkpoint import Checkpoint, check_data
from unteach.data import DataSet, forget_ids
from unteach.data.augment import LATER
from unteach.engine import Engine
from unteach.methods import Amun
from unteach.models import Preprocess
from unteach.plugins import name_of
from unteach.recipe import Recipe
from unteach.store import write_json
from unteach.tracking import shortened
from unteach.tuning import (
    USUAL_PEAK,
    Chance,
    Oracle,
    Proxy,
    Sweep,
    Tuned,
    range_test,
    refuse_unless_tunable,
    tune,
    write_tuned,
)
from unteach.types import Method, Refusal, Split
from unteach.verbs.network import checkpoint_at
from unteach.verbs.request import (
    fit_references,
    recipe_of,
    refuse_unless_in_range,
    refuse_without_recipe,
    request,
    with_defaults,
)
from unteach.verbs.settings import DataChoice, Machine, Output, check_seed
from unteach.verbs.train import plain


@dataclass(frozen=True, kw_only=True)
class Tune:
    """Search for settings of a method that forget well here, on a proxy request and without the test set.

    The knobs that a method's card names are searched, the rest stays as given. Writes into --out: best.yaml (for unteach
    forget --config), trials.json, trials.csv, tuning.json, study.db. A stopped search goes on with the same trials. The
    models in proxy/ were trained on the request: delete them with the original.
    """

    checkpoint: Path = field(default=Path("model.safetensors"))
    """The trained model: safetensors, or a PyTorch file with a state dict (read without running code)."""
    model: str = ""
    """Network of the checkpoint, if it does not say or is no name of `unteach list`: timm:NAME, torchvision:NAME, hf:FOLDER,
    pkg.module:factory, file.py:factory."""
    model_args: dict[str, Any] = field(default_factory=dict)
    """Arguments for the network's factory, as JSON or YAML."""
    preprocess: Preprocess = field(default=Preprocess(), metadata=LATER)
    """What inputs are put through before the network sees them; left out, what the checkpoint tells."""
    source: DataChoice = field(default_factory=DataChoice)
    ids: str = "random:0.1"
    """The real request: a file of ids (.txt, .csv, .json), random:SHARE, random:COUNT, class:NAME, group:NAME, groups:COUNT or
    benchmark; another of its size and kind is drawn to tune on."""
    validation: str = ""
    """Ids the original never saw, to judge by: in the same words; left out, those held out in its training."""
    method: Method = field(default_factory=Amun)
    """What to tune; `unteach list` tells the methods."""
    target: Proxy | Chance | Oracle = field(default_factory=Proxy)
    """What to come near: proxy (a model retrained without another request), chance (an attack at one half, nothing retrained) or
    oracle (peeks at the retrained model, for research)."""
    retrained: tuple[Path, ...] = ()
    """Checkpoints retrained without the real request, for the oracle only; of several the last gives the floor."""
    trials: int = 20
    """Runs of the method, 1 or more; the first is with its own settings."""
    max_epochs: float = 0.0
    """Most that a trial may cost, in epochs of the original's training data; 0 for a tenth of retraining, at least 5."""
    range_test: bool = False
    """Only run the method for some 200 steps at seven learning rates, and say which this model bears."""
    recipe: Recipe | None = None
    """How the original was trained, when the checkpoint does not say."""
    seed: int = 0
    """Seed of the request's draw, of the proxy request, of the search and of the method."""
    output: Output = field(default_factory=lambda: Output(out=Path("runs/tune")))
    machine: Machine = field(default_factory=Machine)

    def __call__(self) -> int:
        check_seed(self.seed)
        if self.machine.devices > 1:
            raise Refusal(f"expected one process for tuning, got --devices {self.machine.devices}; leave it at 1")
        data = self.source.load()
        original = check_data(checkpoint_at(self, self.checkpoint, data.train), data)
        parts = self._parts(data, original)
        refuse_unless_in_range(self.method, data)
        refuse_without_recipe(self.method, original)
        given = [checkpoint_at(self, path, data.train) for path in self.retrained]
        references = fit_references(given, data, parts.forget.ids.tolist())
        recipe = self._recipe(original, data)
        if not self.range_test:
            refuse_unless_tunable(
                self.method,
                parts,
                target=self.target,
                recipe=recipe,
                retrained=len(references),
                trials=self.trials,
                max_epochs=self.max_epochs,
            )
        with self.machine.engine(self.output.out, not self.output.quiet) as engine:
            folder = self.output.open(plain(self), engine.events)
            method = with_defaults(self.method, data, original.provenance, folder)
            if recipe is None:
                print(
                    f"The checkpoint does not say how it was trained: its highest learning rate is taken to be {USUAL_PEAK}."
                )
            if self.range_test:
                self._sweep(method, original, parts, recipe, engine)
                return 0
            tuned = tune(
                method,
                original.model,
                parts,
                target=self.target,
                retrained=[checkpoint.model for checkpoint in references],
                recipe=recipe,
                trials=self.trials,
                max_epochs=self.max_epochs,
                seed=self.seed,
                engine=engine,
                folder=folder,
            )
            write_tuned(tuned, self.method, folder)
            self._tell(tuned, data, original, engine)
        _show(tuned)
        print(f"best settings, for unteach forget --config: {folder / 'best.yaml'}")
        return 0

    def _tell(self, tuned: Tuned, data: DataSet, original: Checkpoint, engine: Engine) -> None:
        numbers = {**tuned.best.knobs, "score": tuned.best.score, "unchanged score": tuned.unchanged[0]}
        engine.events.conclude(
            numbers={name: value for name, value in numbers.items() if isinstance(value, int | float)},
            tags={
                "method": name_of(self.method),
                "data": data.name,
                "data_fingerprint": data.fingerprint,
                "request": shortened(self.ids),
                "original_fingerprint": original.fingerprint,
            },
        )

    def _parts(self, data: DataSet, original: Checkpoint) -> Split:
        record = original.provenance.trained_on
        held = list(record.get("validation", []))
        if self.validation:
            seen = set(data.train.ids.tolist()) - set(record["left_out"]) if record else set()
            held = forget_ids(self.validation, data.train, self.seed, seen, data.requests)
        gone = {*record.get("left_out", []), *held}
        ids = forget_ids(self.ids, data.train, self.seed, gone, data.requests)
        return request(data, original, ids, held)

    def _recipe(self, original: Checkpoint, data: DataSet) -> Recipe | None:
        if self.recipe is not None:
            return replace(self.recipe, augment=self.recipe.augment or data.augment)
        return recipe_of(original) if original.provenance.recipe else None

    def _sweep(self, method: Method, original: Checkpoint, parts: Split, recipe: Recipe | None, engine: Engine) -> None:
        peak = recipe.optim.lr if recipe else USUAL_PEAK
        found = range_test(method, original.model, parts, peak=peak, seed=self.seed, engine=engine)
        _show_sweep(found)
        rows = [
            {"share": share, "lr": found.peak * share, "reading": None if reading is None else plain(reading)}
            for share, reading in zip(found.shares, found.readings)
        ]
        write_json(self.output.out / "range_test.json", {"rows": rows, "words": found.words()})


def _show(tuned: Tuned) -> None:
    """The trials that matter side by side, and what is to be said of them."""
    from rich.console import Console
    from rich.table import Table

    own, best = tuned.trials[0], tuned.best
    trials = {
        "own": own,
        f"best, no. {best.number}": best,
        **{f"lr {w}": near for w, near in tuned.sensitivity.items()},
    }
    knobs = {name: [_short(value) for value in trial.knobs.values()] for name, trial in trials.items()}
    table = Table(title=f"{name_of(tuned.method)} towards {tuned.aim}")
    table.add_column("", no_wrap=True)
    for name in (*trials, "unchanged", *(["target"] if tuned.target else [])):
        table.add_column(name, justify="right")
    rest = [""] * (2 if tuned.target else 1)
    for number, path in enumerate(best.knobs):
        table.add_row(path, *(values[number] for values in knobs.values()), *rest)
    scores = [f"{trial.score:.4f}" if trial.score is not None else trial.state for trial in trials.values()]
    table.add_row("score", *scores, f"{tuned.unchanged[0]:.4f}", *([""] if tuned.target else []))
    readings = [trial.reading for trial in trials.values()] + [tuned.unchanged[1]]
    seen = [_seen(reading) for reading in (*readings, *([tuned.target] if tuned.target else []))]
    for number, name in enumerate(("retain, %", "forget, %", "validation, %", "AUC")):
        table.add_row(name, *(values[number] for values in seen))
    table.add_row("epochs", *(f"{trial.epochs:.2f}" for trial in trials.values()), *rest)
    table.add_row("seconds", *(f"{trial.seconds:.1f}" for trial in trials.values()), *rest)
    console = Console()
    console.print(table)
    for line in tuned.words():
        console.print(line, highlight=False)


def _show_sweep(found: Sweep) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{found.path}, about {found.steps} steps each")
    for column in ("share", found.path, "retain", "forget"):
        table.add_column(column, justify="right")
    table.add_row("-", "unchanged", *_seen(found.before)[:2])
    for share, reading in zip(found.shares, found.readings):
        table.add_row(f"{share:g}", f"{found.peak * share:.2g}", *_seen(reading)[:2])
    console = Console()
    console.print(table)
    console.print(found.words(), highlight=False)


def _seen(reading: Any) -> list[str]:
    """Accuracies in per cent and the AUC."""
    if reading is None:
        return ["-"] * 4
    shares = (reading.retain, reading.forget, reading.validation)
    return [*("-" if share is None else f"{100 * share:.1f}" for share in shares), f"{reading.auc:.3f}"]


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
