"""Every term that the report explains, with direction and target where it is a number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unteach.report.reading import at, mappings


@dataclass(frozen=True)
class Term:
    """One glossary entry; ``direction`` and ``target`` are empty where the term is not a number."""

    name: str
    what: str
    direction: str = ""
    target: str = ""


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

FOR_MEASURES = (
    Term(
        "LiRA",
        "The likelihood-ratio attack: reference models trained with and without a record tell what the judged model’s "
        "confidence on it should be in either case. Offline, only models without it are used. It sees single records that "
        "stand out, which comparing records with one another cannot.",
        "nearer to the retrained models, on either side",
        "the retrained models’ AUC under the same attack",
    ),
    Term(
        "RMIA",
        "A likelihood-ratio attack that needs few reference models: a record is accused when its confidence, beside that of "
        "the references, beats the same ratio of most other records. The form of the AMUN paper has its own softmax.",
        "nearer to the retrained models, on either side",
        "the retrained models’ AUC under the same attack",
    ),
    Term(
        "U-LiRA and RULI",
        "Many models are made to forget by the same method. Can a model that forgot a record be told from models that "
        "never saw it? RULI asks this of the most vulnerable records apart.",
        "nearer to 0.5",
        "what models that never saw it give when played against each other",
    ),
    Term(
        "KLoM and the competition’s ε",
        "Distances, record by record, between the confidences of many unlearned and many retrained models. F is the share of "
        "the points that the NeurIPS 2023 competition gives for small ε.",
        "KLoM and ε lower, F higher",
        "what retrained models give among themselves",
    ),
    Term(
        "MIA-efficacy (SVC)",
        "Share of forgotten records that a support vector machine, fitted on the same model’s answers to retained and test "
        "records, takes for unseen. It has no ideal of its own.",
        "nearer to the retrained models, on either side",
        "the retrained models’ share",
    ),
    Term(
        "ToW, AUS, averaging gap",
        "Composites of accuracies (and an attack) in one number. They can hide one large difference among small ones.",
        "1 − ToW and the gap lower, AUS higher",
        "what retrained models give among themselves",
    ),
    Term(
        "Power",
        "How large a difference had to be for this audit to raise an alarm four times in five. An audit with little power "
        "finds nothing whatever it is shown.",
    ),
)

FOR_CLASSES = (
    Term(
        "Neighbour class",
        "The class to which most retrained models send most test images of the forgotten class.",
    ),
    Term(
        "Neighbour routing",
        "How the images of a forgotten class are shared out among the classes that stay, beside retrained models. Each "
        "of those is held out in turn and compared with the others: that is the range a model may lie in. The p-value "
        "is the share of all these models that stand out at least as much as the unlearned one; among R retrained "
        "models an exact retraining has the lowest one once in R + 1 times.",
        "p-value higher, distances lower, shares nearer to the retrained models",
        "inside the range of the retrained models among themselves",
    ),
    Term(
        "Total variation (TV)",
        "Distance between two ways of sharing out answers, 0 to 1: the part that would have to move to make them equal.",
        "lower",
        "not above the retrained models among themselves",
    ),
    Term(
        "MIA-NN leakage (CMIA)",
        "A classifier of the neighbour class, made from a retrained model’s answers, takes some images of the forgotten "
        "class for the neighbour’s. Leakage is how much larger that share is by the unlearned model’s answers than by "
        "the retrained model’s own, −1 to 1.",
        "nearer to zero, on either side",
        "0, no further off than retrained models judged by each other",
    ),
)


def terms(findings: Mapping[str, Any]) -> tuple[Term, ...]:
    """The glossary of these findings: terms about forgotten classes and further measures only when there are some."""
    further = FOR_MEASURES if mappings(at(findings, "measures")) else ()
    return GLOSSARY + further + (FOR_CLASSES if mappings(at(findings, "classes")) else ())
