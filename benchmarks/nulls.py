"""What the audit's numbers are when there is nothing to find, or a known shift: simulated, beside the evaluation notes' figures.

    OMP_NUM_THREADS=1 python benchmarks/nulls.py

The forgetting score of equal losses (notes 2.8) and of losses in two modes; ε and F of the competition (4.6); KLoM by number
of models (4.7) and its binning-free kin; the lower bound on ε of one law, and of a mechanism with ε = 1 (4.9). Populations are
standard normal, losses exponential, unless said otherwise.
"""

from __future__ import annotations

import argparse
import math
import sys
import time

import numpy as np

from measure import markdown, tell
from unteach.audit.epsilon import ForgettingQuality
from unteach.audit.fitted_attacks import ShapeAttack
from unteach.audit.klom import Klom, told_apart, transport
from unteach.audit.lower_bound import LowerBound
from unteach.audit.nomus import forgetting_score
from unteach.audit.statistics import auc

SIZES = {
    (1500, 1504): "0.011 / 0.009 / 0.025",
    (1062, 1118): "0.012 / – / 0.021",
    (2001, 2001): "0.0095 / – / 0.020",
    (500, 500): "0.021 / – / 0.043",
}


def shown(*values: float) -> str:
    return " / ".join(f"{value:.4f}".rstrip("0") for value in values)


def forgetting(rng: np.random.Generator, replicates: int) -> str:
    rows = []
    for (n, m), notes in SIZES.items():
        scores = [forgetting_score(rng.exponential(size=n), rng.exponential(size=m)) for _ in range(replicates)]
        rows.append((f"{n:,} / {m:,}", shown(np.mean(scores), np.median(scores), np.quantile(scores, 0.95)), notes))
        tell(f"forgetting score {n}/{m}")
    house = [forgetting_score(households(rng, 1500), households(rng, 1504)) for _ in range(replicates)]
    rows.append(("1,500 / 1,504, 12 of a household", f"p95 {np.quantile(house, 0.95):.3f}", "p95 0.028–0.033"))
    forget, unseen = rng.exponential(size=1500) + 0.3, rng.exponential(size=1504)
    again = [forgetting_score(rng.permutation(forget), rng.permutation(unseen)) for _ in range(50)]
    rows.append(("same losses, other splits", f"sd {np.std(again, ddof=1):.4f}", "sd 0.0076"))
    return "## Forgetting score |M − ½|: mean / median / p95\n\n" + markdown(["forget / unseen", "here", "notes"], rows)


