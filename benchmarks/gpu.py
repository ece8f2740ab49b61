"""What a GPU gives: the machine's limit, training steps, epochs, several models a card, attacks, scores, AMUN, P6.

    PYTHONPATH=src python benchmarks/gpu.py [--minutes 9] [--out runs/gpu] [--only steps …]
    PYTHONPATH=src python benchmarks/gpu.py --device cpu --small        (a rehearsal of every piece, under a minute)

Needs no installed unteach: torch, numpy, scipy, scikit-learn, pillow and safetensors are enough, with triton for the compiled
arms. CIFAR-10 is taken where UNTEACH_DATA has it, else coloured patterns in noise, of its shape. Every reading is written into
``--out`` as it is made (PIECE.json); a second call measures only what is missing. What does not fit into ``--minutes`` is left
out and named; give it again to go on. Ends with ``gpu.md`` and the same on the terminal.

Times are wall time, the median of repeated calls after warm-up; nothing else should run on the card.
Without NVIDIA's multi-process service (``nvidia-cuda-mps-control -d``, not started here) processes on one card take turns;
whether one is there is told. P6 is arithmetic from measured epochs, and says so.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

from gpu_notebook import Notebook, OutOfTime, Rig
from gpu_training import compiled, epochs, limits, steps, workers
from gpu_unlearning import amun, attacks, scoring
from measure import markdown, tell

STANDARD_EPOCHS = 200  # of ResNet-18 in AMUN's experiments
SHADOW_EPOCHS = 10  # of airbench94, whose released recipe has 9.9
SHADOWS = 64


@dataclass(frozen=True)
class Piece:
    """A part of the benchmark: what it measures, and the seconds that it may take at most."""

    measure: Callable[[Rig, Notebook], None]
    seconds: float
    columns: tuple[str, ...]


PIECES = {
    "limits": Piece(limits, 30, ("tflops",)),
    "steps": Piece(steps, 60, ("ms", "of the limit", "times eager", "cold s")),
    "epochs": Piece(epochs, 90, ("seconds for 50,000", "cold s")),
    "scoring": Piece(scoring, 30, ("images/s",)),
    "attacks": Piece(attacks, 100, ("ms/sample", "gradients", "success", "median L2")),
    "workers": Piece(workers, 90, ("models/min", "times one", "GiB")),
    "amun": Piece(amun, 60, ("seconds", "retraining s", "of retraining")),
    "compiled": Piece(  # at the end: it takes whatever time is left
        compiled, 480, ("ms", "of the limit", "times eager", "cold s", "graphs skipped", "seconds for 50,000")
    ),
}


def shadows(book: Notebook) -> str:
    """P6 on a GPU, from measured epochs."""
    key = "seconds for 50,000"
    read = {name: row[key] for piece in ("epochs", "compiled") for name, row in book.rows(piece).items() if key in row}
    standard = read.get("resnet18 batch 128", 0.0) * STANDARD_EPOCHS
    if not standard or not any(name.startswith("airbench") for name in read):
        return "P6: not to be had without epochs of airbench and of resnet18."
    lines = []
    for name, seconds in read.items():
        if name.startswith("airbench"):
            all_of_them = SHADOWS * SHADOW_EPOCHS / 2 * seconds  # a shadow model sees half of the data
            lines.append(
                [name, *(f"{value:.0f}" for value in (all_of_them, standard)), f"{all_of_them / standard:.2f}"]
            )
    head = ["shadow network", f"s for {SHADOWS}, one after another", "s of one ResNet-18 training", "share"]
    return (
        f"P6, arithmetic from measured epochs: {SHADOWS} models × {SHADOW_EPOCHS} epochs over half of 50,000 images, beside one "
        f"ResNet-18 × {STANDARD_EPOCHS} epochs at batch 128 (target ≤ 1, stretch 0.25).\n\n" + markdown(head, lines)
    )


def told(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def machine(rig: Rig) -> str:
    """The hardware and the software, in a line."""
    card = torch.cuda.get_device_name() if rig.device.type == "cuda" else platform.processor() or platform.machine()
    shared = "answers" if os.environ.get("CUDA_MPS_PIPE_DIRECTORY") or Path("/tmp/nvidia-mps").exists() else "none"
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {card}, torch {torch.__version__}, CUDA {torch.version.cuda or 'none'}, "
        f"{os.cpu_count()} cores, multi-process service: {shared}, images: {rig.images[1]}"
        + (", small: a rehearsal, no measurement" if rig.small else "")
    )


def page(rig: Rig, book: Notebook) -> str:
    parts = [f"# unteach on {machine(rig)}"]
    for name, piece in PIECES.items():
        if rows := book.rows(name):
            table = [[key, *(told(row.get(column)) for column in piece.columns)] for key, row in rows.items()]
            parts += [f"## {name}", markdown([name, *piece.columns], table)]
    parts += ["## shadow models", shadows(book)]
    if book.notes:
        parts += ["## left out", "\n".join(f"- {note}" for note in book.notes)]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="tiny sizes: a rehearsal, whose times say nothing")
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--only", nargs="*", choices=list(PIECES), default=list(PIECES))
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        sys.exit("expected a GPU that torch can see, got none; give --device cpu --small for a rehearsal")
    book = Notebook(args.out, 60 * args.minutes)
    rig = Rig(torch.device(args.device), args.small)
    for name in args.only:
        tell(f"{name}, {book.left():.0f} s left")
        try:
            with book.at_most(PIECES[name].seconds):
                PIECES[name].measure(rig, book)
        except OutOfTime as over:
            book.notes.append(f"{name}: {over}")
        except Exception as error:  # one piece that fails must not cost the others their minutes
            book.notes.append(
                f"{name} failed: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            )
        if rig.device.type == "cuda":
            torch.cuda.empty_cache()
    text = page(rig, book)
    (args.out / "gpu.md").write_text(text)
    everything = {"machine": machine(rig), "notes": book.notes} | {name: book.rows(name) for name in PIECES}
    (args.out / "gpu.json").write_text(json.dumps(everything, indent=1))
    print(text)


if __name__ == "__main__":
    main()
