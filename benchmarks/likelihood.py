"""The likelihood attacks beside their matrix and loop forms: same scores, own CPU time, peak memory. Target P7.

    OMP_NUM_THREADS=1 python benchmarks/likelihood.py

RMIA: the sort and binary search of unteach beside the matrix of all quotients ratio_x / ratio_z, whole where it fits and in
blocks of rows where it does not, which costs the same time; and the tuning of offline RMIA's a, eleven such scores. LiRA:
unteach beside a loop over the examples (NumPy's median and deviation, SciPy's normal law), timed on some and multiplied.
RULI's kernels beside one scipy.stats.gaussian_kde per example, world and model left out, in the same way. Equal: the largest
difference between the two forms' scores. Memory: peak of what Python allocates in one more call of each. The limit, in the same
rounds: for RMIA one sort of the population's ratios, for LiRA one pass over the references' readings.
"""

from __future__ import annotations

import argparse
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.stats import gaussian_kde, norm

from measure import Spread, markdown, repeat, run_rounds
from part import arguments, run
from unteach.audit.lira import Lira, OfflineLira
from unteach.audit.rmia import SHARES, OfflineRmia, dominance, offline_mean
from unteach.audit.ruli import Ruli
from unteach.audit.shadows import Shadows
from unteach.audit.worlds import Worlds

Arm = Callable[[], np.ndarray]
Alike = Callable[[np.ndarray], np.ndarray]


def matrix(ratios: np.ndarray, population: np.ndarray, gamma: float, rows: int) -> np.ndarray:
    """The definition with all pairs of a block of rows at once; x and population are different examples here."""
    others = ratios[population]
    scores = []
    for start in range(0, len(ratios) - len(others), rows):
        block = ratios[start : min(start + rows, len(ratios) - len(others)), None]
        scores.append(np.average(block / others >= gamma, axis=1))
    return np.concatenate(scores)


def rmia(n: int, z: int, rounds: int) -> list[dict[str, Any]]:
    """``n`` examples against ``z`` population ones: the score, and the tuning of a over its grid."""
    rng = np.random.default_rng(0)
    own, out = rng.beta(5, 1, n + z), rng.beta(5, 1, n + z)
    population = np.arange(n + z) >= n
    rows = n if n <= 10_000 else 2000
    known = Shadows(out[None, None], np.zeros((1, n + z), dtype=bool), population)

    def fast() -> np.ndarray:
        return dominance(own / offline_mean(out, 0.3), population, 1.0)[:n]

    def slow() -> np.ndarray:
        return matrix(own / offline_mean(out, 0.3), population, 1.0, rows)

    def fast_tuning() -> np.ndarray:
        return np.stack([OfflineRmia(share=a).score(own[None], known)[:n] for a in SHARES])

    def slow_tuning() -> np.ndarray:
        return np.stack([matrix(own / offline_mean(out, a), population, 1.0, rows) for a in SHARES])

    def least() -> np.ndarray:
        return np.sort(own[n:])

    size = f"{n // 1000}k × {z // 1000}k"
    found = [row(f"RMIA, {size}", slow, fast, rounds, times=5, least=least)]
    if n <= 10_000:
        found.append(row(f"RMIA tuning of a, {size}", slow_tuning, fast_tuning, rounds, times=1))
    return found


def row(
    what: str,
    slow: Arm,
    fast: Arm,
    rounds: int,
    *,
    times: int,
    factor: float = 1.0,
    alike: Alike | None = None,
    least: Arm | None = None,
) -> dict[str, Any]:
    """Both forms in interleaved rounds, ``fast`` called ``times`` times; ``slow`` does one ``factor``-th of the work.

    ``alike`` makes the scores of ``fast`` comparable with those of ``slow``; ``least`` is work that no form can do without.
    """
    arms = {"slow": slow, "fast": repeat(fast, times), **({"least": repeat(least, times)} if least else {})}
    found = run_rounds(arms, rounds, label=what)
    some, every = slow(), (alike or np.asarray)(fast())
    return {
        "what": what,
        "slow_ms": found.of("slow").times(1000 * factor),
        "fast_ms": found.of("fast").times(1000 / times),
        "ratio": found.ratio("slow", "fast").times(factor * times),
        "difference": float(np.abs(some - every[..., : some.shape[-1]]).max()),
        "slow_mib": peak(slow),
        "fast_mib": peak(fast),
        "limit": found.ratio("least", "fast") if least else None,
        "quiet": found.quiet,
        "note": found.note(),
    }


def peak(arm: Arm) -> float:
    """Peak of one call, MiB."""
    tracemalloc.start()
    arm()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most / 2**20


