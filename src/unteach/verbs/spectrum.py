"""``unteach spectrum`` and ``unteach clip``: the singular values of a checkpoint's layers, and bringing them down."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from unteach.checkpoint import Checkpoint, check_data, save
from unteach.data.augment import LATER
from unteach.engine import Engine
from unteach.models import Preprocess
from unteach.models.masks import masks_of
from unteach.spectral import Clip, Lanczos, Layer, layers_of, reshaped_norm, spectrum
from unteach.store import load_tensors, write_json
from unteach.types import Examples, Refusal
from unteach.verbs.network import checkpoint_at
from unteach.verbs.settings import DataChoice, Machine, Output, check_seed
from unteach.verbs.train import plain


@dataclass(frozen=True, kw_only=True)
class Spectrum:
    """Show the largest singular values of every linear layer of a checkpoint, each as the map it does on its input.

    Beside them the residual that bounds their error, the norm of the kernel reshaped to a matrix (which is not that of the
    layer), and a bound on how far the logits move per unit that the pixels move.
    """

    checkpoint: Path = field(default=Path("model.safetensors"))
    """The model: safetensors, or a PyTorch file with a state dict."""
    model: str = ""
    """Network of the checkpoint, if it does not say or is no name of `unteach list`."""
    model_args: dict[str, Any] = field(default_factory=dict)
    """Arguments for the network's factory, as JSON or YAML."""
    preprocess: Preprocess = field(default=Preprocess(), metadata=LATER)
    """What inputs are put through before the network sees them; left out, what the checkpoint tells."""
    source: DataChoice = field(default_factory=lambda: DataChoice(data=""))
    """Data, for the shape of an input; left out, the checkpoint says it."""
    top: int = 5
    """Singular values to show of every layer, at least 1."""
    whole: bool = False
    """Whether every singular value is computed where the map is small enough (4096 inputs or outputs), into the JSON file."""
    out: Path | None = None
    """JSON file for the table; left out, it is only shown."""
    machine: Machine = field(default_factory=Machine)

    def __call__(self) -> int:
        if self.top < 1:
            raise Refusal(f"expected --top to be at least 1, got {self.top}; 5 shows the five largest")
        search = Lanczos(k=self.top)
        examples = self.source.load().train if self.source.data else told_examples(self.checkpoint)
        found = checkpoint_at(self, self.checkpoint, examples)
        with self.machine.engine(None, False) as engine:
            network, shape = engine.place(found.model), tuple(examples.inputs.shape[1:])
            table = describe(network, shape, search, engine, whole=self.whole)
            if engine.rank == 0:
                print(shown(table))
                if self.out is not None:
                    told = {"checkpoint": str(self.checkpoint), "fingerprint": found.fingerprint}
                    write_json(self.out, {**told, **table})
        return 0


@dataclass(frozen=True, kw_only=True)
class ClipCheckpoint:
    """Bring every layer of a checkpoint down to a norm, and write the result as a new checkpoint.

    Writes into --out: model.safetensors and spectrum.json (the layers before and after). A network that wasn't trained with
    clipping loses accuracy; with --data it is told how much.
    """

    checkpoint: Path = field(default=Path("model.safetensors"))
    """The model: safetensors, or a PyTorch file with a state dict."""
    model: str = ""
    """Network of the checkpoint, if it does not say or is no name of `unteach list`."""
    model_args: dict[str, Any] = field(default_factory=dict)
    """Arguments for the network's factory, as JSON or YAML."""
    preprocess: Preprocess = field(default=Preprocess(), metadata=LATER)
    """What inputs are put through before the network sees them; left out, what the checkpoint tells."""
    source: DataChoice = field(default_factory=lambda: DataChoice(data=""))
    """Data to tell the accuracy on; left out, only norms are told."""
    clip: Clip = field(default_factory=Clip)
    """How layers are clipped."""
    seed: int = 0
    """Seed of the vectors that singular vectors are sought from."""
    output: Output = field(default_factory=lambda: Output(out=Path("runs/clip")))
    machine: Machine = field(default_factory=Machine)

    def __call__(self) -> int:
        check_seed(self.seed)
        path = self.output.out / "model.safetensors"
        if path.resolve() == self.checkpoint.resolve():
            raise Refusal(
                f"expected --out elsewhere than the checkpoint {self.checkpoint}, got its own folder; choose another"
            )
        data = self.source.load() if self.source.data else None
        examples = data.train if data else told_examples(self.checkpoint)
        shape = tuple(examples.inputs.shape[1:])
        old = checkpoint_at(self, self.checkpoint, examples)
        if data:
            old = check_data(old, data)
        parent = old.fingerprint
        with self.machine.engine(self.output.out, not self.output.quiet) as engine:
            folder = self.output.open(plain(self), engine.events)
            network = engine.place(old.model)
            search = Lanczos(k=5)
            tables = {"before": describe(network, shape, search, engine)}
            accuracies = [_accuracy(network, data.test, engine)] if data else []
            start = time.perf_counter()
            self.clip(network, shape, seed=self.seed, masks=masks_of(network))
            seconds = time.perf_counter() - start
            tables["after"] = describe(network, shape, search, engine)
            accuracies += [_accuracy(network, data.test, engine)] if data else []
            if engine.rank == 0:
                save(path, network, self._provenance(old, parent, seconds))
                write_json(folder / "spectrum.json", {**tables, "accuracy": accuracies})
                told = [f"{name} clipping\n{shown(table)}" for name, table in tables.items()]
                told += [
                    f"test accuracy {100 * a:.2f} % before, {100 * b:.2f} % after" for a, b in [accuracies] if data
                ]
                print("\n".join([*told, f"{seconds:.1f} s of clipping: {path}"]))
            engine.wait()
        return 0

    def _provenance(self, old: Checkpoint, parent: str, seconds: float) -> Any:
        made_by = {"verb": "clip", "settings": plain(self.clip)}
        return replace(
            old.provenance,
            recipe={},  # who trains anew by the old recipe does not get what was clipped afterwards
            parent=parent,
            made_by=made_by,
            seed=self.seed,
            seconds=seconds,
            units=0.0,
            stages=[],
            log=[],
        )


