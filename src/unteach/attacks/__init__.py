"""Perturbed inputs that a model reads wrongly: projected gradient ascent, and the nearest adversarial
example."""

from __future__ import annotations

from unteach.attacks.fgsm import Fgsm
from unteach.attacks.found import Found
from unteach.attacks.nearest import Nearest
from unteach.attacks.pgd import PgdL2, PgdLinf, pgd_l2, pgd_linf
from unteach.attacks.schedule import Schedule

ATTACKS: dict[str, type[PgdL2 | PgdLinf | Schedule | Nearest | Fgsm]] = {
    "pgd-l2": PgdL2,
    "pgd-linf": PgdLinf,
    "schedule": Schedule,
    "nearest": Nearest,
    "fgsm": Fgsm,
}

__all__ = ["ATTACKS", "Fgsm", "Found", "Nearest", "PgdL2", "PgdLinf", "Schedule", "pgd_l2", "pgd_linf"]