def halves(references: int, n: int) -> tuple[np.ndarray, Shadows]:
    """Made-up confidences of a model, and of references in complementary pairs that stand out where they trained."""
    rng = np.random.default_rng(1)
    half = rng.random((references // 2, n)) < 0.5
    members = np.concatenate([half, ~half])
    phi = rng.normal(0, 3, n) + rng.normal(0, 1, (references, 1, n)) + members[:, None]
    return phi[0] + rng.normal(size=n), Shadows(phi, members, np.zeros(n, dtype=bool))


def lira(references: int, n: int, looped: int, rounds: int) -> list[dict[str, Any]]:
    mine, known = halves(references, n)
    phi, members = known.readings, known.members
    found = []
    for test in (Lira(per_example_from=1), OfflineLira(per_example_from=1)):

        def slow(online: bool = isinstance(test, Lira)) -> np.ndarray:
            scores = []
            for i in range(looped):
                outside = phi[~members[:, i], 0, i]
                mean, deviation = np.median(outside), np.std(outside, ddof=1)
                if not online:
                    scores.append(norm.cdf(mine[0, i], mean, deviation))
                    continue
                inside = phi[members[:, i], 0, i]
                ratio = norm.logpdf(mine[0, i], np.median(inside), np.std(inside, ddof=1))
                scores.append(ratio - norm.logpdf(mine[0, i], mean, deviation))
            return np.array(scores)

        def fast(test: Lira | OfflineLira = test) -> np.ndarray:
            return test.score(mine, known)

        def least() -> np.ndarray:
            return np.asarray(phi.sum(0))

        name = f"{type(test).__name__}, {references} references, {n // 1000}k examples"
        alike = None if isinstance(test, Lira) else norm.cdf
        found.append(row(name, slow, fast, rounds, times=1, factor=n / looped, alike=alike, least=least))
    return found


def kernels(models: int, n: int, looped: int, rounds: int) -> dict[str, Any]:
    rng = np.random.default_rng(2)
    positive = np.broadcast_to((np.arange(models) % 2 == 0)[:, None], (models, n))
    worlds = Worlds(rng.normal(0, 3, n) + rng.normal(0, 1, (models, n)), positive, ~positive)

    def slow() -> np.ndarray:
        removed = [worlds.removed(mask) for mask in (worlds.positive, worlds.negative)]
        scores = np.empty((models, looped))
        for m, x in np.ndindex(models, looped):
            densities = []
            for mask, gone in zip((worlds.positive, worlds.negative), removed):
                there = mask[:, x] & (np.arange(models) != gone[m, x])
                kernel = gaussian_kde(worlds.phi[there, x], bw_method="silverman")
                densities.append(kernel.logpdf(worlds.phi[m, x])[0])
            scores[m, x] = densities[0] - densities[1]
        return scores

    def fast() -> np.ndarray:
        return Ruli()(worlds).log_ratio

    return row(f"RULI kernels, {models} models, {n} examples", slow, fast, rounds, times=1, factor=n / looped)


def cells(found: dict[str, Any]) -> list[object]:
    memory = [f"{found[name]:.1f}" for name in ("slow_mib", "fast_mib")]
    ratio: Spread = found["ratio"]
    times = [found["slow_ms"], found["fast_ms"]]
    return [
        found["what"],
        *times,
        f"{ratio.median:.0f} ({ratio.low:.0f}–{ratio.high:.0f})",
        f"{found['difference']:.0e}",
        found["limit"].percent() if found["limit"] else "–",
        *memory,
    ]


def scores(asked: argparse.Namespace) -> dict[str, Any]:
    rounds = 3 if asked.quick else asked.rounds
    found = rmia(10_000, 10_000, rounds)
    if not asked.quick:
        found += rmia(50_000, 10_000, rounds)
    for references in (16, 64):
        found += lira(references, 20_000, 100 if asked.quick else 300, rounds)
    found.append(kernels(32, 1000, 3 if asked.quick else 8, rounds))
    head = [
        "score",
        "matrix or loop, ms",
        "unteach, ms",
        "times faster (target ≥ 100)",
        "largest difference",
        "of the limit",
    ]
    print(markdown([*head, "its peak, MiB", "unteach's peak, MiB"], map(cells, found)))
    print("\n" + "\n".join(f"{each['what']}: {each['note']}" for each in found))
    return {"rows": found, "notes": [f"{each['what']}: {each['note']}" for each in found]}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    run(scores, parser.parse_args())


if __name__ == "__main__":
    main()
