"""Every fixed sentence of the report but the glossary: verdicts, names, limits. Nothing here is computed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """What a verdict means: ``tone`` picks colour and shape; ``meaning`` and ``next`` are sentences."""

    word: str
    tone: str
    meaning: str
    next: str


VERDICTS = {
    verdict.word: verdict
    for verdict in (
        Verdict(
            "indistinguishable from retrain within tolerance",
            "same",
            "These tests could not tell the unlearned model from one retrained without the records, "
            "within the tolerance set beforehand.",
            "File this report with the new checkpoint. The result holds for the tests listed here, not "
            "for every conceivable one.",
        ),
        Verdict(
            "under-forgotten",
            "under",
            "The unlearned model still treats the records it should have forgotten more like training "
            "data than a retrained model does.",
            "Do not treat the erasure as done: unlearn with stronger settings and audit again, or retrain.",
        ),
        Verdict(
            "over-forgotten",
            "over",
            "The unlearned model departs from a retrained one on the other side: it is worse than a "
            "model that never saw the records, which can itself give them away or cost accuracy.",
            "Do not treat the erasure as done: unlearn with gentler settings and audit again, or retrain.",
        ),
        Verdict(
            "inconclusive",
            "open",
            "The evidence is too weak to decide in either direction.",
            "Neither accept nor reject the erasure on this audit: settle what is missing and audit again, or retrain.",
        ),
        Verdict(
            "nothing measurable to forget",
            "none",
            "Even the original model shows no measurable trace of these records, so these tests cannot "
            "show that anything was removed.",
            "This is not a pass: decide on other grounds, or use an audit that can see single records.",
        ),
    )
}

NO_VERDICT = Verdict(
    "no verdict",
    "open",
    "The findings hold no verdict that this report knows.",
    "Run the audit again, or read the numbers below without one.",
)

ROLES = {
    "original": "Original",
    "unlearned": "Unlearned",
    "retrained": "Retrained",
    "held_out_retrained": "Held-out retrained",
}

ROLE_NOTES = {
    "original": "before forgetting",
    "unlearned": "the result",
    "retrained": "the target",
    "held_out_retrained": "a control",
}

ABSENT = "not measured"

PARTS = {"forget": "Forget set", "retain": "Retain set", "test": "Test set"}

GAPS = {
    "forget": "Forget-set accuracy",
    "retain": "Retain-set accuracy",
    "test": "Test-set accuracy",
    "ft_auc": "FT AUC × 100",
    "ft_shape": "Two-sided FT × 100",
}

# What the audit calls the same quantities where it compares them pair by pair.
QUANTITIES = {
    "forget accuracy": "forget",
    "retain accuracy": "retain",
    "test accuracy": "test",
    "FT AUC by confidence": "ft_auc",
    "FT AUC by two-sided confidence": "ft_shape",
}

GAMES = {
    "FT": "forgotten vs unseen (FT)",
    "FR": "retained vs forgotten (FR)",
    "RT": "retained vs unseen (RT)",
}

CONTROLS = {
    "original_caught": "The original model is caught",
    "held_out_retrain_passes": "A held-out retrained model passes",
    "untrained_rejected": "An untrained network is rejected",
    "constant_predictor": "The unlearned model answers by its input",
    "hard_tests": "Further tests find no trace of the forgotten records",
}

# Three more distances stand in findings.json only: they say much the same as these.
READINGS = {
    "neighbour_share": ("Probability of the neighbour class", "of those that stay; as retrained is better"),
    "largest_share": ("Share of the most frequent answer", "of those that stay; as retrained is better"),
    "forgotten_mass": ("Probability left on what was forgotten", "lower is better"),
    "mean_tv": ("Distance of the mean answer (TV)", "lower is better"),
    "image_tv": ("Distance image by image (TV)", "lower is better"),
    "told_apart": ("Told apart from retrained models (AUC)", "lower is better"),
}

CLASSES_LEAD = (
    "A model that never saw a class still answers its test images, and sends them to certain other classes. An "
    "unlearned model that sends them elsewhere shows what it forgot. For information only: the verdict rests on the "
    "membership games and accuracies, not on these readings."
)
COLLAPSE = (
    "Collapse: the share of its most frequent answer lies more than 3 standard deviations from the retrained models’, "
    "as when all images are sent to one class, or evenly to all."
)
CLASSES_SOURCE = (
    "Neighbour routing is this project’s own test. MIA-NN (later CMIA) is a published one: Ebrahimpour-Boroojeny et "
    "al., arXiv 2506.20893, rebuilt from its description."
)

# Families of further measures: title, and what to read in the table.
_RANGE = (
    "Each retrained model was judged by the others in the same way: that is the range. The last column is the chance that "
    "one more exact retraining lies as far from their mean; with many rows some small chances are bound to occur, which the "
    "check of further tests above allows for."
)
FAMILIES = {
    "membership": ("Further membership attacks", f"Target: the retrained models’ numbers, on either side. {_RANGE}"),
    "distribution": ("Many models at once", f"Target: what retraining compared with retraining gives. {_RANGE}"),
    "distance": (
        "How differently it answers",
        f"Target: no further off than retrained models from each other. {_RANGE}",
    ),
    "class": ("Forgotten classes", f"Target: the retrained models’ numbers. {_RANGE}"),
    "behaviour": ("How it behaves when pressed", f"Target: as the retrained models behave. {_RANGE}"),
    "utility": ("What it is still good for", f"Target: the retrained models’ numbers. {_RANGE}"),
}
MEASURES_LEAD = (
    "Each number stands beside the same number of retrained models, and beside how much those differ among themselves: a "
    "measure without that floor says nothing."
)

LIMITS = {
    "A failed attack is not absent information.": (
        "An attack at chance shows that this attack failed. A stronger one may still find a trace."
    ),
    "The attacks here are population attacks.": (
        "They compare records with one another. Attacks with many reference models, which judge each "
        "record on its own scale, are stronger and were not run unless listed above."
    ),
    "One model, one seed.": (
        "Intervals cover the choice of records, not the luck of training: another seed of the same "
        "method may do better or worse."
    ),
    "An average can hide a person.": (
        "A result for the whole forget set says little about its most unusual records. Read the exposed records too."
    ),
    "Near-duplicates stay.": (
        "If a similar picture, or another of the same person, remains in the retain set, the model still"
        " learns from it. So does a retrained model."
    ),
    "Only this checkpoint was examined.": (
        "Copies elsewhere are untouched: backups, earlier checkpoints, models distilled or fine-tuned "
        "from the original, logs, caches, and the data themselves."
    ),
    "Influence is not ability.": (
        "A model without these records may still label them correctly, as it does other records it never saw."
    ),
    "This is a measurement, not a certificate.": (
        "It gives no mathematical bound on what remains and does not settle a legal question."
    ),
}

PICTURES_NOTE = (
    "These pictures are the very records that were to be forgotten, embedded in this page. Keep the page"
    " as you would keep the records, or make it again without thumbnails before passing it on."
)
IDS_NOTE = "The ids above name the records that were to be forgotten: share this report accordingly."
