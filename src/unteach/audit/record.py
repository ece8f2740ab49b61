"""What is written down about each model, and how it differs from the retrained ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from unteach.audit import accuracy, games, histograms, membership
from unteach.audit.comparison import ATTACK, FORGET, SHAPE, TEST, Comparison, Comparisons, Tolerance
from unteach.audit.games import Pools
from unteach.types import Signals

GAMES = ("FT", "FR", "RT")


@dataclass(frozen=True, eq=False)
class Readings:
    """Per-example numbers, ``models × examples``: every membership score, and shares of right answers."""

    scores: dict[str, np.ndarray]
    correct: np.ndarray


def read(signals: Signals, used: list[int], unseen: np.ndarray, by_class: bool) -> Readings:
    """Scores the ``used`` models; the rows of the others stay zero. Only the mask ``unseen`` counts as such."""
    # Models without a role, and examples outside these sets, must not move the two-sided score's centre.
    judged = replace(signals, members=np.broadcast_to(~unseen, signals.members.shape))
    shape = (len(signals.models), signals.logits.shape[2])
    scores = {name: np.zeros(shape) for name in membership.MEMBERSHIP}
    correct = np.zeros(shape)
    for at in used:
        correct[at] = membership.correctness(signals, at)
        for name, kind in membership.MEMBERSHIP.items():
            scorer = membership.TwoSided(by_class=by_class) if kind is membership.TwoSided else kind()
            scores[name][at] = scorer(judged, at)
    return Readings(scores, correct)


def record(at: tuple[int, ...], readings: Readings, pool: Pools, bounds: dict[str, np.ndarray], seed: int) -> Any:
    """The record of one part: accuracies, games by every score, histograms; several models are averaged."""
    rows = {"retain": pool.retain, "forget": pool.forget, "test": pool.test}
    out: dict[str, Any] = {"models": len(at), "accuracy": {}, "accuracy_interval": {}, "games": {}}
    for name, where in rows.items():
        if len(where):
            value, low, high = accuracy.accuracy(readings.correct[list(at)], where, pool, seed=seed)
            out["accuracy"][name] = value
            out["accuracy_interval"][name] = [low, high]
    for game in GAMES:
        played = {n: games.play(s[list(at)], pool, game, seed=seed) for n, s in readings.scores.items()}
        out["games"][game] = {name: result for name, result in played.items() if not isinstance(result, str)}
    # The same edges for all models, and all unseen examples of the FT game, whatever the classes.
    sets = {"retain": pool.retain, "forget": pool.forget, "test": pool.unseen}
    phi, loss = readings.scores["confidence"][list(at)], -readings.scores["loss"][list(at)]
    out["confidence_histogram"] = histograms.histogram(phi, bounds["confidence"], sets, log=False)
    out["loss_histogram"] = histograms.histogram(loss, bounds["loss"], sets, log=True)
    return out


def compare(
    at: int, references: tuple[int, ...], readings: Readings, pool: Pools, margin: Tolerance, seed: int
) -> Comparisons:
    """Model minus the mean of the references, in the four quantities that the verdict rests on."""
    others = list(references)
    found = {}
    for name, score in {ATTACK: "confidence", SHAPE: "two-sided"}.items():
        table = readings.scores[score]
        found[name] = games.difference(table[at], table[others], pool, "FT", seed=seed), margin.auc
    for name, rows in {FORGET: pool.forget, TEST: pool.test}.items():
        answers = readings.correct
        found[name] = (
            accuracy.difference(answers[at], answers[others], rows, pool, seed=seed),
            margin.accuracy,
        )
    return {
        name: Comparison(name, value, edge, len(pool.test if name == TEST else pool.forget))
        for name, (value, edge) in found.items()
        if value is not None
    }


def gaps_to_retrained(models: dict[str, Any]) -> dict[str, float]:
    """Unlearned minus retrained, in points; ``average`` only when all four components are there."""
    if "unlearned" not in models or "retrained" not in models:
        return {}
    mine, target = models["unlearned"], models["retrained"]
    gaps = {name: 100 * (value - target["accuracy"][name]) for name, value in mine["accuracy"].items()}
    if mine["games"]["FT"]:
        gaps["ft_auc"] = 100 * (mine["games"]["FT"]["confidence"]["auc"] - target["games"]["FT"]["confidence"]["auc"])
    if len(gaps) == 4:
        gaps["average"] = accuracy.average_gap(gaps)
    return gaps
