"""Speed of training beside the usual way of doing it, and beside what the machine can do. Targets P4, P5 and P9.

    OMP_NUM_THREADS=1 python benchmarks/training.py                       # the four tables, a few minutes
    OMP_NUM_THREADS=1 python benchmarks/training.py --only accuracy       # both arms over 8 seeds, five minutes more
    OMP_NUM_THREADS=1 python benchmarks/training.py --quick --only end-to-end

One process, one thread, own CPU seconds; measure.py says how rounds are taken and what the range means.

- *ours*: ``unteach.train.fit`` as it is: uint8 images resident, one gather per batch, bf16 autocast where the chip has it,
  channels_last;
- *peer*: torch's DataLoader over PIL images, fp32, NCHW, eager, see peer.py.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch

from fresh import allocator
from measure import Spread, markdown, tell
from nets import AIRBENCH, AIRBENCH_SMALL, BATCH, RESNET18, SMALL, present
from part import arguments, run
from steps import augmentation, roofline
from trainings import accuracy, end_to_end
from unteach.engine import Engine
from unteach.runtime import settle_allocator

SECTIONS = ("end-to-end", "augment", "roofline", "allocator", "accuracy")


def yes(value: bool) -> str:
    return "yes" if value else "no"


def ms(spread: Spread) -> str:
    return f"{spread.median:.3f}"


def table(section: str, rows: list[dict[str, Any]]) -> str:
    """A section's Markdown, targets beside what was found."""
    match section:
        case "end-to-end":
            head = ["net", "peer ms/sample", "ours ms/sample", "ours is faster by", "ours in fp32", "target"]
            body = [
                [
                    r["net"],
                    ms(r["peer ms/sample"]),
                    ms(r["ours ms/sample"]),
                    r["speed"],
                    r["speed fp32"],
                    f"≥ {r['target']}" if r["target"] else "–",
                ]
                for r in rows
            ]
            title = "Training end to end beside DataLoader + PIL + fp32 NCHW (P4)"
        case "augment":
            head = ["net", "share of the step", "target", "PIL µs/image", "ours µs/image", "ratio", "target",
                    "gathering alone, of ours"]  # fmt: skip
            body = [
                [
                    r["net"], r["share"].percent(1), f"≤ {r['target share']:.0%}",
                    f"{r['PIL µs/image'].median:.1f}", f"{r['ours µs/image'].median:.2f}", r["ratio"],
                    f"≥ {r['target ratio']:.0f}", r["limit"].percent(),
                ]
                for r in rows
            ]  # fmt: skip
            title = "Augmentation (P9)"
        case "roofline":
            head = ["net", "GFLOP/sample", "ms/step", "of roofline", "target", "peer's step, of fp32 roofline",
                    "step is faster by", "roofline bf16 / fp32, GFLOP/s"]  # fmt: skip
            body = [
                [
                    r["net"], f"{r['GFLOP/sample']:.3f}", f"{r['ours ms/step'].median:.1f}", r["ours"].percent(),
                    f"≥ {r['target']:.0%}" if r["target"] else "–", r["peer"].percent(), r["speed"],
                    f"{r['roofline bf16'].median:.0f} / {r['roofline fp32'].median:.0f}",
                ]
                for r in rows
            ]  # fmt: skip
            title = f"One training step of {BATCH}, share of the machine's limit (P5)"
        case "allocator":
            head = ["net", "peer ms/sample", "plain ms/sample", "settled ms/sample", "settling gains", "plain beside the peer",
                    "settled beside the peer", "target",
                    "settled, of roofline", "page faults/step", "MiB held at the end"]  # fmt: skip
            body = [
                [
                    r["net"], ms(r["peer ms/sample"]), ms(r["plain ms/sample"]), ms(r["settled ms/sample"]), r["speed"],
                    r["plain beside peer"], r["settled beside peer"], f"≥ {r['target']}" if r["target"] else "–",
                    r["share"].percent(),
                    f"{r['plain faults/step']:.0f} → {r['settled faults/step']:.0f}",
                    f"{r['plain MiB']:.0f} → {r['settled MiB']:.0f}",
                ]
                for r in rows
            ]  # fmt: skip
            title = "Fresh processes, ours with and without settle_allocator, and the peer (P4)"
        case _:
            head = ["net", "peer accuracy", "ours accuracy", "difference", "target", "ours is faster by", "target"]
            body = [
                [
                    r["net"], f"{r['peer accuracy']:.4f} ± {r['peer s.e.']:.4f}",
                    f"{r['ours accuracy']:.4f} ± {r['ours s.e.']:.4f}",
                    f"{r['difference']:+.4f} ± {r['difference s.e.']:.4f}", "within 1 s.e., or better", r["speed"], "≥ 2.5",
                ]
                for r in rows
            ]  # fmt: skip
            title = "Accuracy on test images, ± standard error over seeds (P4)"
    return "\n".join([f"### {title}", "", markdown(head, body), "", *(f"- {r['note']}" for r in rows), ""])


def sections(asked: argparse.Namespace) -> dict[str, Any]:
    quick, settled = asked.quick, settle_allocator() if asked.settled else False
    chosen = asked.only or [name for name in SECTIONS if name != "accuracy"]
    rounds, count, notes = asked.rounds or (3 if quick else 7), 512 if quick else 2048, list[str]()
    wanted = [SMALL, AIRBENCH_SMALL, *([] if quick else [AIRBENCH]), *([RESNET18] if asked.resnet18 else [])]
    nets = present(wanted, notes)
    shipped = [net for net in nets if net is not RESNET18]
    small = [net for net in shipped if net is not AIRBENCH]
    tried = (1000, 1, asked.seeds, asked.seed, 1000) if quick else (6000, 3, asked.seeds, asked.seed, 10_000)
    measures: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "end-to-end": lambda: end_to_end(small, count, rounds, asked.seed),
        "augment": lambda: augmentation(shipped, rounds, asked.seed),
        "roofline": lambda: roofline(nets, rounds, asked.seed),
        "allocator": lambda: allocator(small, count, asked.rounds or (3 if quick else 5), asked.seed),
        "accuracy": lambda: accuracy(SMALL, *tried),
    }
    notes += [
        f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, one thread, own CPU time",
        f"bf16 autocast: {yes(Engine(accelerator='cpu').bf16)}; allocator settled: {yes(settled)}",
        "median of the ratios within each round, and their range in brackets",
    ]
    print("\n".join([*(f"- {note}" for note in notes), ""]), flush=True)
    found = {}
    for section in chosen:
        start = time.process_time()
        found[section] = measures[section]()
        print(table(section, found[section]), flush=True)
        tell(f"{section}: {time.process_time() - start:.0f} s of own CPU time")
    return {"notes": notes, **found}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, help="default: all but accuracy")
    parser.add_argument("--resnet18", action="store_true", help="ResNet-18 in the roofline too: seconds per step")
    parser.add_argument("--settled", action="store_true", help="call settle_allocator first, as the command line does")
    parser.add_argument("--rounds", type=int, help="default 7, of fresh processes 5; 3 with --quick")
    parser.add_argument("--seeds", type=int, default=8, help="of the accuracy section")
    parser.add_argument("--seed", type=int, default=0)
    run(sections, parser.parse_args())


if __name__ == "__main__":
    main()
