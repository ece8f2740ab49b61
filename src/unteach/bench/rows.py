"""The rows of tables: which methods stand beside each other, and in whose settings."""

from __future__ import annotations

from dataclasses import replace

from unteach.bench.constant import Constant
from unteach.data.augment import Augment
from unteach.methods import METHODS, Aru, CfK, FineTune, GradientAscent, NegGradPlus, Scrub, Unsir
from unteach.methods.unsir import BatchNoise
from unteach.train import Sgd
from unteach.types import Method

# AMUN's tables (arXiv 2503.00917), with and without access to the retained data.
AMUN = (
    "finetune",
    "random-label",
    "gradient-ascent",
    "boundary-shrink-retain",
    "l1-sparse",
    "salun",
    "amun",
    "amun-adv-only",
    "amun-salun",
)
AMUN_FORGET_ONLY = (
    "random-label-forget-only",
    "boundary-shrink",
    "salun-forget-only",
    "amun-forget-only",
    "amun-salun-forget-only",
)
# MUFAC's (arXiv 2311.02240), and ARU and AMUN beside them.
MUFAC = (
    "finetune",
    "cf-k",
    "gradient-ascent",
    "neggrad-plus",
    "unsir-batch",
    "scrub",
    "aru",
    "amun",
    "amun-adv-only",
)
CLASS = (
    "finetune",
    "random-label",
    "gradient-ascent",
    "salun",
    "scrub",
    "boundary-shrink",
    "boundary-expand",
    "unsir",
    "svd-removal",
    "rwft",
    "trw",
    "amun",
)
SMOOTH = ("finetune", "amun", "amun-adv-only", "amun-forget-only")
FEW = ("finetune", "random-label", "amun-adv-only")


def named(*names: str) -> dict[str, Method]:
    """Methods of the table by their names there, with its defaults."""
    return {name: METHODS[name]() for name in names}


def with_constant(rows: dict[str, Method]) -> dict[str, Method]:
    """These rows, and the model that has forgotten everything."""
    return rows | {"constant answer": Constant()}


def mufac_published(augment: Augment | None, k: int = 11) -> dict[str, Method]:
    """MUFAC's baselines in their authors' settings: batches of 64, no momentum, a rate of 0.001, two epochs.

    *Source:* Choi & Na, 2023, arXiv 2311.02240, and its public code. *Departs:* batch norm is in training mode in
    fine-tuning, where the code leaves it in evaluation mode by oversight; ``batch_norm="eval"`` does that.
    """
    optim = Sgd(lr=0.001, epochs=2, batch=64, momentum=0.0, weight_decay=0.0, schedule="constant")
    return {
        "finetune": FineTune(optim=optim, augment=augment),
        "finetune, frozen norms": FineTune(optim=replace(optim, batch_norm="eval"), augment=augment),
        "cf-3": CfK(k=k, drift=True, optim=optim, augment=augment),
        "neggrad": GradientAscent(optim=optim),
        "advanced neggrad": NegGradPlus(alpha=0.5, optim=optim, augment=augment),
        "unsir": Unsir(noise=BatchNoise(), optim=replace(optim, epochs=3)),
        "scrub": Scrub(optim=optim, msteps=2, augment=augment),
        "aru": Aru(augment=augment),
    }
