"""Every fixed sentence of the report: verdicts, names, glossary, limits. Nothing here is computed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """What a verdict means: ``tone`` picks colour and shape; ``meaning`` and ``next`` are sentences."""

    word: str
    tone: str
    meaning: str
    next: str


@dataclass(frozen=True)
class Term:
    """One glossary entry; ``direction`` and ``target`` are empty where the term is not a number."""

    name: str
    what: str
    direction: str = ""
    target: str = ""


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
    "constant_predictor": "The unlearned model answers by its input",
}

GLOSSARY = (
    Term("Forget set", "The training records that the request names."),
    Term("Retain set", "All other training records: the model may keep what it learned from them."),
    Term("Test set", "Records that no model here was trained on; “unseen” in the membership games."),
    Term("Original model", "The model before the request, trained on everything."),
    Term("Unlearned model", "What the method made of the original model; the object of this audit."),
    Term(
        "Retrained model",
        "Trained from scratch without the forget set, by the same recipe: it knows nothing of those "
        "records first-hand, so its numbers are the target of every comparison.",
    ),
    Term(
        "Held-out retrained model",
        "A second retrained model, judged as if it were the result of a method. It shows how much two "
        "correct answers differ by chance.",
    ),
    Term(
        "Accuracy",
        "Share of records that the model labels correctly.",
        "nearer to the retrained model, on either side",
        "the retrained model’s accuracy on the same records",
    ),
    Term(
        "Gap to retraining",
        "Unlearned minus retrained, in points (hundredths: one percentage point of accuracy, or 0.01 of AUC).",
        "nearer to zero, on either side",
        "0, with the whole interval inside the tolerance",
    ),
    Term(
        "Average gap",
        "Mean size of the gaps in forget, retain and test accuracy and FT AUC. It can hide one large gap"
        " among small ones; read the parts first.",
        "lower",
        "0",
    ),
    Term(
        "Membership game",
        "An attack gets records of two kinds and must tell them apart by the model’s answers. FT: "
        "forgotten from unseen. FR: retained from forgotten. RT: retained from unseen, the attack’s "
        "strength.",
    ),
    Term(
        "AUC",
        "Chance that the attack ranks a random record of the first kind above one of the second. 0.5 is "
        "guessing, 1 is always right; below 0.5 it tells them apart the other way round.",
        "nearer to the retrained model, on either side",
        "the retrained model’s AUC; for FT about 0.5 when forgotten and unseen records are alike",
    ),
    Term(
        "Two-sided attack",
        "Accuses records whose confidence is unusual on either side, high or low. It sees records that "
        "were pushed too far.",
        "not above the retrained model",
        "the retrained model’s AUC",
    ),
    Term(
        "TPR at low FPR",
        "Share of records caught (true positives) when the attack may wrongly accuse only the stated "
        "share of the others (false positives). It shows whether a few records stand out although the "
        "average is at chance. Reported only where at least ten false accusations are expected.",
        "nearer to the retrained model",
        "the retrained model’s value; about the FPR itself when the attack is guessing",
    ),
    Term(
        "ROC curve",
        "TPR at every FPR. Both axes are logarithmic so that the few most exposed records are visible.",
        "nearer to the retrained model’s curve",
        "the retrained model’s curve, usually near the diagonal",
    ),
    Term(
        "Logit-scaled confidence",
        "How sure the model is of the true label: log of its probability over the probability of all "
        "others. 0 means even odds; training data tend to lie further right.",
        "same distribution as the retrained model",
        "the retrained model’s histogram",
    ),
    Term(
        "Loss",
        "How surprised the model is by the true label, in nats. Training data tend to have a low loss.",
    ),
    Term("Interval", "Range that would hold the true value in about 95 of 100 repetitions with other records."),
    Term(
        "Tolerance",
        "How far from the retrained model a number may lie and still count as the same. Set before measuring.",
    ),
    Term(
        "Control",
        "A check of the audit itself on models whose answer is known. If one fails, the verdict cannot be trusted.",
    ),
    Term(
        "Exposure score and p-value",
        "How much more the unlearned model looks trained on a record than models that never saw it; the "
        "p-value is the chance of such a score for a record that was never seen.",
        "score lower, p-value higher",
        "no more records flagged than in the held-out retrained model",
    ),
    Term(
        "Cost",
        "Time for forgetting, preparation included, against retraining on the same machine. An epoch is "
        "one pass over the full training set.",
        "lower",
        "well below the cost of retraining",
    ),
    Term("Fingerprint", "A checksum that changes when a single byte of the model or data does."),
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