def describe(
    model: torch.nn.Module, shape: tuple[int, ...], search: Lanczos, engine: Engine, whole: bool = False
) -> dict[str, Any]:
    """Every linear layer with its largest singular values, and the bound on the whole network, as plain values.

    Several processes divide the layers among them.
    """
    from unteach.spectral.lipschitz import lipschitz

    bound = lipschitz(model, shape)
    rows = engine.divided(layers_of(model, shape), lambda layer: _row(layer, search, whole))
    return {"shape": list(shape), "lipschitz": bound.bound, "lipschitz_reason": bound.reason, "layers": rows}


def _row(layer: Layer, search: Lanczos, whole: bool) -> dict[str, Any]:
    found = layer.map()
    top = search(found, torch.Generator().manual_seed(0))
    assert top.residuals is not None
    row: dict[str, Any] = {
        "layer": layer.name,
        "kind": layer.kind,
        "input": list(layer.shape),
        "trained": bool(layer.weight),
        "values": top.values.tolist(),
        "residuals": top.residuals.tolist(),
        "reshaped": reshaped_norm(layer) if layer.kind in ("convolution", "dense") else None,
    }
    if whole:
        row["spectrum"] = spectrum(found).tolist() if min(found.n, found.m) <= 4096 else None
    return row


def shown(table: dict[str, Any]) -> str:
    """The table as text, a line a layer."""
    wide = max([len(row["layer"]) for row in table["layers"]] + [5])
    lines = [f"{'layer':{wide}}  {'kind':24}  residual  reshaped  largest singular values"]
    for row in table["layers"]:
        reshaped = "-" if row["reshaped"] is None else f"{row['reshaped']:.3f}"
        values = " ".join(f"{value:.3f}" for value in row["values"])
        fixed = "" if row["trained"] else "  (not trained)"
        lines.append(
            f"{row['layer']:{wide}}  {row['kind']:24}  {max(row['residuals']):8.0e}  {reshaped:>8}  {values}{fixed}"
        )
    bound = table["lipschitz"]
    known = f"at most {bound:.4g}" if bound is not None else f"no bound: {table['lipschitz_reason']}"
    return "\n".join([*lines, f"Lipschitz constant, logits by pixels 0-1 (L2): {known}"])


def told_examples(path: Path) -> Examples:
    """Two empty inputs of the shape that a checkpoint says its network reads.

    Raises: Refusal for a file that does not say.
    """
    import numpy as np

    header = load_tensors(path)[1]
    blueprint = header.get("blueprint") or {}
    try:
        shape, count = tuple(int(side) for side in blueprint["shape"]), int(blueprint["classes"])
    except (KeyError, TypeError, ValueError) as error:
        raise Refusal(
            f"expected {path} to tell the shape of an input, got a file that does not; give --data with the data it is for"
        ) from error
    inputs = torch.zeros(2, *shape, dtype=torch.uint8 if len(shape) == 3 else torch.float32)
    classes = tuple(header.get("classes") or (str(k) for k in range(count)))
    return Examples(inputs, torch.zeros(2, dtype=torch.long), np.array(["0", "1"]), None, classes)


def _accuracy(model: torch.nn.Module, test: Examples, engine: Engine) -> float:
    return float(test.task.correct(engine.logits(model, test.inputs), test.labels).mean())