def households(rng: np.random.Generator, n: int, size: int = 12) -> np.ndarray:
    """Exponential losses times a common factor of each household: half of the variance of the logarithm is shared."""
    shared = np.repeat(rng.normal(0, 0.9, -(-n // size)), size)[:n]
    return np.exp(shared + rng.normal(0, 0.9, n))


def two_modes(rng: np.random.Generator) -> str:
    forget = np.where(rng.random(1500) < 0.5, -3, 3) + 0.1 * rng.standard_normal(1500)
    unseen = rng.standard_normal(1500)
    member = np.repeat([True, False], 1500)
    trees = ShapeAttack()(np.concatenate([forget, unseen])[:, None], member, np.arange(3000))
    rows = [
        ("logistic regression, accuracy", f"{0.5 + forgetting_score(forget, unseen):.2f}", "0.48–0.55"),
        ("threshold, AUC", f"{auc(forget, unseen):.2f}", "–"),
        ("boosted trees, AUC", f"{auc(trees[member], trees[~member]):.3f}", "0.97 (accuracy of one tree)"),
    ]
    return "## Forget losses in two modes around the unseen\n\n" + markdown(["attack", "here", "notes"], rows)


def competition(rng: np.random.Generator, examples: int) -> str:
    rows = []
    plain = ForgettingQuality(intervals=False)
    for models in (16, 64, 128, 512):
        a, b = rng.standard_normal((2, models, examples))
        whole = ForgettingQuality()(a, b)
        spread = shown(np.median(whole.epsilon), np.quantile(whole.epsilon, 0.95))
        here = f"{spread}; {whole.score:.3f}; {plain(a, b).score:.3f}"
        rows.append((f"one law, {models} models", here, "1.6 / 2.2; 0.16–0.20; 0.29–0.39"))
        tell(f"epsilon, {models} models")
    for shift, notes in {0.25: "0.135", 0.5: "0.07", 1.0: "0.018"}.items():
        a, b = rng.standard_normal((2, 512, examples))
        rows.append(
            (f"shift of {shift} sd, 512 models", f"{ForgettingQuality()(a + shift, b).score:.3f}", f"F {notes}")
        )
    for scale in (0.1, 0.3, 3.0):
        a, b = scale * rng.standard_normal((2, 128, examples))
        here = f"{ForgettingQuality()(a, b).score:.3f}"
        rows.append((f"one law with sd {scale}, 128 models", here, "not simulated there"))
    head = ["populations", "median / p95 of ε; F; F of thresholds alone", "notes"]
    return "## Forgetting quality F of the competition\n\n" + markdown(head, rows)


def margins(rng: np.random.Generator, examples: int) -> str:
    rows = []
    notes = {10: "5.7", 20: "3.0", 50: "0.93", 100: "0.36 (0.7)", 200: "0.15"}
    for models, figure in notes.items():
        rows.append((f"one law, {models} models", *kin(rng.standard_normal((2, models, examples))), figure))
    for shift, models, figure in ((1, 10, "6.2"), (1, 100, "1.2"), (2, 100, "3.6")):
        a, b = rng.standard_normal((2, models, examples))
        rows.append((f"shift of {shift} sd, {models} models", *kin(np.stack([a + shift, b])), figure))
    head = ["populations", "KLoM: mean (p95)", "reversed", "Wasserstein-1", "energy", "told apart", "notes: KLoM"]
    return "## KLoM and its kin\n\n" + markdown(head, rows)


def kin(both: np.ndarray) -> tuple[str, ...]:
    forward, backward = Klom(fewest=2)(*both)
    moved, energy = transport(*both)
    told = f"{told_apart(*both):.1%}"
    p95 = np.quantile(forward, 0.95)
    return (
        f"{forward.mean():.2f} ({p95:.2f})",
        f"{backward.mean():.2f}",
        f"{moved.mean():.2f}",
        f"{energy.mean():.2f}",
        told,
    )


def bound(rng: np.random.Generator, replicates: int) -> str:
    rows = []
    right = math.e / (1 + math.e)
    for n in (200, 1000, 5000):
        null = [LowerBound()(*rng.standard_normal((2, n)), seed=i) for i in range(replicates)]
        answers = [((rng.random(n) < right) * 1.0, (rng.random(n) > right) * 1.0) for _ in range(replicates)]
        found = np.array([LowerBound()(a, b, seed=i) for i, (a, b) in enumerate(answers)])
        rows.append(
            (f"{n:,}", f"{np.mean(np.array(null) > 0):.1%}", f"{np.median(found):.2f}", f"{(found > 1).mean():.1%}")
        )
    head = ["examples a side", "one law: bound above 0", "ε = 1: median bound", "ε = 1: bound above 1 (at most 5 %)"]
    return "## Lower bound on ε\n\n" + markdown(head, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=200, help="data sets of each size")
    parser.add_argument("--examples", type=int, default=1000, help="examples of each pair of populations")
    parser.add_argument("--seed", type=int, default=0)
    settings = parser.parse_args()
    rng, start = np.random.default_rng(settings.seed), time.perf_counter()
    parts = [
        forgetting(rng, settings.replicates),
        two_modes(rng),
        competition(rng, settings.examples),
        margins(rng, settings.examples),
        bound(rng, settings.replicates),
    ]
    print("\n\n".join(parts))
    tell(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
