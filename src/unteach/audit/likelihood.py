"""The likelihood attacks on one judged model, beside retrained models attacked with the same references."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from unteach.audit import games, lira, rmia, shadows, statistics
from unteach.audit.finding import Finding, Measured, Skipped
from unteach.audit.games import Pools
from unteach.audit.shadows import LikelihoodTest, Shadows, Signal
from unteach.types import Refusal, Signals

GAMES = ("FT", "FR", "RT")

LIKELIHOOD: dict[str, LikelihoodTest] = {
    "LiRA": lira.Lira(),
    "LiRA offline": lira.OfflineLira(),
    "RMIA": rmia.Rmia(),
    "RMIA offline": rmia.OfflineRmia(),
    "RMIA of AMUN": rmia.AMUN,
}
SOURCES = {"LiRA": "Carlini et al., 2022, arXiv 2112.03570", "RMIA": "Zarifzadeh et al., 2024, arXiv 2312.03262"}


def likelihood_games(
    signals: Signals,
    judged: int,
    retrained: tuple[int, ...],
    pool: Pools,
    *,
    tests: Mapping[str, LikelihoodTest] = LIKELIHOOD,
    seed: int = 0,
) -> Measured:
    """AUC of FT, FR and RT, and TPR at low FPR of FT, by every likelihood attack; retrained models are its targets.

    All models are attacked with ``signals.references``; the share a of offline RMIA is tuned on those alone, where they
    suffice. An attack whose references do not suffice is skipped with the reason. Refuses a judged or retrained model that is
    a reference.
    """
    rows = [judged, *retrained]
    if used := [signals.models[at] for at in rows if at in signals.references]:
        raise Refusal(f"expected judged and retrained models that are no references, got {used}; train others")
    held: Signal | None = None
    known: Shadows | None = None
    found: list[Finding | Skipped] = []
    for name, given in tests.items():
        if reason := shadows.lack(signals, given.least):
            found.append(Skipped(name=name, family="membership", reason=reason))
            continue
        if known is None or given.signal != held:
            known = None  # one signal's readings at a time: with many references they are what takes memory
            known, held = shadows.read(signals, given.signal), given.signal
            mine = [given.signal(signals, at) for at in rows]
        test, doubts = _tuned(given, signals, known)
        scores = np.stack([test.score(each, known) for each in mine])
        found += _findings(name, scores, pool, doubts, seed)
    return found


def _tuned(test: LikelihoodTest, signals: Signals, known: Shadows) -> tuple[LikelihoodTest, tuple[str, ...]]:
    """Offline RMIA with its share tuned, where one reference can be spared; other tests as they are."""
    if not isinstance(test, rmia.OfflineRmia) or shadows.lack(signals, (0, 2)):
        return test, ()
    test = rmia.tuned(test, signals, known)
    return test, (f"a = {test.share}, tuned by attacking one reference with the others.",)


def _findings(
    name: str, scores: np.ndarray, pool: Pools, doubts: tuple[str, ...], seed: int
) -> list[Finding | Skipped]:
    """Findings of one attack from scores ``models × examples``, those of the judged model first."""
    found: list[Finding | Skipped] = []
    for game in GAMES:
        played = games.play(scores[:1], pool, game, seed=seed)
        if isinstance(played, str):
            found.append(Skipped(name=f"{name} AUC ({game})", family="membership", reason=played))
            continue
        plus, minus = pool.sides(game)
        frame = Finding(
            name=f"{name} AUC",
            family="membership",
            part=game,
            value=played["auc"],
            retrained=tuple(statistics.auc(each[plus], each[minus]) for each in scores[1:]),
            interval=(played["low"], played["high"]),
            trace="above" if game == "FT" else "",
            size=len(plus) + len(minus),
            doubts=doubts,
            source=SOURCES.get(name.split()[0], ""),
        )
        found.append(frame)
        if game == "FT":
            found += [
                _at_low_fpr(frame, name, scores[:, plus], scores[:, minus], fpr) for fpr in games.FALSE_POSITIVE_RATES
            ]
    return found


def _at_low_fpr(frame: Finding, name: str, plus: np.ndarray, minus: np.ndarray, fpr: float) -> Finding | Skipped:
    """The same finding with the TPR at a low FPR in place of the AUC; ``plus``, ``minus``: ``models × examples``."""
    what = f"{name} TPR at {fpr:.1%} FPR"
    mine, *others = [statistics.tpr_at_fpr(p, n, fpr) for p, n in zip(plus, minus)]
    if "skipped" in mine:
        return Skipped(name=what, family=frame.family, reason=mine["skipped"])
    retrained = tuple(each["tpr"] for each in others)
    return replace(frame, name=what, value=mine["tpr"], retrained=retrained, interval=(mine["low"], mine["high"]))
