"""What evidence says of itself, in plain words."""

from __future__ import annotations

CLOCK = "The time is what this machine's own clock said; nobody else has witnessed it."

PROVES = (
    "The files that were checked are, to the bit, those that were there when the evidence was made.",
    "They belong together: the new model names the old one, and the audit judged it for as many records as are on the list.",
    "If it is signed, whoever held the private key stood behind exactly this statement.",
    "A record's owner who is given a proof can show that this record is on the list, without learning of any other.",
)

DOES_NOT_PROVE = (
    "That the computation was done as it says: it tells what the files hold, not how they came about.",
    "That the information is gone from the model: the audit is a measurement, and a stronger one may still find a trace.",
    "That the records were erased elsewhere: the data themselves, backups, earlier checkpoints, models made from them.",
    "That the list is complete, or who asked for it.",
    "When it happened. " + CLOCK,
    "Anything about the law: it is a record of files and measurements and settles no legal question.",
)

UNSIGNED = "It is not signed: whoever can change these files can also make new evidence for them."
