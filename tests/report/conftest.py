"""Findings that look like a real audit: a random 10 % of Fashion-MNIST forgotten, drawn from Gaussians."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

CLASSES = (
    "T-shirt",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
SIZES = {"retain": 5400, "forget": 600, "test": 2000}
# Mean confidence on (retain, forget, test): what each kind of model remembers.
MEANS = {
    "original": (6.6, 6.4, 4.2),
    "unlearned": (6.2, 4.45, 4.1),
    "retrained": (6.6, 4.2, 4.2),
    "held_out_retrained": (6.6, 4.25, 4.2),
}
EDGES = np.linspace(-12, 18, 41)


def area(members: np.ndarray, others: np.ndarray) -> float:
    """Mann–Whitney: share of pairs in which the member is ahead."""
    return float(np.searchsorted(np.sort(others), members).mean() / len(others))


def game(members: np.ndarray, others: np.ndarray) -> dict[str, Any]:
    auc = area(members, others)
    half = 1.96 * np.sqrt((len(members) + len(others) + 1) / (12 * len(members) * len(others)))
    thresholds = np.concatenate([[np.inf], np.sort(others)[::-1]])
    shares = [1 - np.searchsorted(np.sort(side), thresholds) / len(side) for side in (others, members)]
    roc = np.stack(shares, 1)[:: max(1, len(others) // 200)].tolist()
    one = np.sort(others)[::-1][len(others) // 100 - 1]
    caught = float((members >= one).mean())
    spread = 1.96 * np.sqrt(max(caught * (1 - caught), 1e-4) / len(members))
    return {
        "auc": auc,
        "low": auc - half,
        "high": auc + half,
        "n_positive": len(members),
        "n_negative": len(others),
        "tpr": [
            {
                "fpr": 0.01,
                "tpr": caught,
                "low": max(caught - spread, 0),
                "high": caught + spread,
                "achieved_fpr": 0.01,
            },
            {"fpr": 0.001, "skipped": f"needs 10,000 negatives, has {len(others):,}"},
        ],
        "roc": roc,
    }


def model(rng: np.random.Generator, means: tuple[float, float, float]) -> dict[str, Any]:
    phi = {p: rng.normal(m, 3.2, n) for (p, n), m in zip(SIZES.items(), means)}
    loss = {p: -np.logaddexp(0, -v) for p, v in phi.items()}
    accuracy = {p: float((v > 0).mean()) for p, v in phi.items()}
    halves = {p: 1.96 * np.sqrt(a * (1 - a) / SIZES[p]) for p, a in accuracy.items()}
    counts = {p: np.histogram(v, EDGES)[0].tolist() for p, v in phi.items()}
    return {
        "accuracy": accuracy,
        "accuracy_interval": {p: [a - halves[p], a + halves[p]] for p, a in accuracy.items()},
        "games": {
            name: {signal: game(scores[a], scores[b]) for signal, scores in (("confidence", phi), ("loss", loss))}
            for name, (a, b) in {
                "FT": ("forget", "test"),
                "FR": ("retain", "forget"),
                "RT": ("retain", "test"),
            }.items()
        },
        "confidence_histogram": {"edges": EDGES.tolist(), **counts},
    }


def invent(seed: int = 0, verdict: str = "inconclusive", **means: tuple[float, float, float]) -> dict[str, Any]:
    """A whole findings mapping; ``means`` replaces the mean confidences of a model."""
    rng = np.random.default_rng(seed)
    models = {role: model(rng, {**MEANS, **means}[role]) for role in MEANS}
    new, target = models["unlearned"], models["retrained"]
    gaps = {p: 100 * (new["accuracy"][p] - target["accuracy"][p]) for p in SIZES}
    gaps["ft_auc"] = 100 * (new["games"]["FT"]["confidence"]["auc"] - target["games"]["FT"]["confidence"]["auc"])
    gaps["average"] = sum(map(abs, gaps.values())) / 4
    labels = rng.integers(0, 10, 8)
    exposed = [
        {
            "id": f"train-{17 + 713 * i:05d}",
            "label": int(label),
            "classname": CLASSES[label],
            "predicted": CLASSES[(label + i % 2) % 10],
            "score": 3.9 - 0.3 * i,
            "p_value": 0.0004 + 0.0021 * i,
            "phi_unlearned": 9.4 - 0.4 * i,
            "phi_retrained": -2.5 + 0.3 * i,
        }
        for i, label in enumerate(labels)
    ]
    return {
        "verdict": verdict,
        "summary": "On average it answers like a retrained model, but 600 records are too few to be sure.",
        "reasons": [
            "The interval of the forget-accuracy gap, −1.7 to +5.0 points, leaves the tolerance of ±2.0.",
            "About 1,300 forgotten records would settle it.",
        ],
        "request": {
            "data": "fashion-mnist",
            "data_fingerprint": "9f2c" * 16,
            "spec": "random:0.1",
            "ids_file": "forgotten-ids.txt",
            **SIZES,
        },
        "method": {
            "name": "amun",
            "source": "Ebrahimpour-Boroojeny et al., AMUN, ICML 2025",
            "settings": {
                "sgd": {"learning_rate": 0.02, "epochs": 10, "decay": "step"},
                "retain": True,
                "norm": "l2",
            },
        },
        "models": models,
        "gaps": gaps,
        "controls": {
            "original_caught": {
                "passed": True,
                "sentence": "FT AUC of the original is 0.69, well above the retrained 0.50.",
            },
            "held_out_retrain_passes": {
                "passed": True,
                "sentence": "All gaps of the held-out model lie within tolerance.",
            },
            "constant_predictor": {
                "passed": True,
                "sentence": "The utility guard flags it: test accuracy 10.0%.",
            },
        },
        "exposed": exposed,
        "exposed_count": {"unlearned": 9, "held_out_retrained": 7},
        "skipped": [{"metric": "TPR at 0.1% FPR", "reason": "needs 10,000 unseen records, has 2,000"}],
        "tolerance": {"auc": 0.02, "accuracy": 0.02},
        "cost": {
            "forget_seconds": 18.42,
            "retrain_seconds": 290.1,
            "forget_epochs": 1.1,
            "retrain_epochs": 13.5,
            "parts": [
                {"what": "adversarial examples", "seconds": 6.2, "epochs": 0.4},
                {"what": "fine-tuning", "seconds": 12.22, "epochs": 0.7},
            ],
        },
        "environment": {
            "python": "3.11.9",
            "torch": "2.9.0",
            "machine": "2 cores, x86_64",
            "unteach": "0.1.0",
        },
        "fingerprints": {"original": "a1b2" * 16, "unlearned": "c3d4" * 16, "retrained": "e5f6" * 16},
        "when": "2026-01-15",
    }


@pytest.fixture(scope="session")
def class_entry_once() -> dict[str, Any]:
    """What the audit says of one forgotten class; the references answer with Pullover, then Shirt."""
    distance = {
        "value": 0.31,
        "held_out": [0.04, 0.11, 0.07, 0.09],
        "two_sided": False,
        "inside": False,
        "spreads": 5.0,
    }
    share = {"value": 0.84, "held_out": [0.55, 0.63, 0.6, 0.58], "two_sided": True, "inside": False, "spreads": 6.0}
    distances = ("mean_tv", "histogram_tv", "histogram_js", "image_tv", "image_js", "told_apart")
    readings = dict.fromkeys(distances, distance) | dict.fromkeys(("neighbour_share", "largest_share"), share)
    readings["forgotten_mass"] = {**share, "value": 0.002, "held_out": [0.001, 0.004, 0.003, 0.002], "inside": True}
    return {
        "class": "Coat",
        "images": 1000,
        "references": 4,
        "accuracy": {"original": 0.91, "unlearned": 0.0, "retrained": 0.0, "held_out_retrained": 0.0},
        "retained_accuracy": {"original": 0.9, "unlearned": 0.88, "retrained": 0.9, "held_out_retrained": 0.91},
        "neighbour": "Pullover",
        "answers": [
            {"class": "Pullover", "unlearned": 0.88, "retrained": 0.63},
            {"class": "Shirt", "unlearned": 0.12, "retrained": 0.37},
        ],
        "routing": {
            "neighbour": 2,
            "images": 1000,
            "p_value": 0.2,
            "collapsed": True,
            "readings": readings,
            "inside": False,
        },
        "mia_nn": {"neighbour": 2, "leakage": 0.25, "floor": [-0.04, 0.05, 0.01, -0.02], "inside": False},
        "why": None,
    }


@pytest.fixture(scope="session")
def invented_once() -> dict[str, Any]:
    return invent()


@pytest.fixture
def findings(invented_once: dict[str, Any]) -> dict[str, Any]:
    return copy.deepcopy(invented_once)


@pytest.fixture
def class_entry(class_entry_once: dict[str, Any]) -> dict[str, Any]:
    return copy.deepcopy(class_entry_once)


@pytest.fixture
def of_class(findings: dict[str, Any], class_entry: dict[str, Any]) -> dict[str, Any]:
    """Findings of a request for one whole class."""
    return {**findings, "classes": [class_entry]}


@pytest.fixture
def thumbnails(findings: dict[str, Any]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {e["id"]: rng.integers(0, 256, (28, 28), dtype=np.uint8) for e in findings["exposed"]}
