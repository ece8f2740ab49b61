"""What every method cost beside retraining, preparation included: one table over all cells that ``erasure.py`` has made.

    python benchmarks/costs.py [--root runs/bench]

Epochs are passes over the full training set (forward and backward 1, forward alone a third); the attacks of AMUN and ARU, DAU's
attacker and the teacher's targets of TRW are in them. Seconds were taken while other work was going on: compare shares within
a row of protocols, not seconds between rows.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

from protocols import PROTOCOLS
from unteach.store import read_json

REFERENCES = ("original", "retrained")


def bills(root: Path, name: str) -> dict[str, list[dict[str, Any]]]:
    """Method to the bills of its training seeds."""
    protocol = PROTOCOLS[name]
    paths = {m: [root / name / f"{m}-{seed}" / "findings.json" for seed in protocol.seeds] for m in protocol.methods}
    found = {m: [read_json(path)["cost"] for path in files if path.is_file()] for m, files in paths.items()}
    return {m: held for m, held in found.items() if held}


def row(name: str, method: str, held: list[dict[str, Any]]) -> str:
    epochs = [bill["forget_epochs"] for bill in held]
    whole = [bill["retrain_epochs"] for bill in held if bill.get("retrain_epochs")]
    shares = [100 * b["forget_seconds"] / b["retrain_seconds"] for b in held if b.get("retrain_seconds")]
    parts: dict[str, float] = {}
    for bill in held:
        for part in bill["parts"]:
            parts[part["what"]] = parts.get(part["what"], 0.0) + part["epochs"] / len(held)
    dearest = ", ".join(f"{what} {value:.2f}" for what, value in sorted(parts.items(), key=lambda p: -p[1])[:3])
    target = statistics.mean(whole) if whole else None
    of = f"{100 * statistics.mean(epochs) / target:.0f} %" if target else "–"
    seconds = f"{statistics.mean(shares):.0f} %" if shares else "–"
    return (
        f"| {name} | {method} | {len(held)} | {statistics.mean(epochs):.2f} | {'–' if target is None else f'{target:.1f}'} | "
        f"{of} | {seconds} | {dearest} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("runs/bench"))
    parser.add_argument("protocols", nargs="*", help="only these; all that are there if none is named")
    arguments = parser.parse_args()
    print("| protocol | method | seeds | epochs | retraining | share of its epochs | of its seconds | of which |")
    print("|---|---|---|---|---|---|---|---|")
    for name in arguments.protocols or PROTOCOLS:
        for method, held in bills(arguments.root, name).items():
            print(row(name, method, held))


if __name__ == "__main__":
    main()
