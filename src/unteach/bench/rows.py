"""The rows of tables: which methods stand beside each other, and in whose settings."""

from __future__ import annotations

from dataclasses import replace

from unteach.bench.constant import Constant
from unteach.data.augment import Augment
from unteach.methods import METHODS, Aru, CfK, Dau, FineTune, GradientAscent, NegGradPlus, Scrub, Unsir
from unteach.methods.unsir import BatchNoise
from unteach.sensitivity import Sensitivity
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


def aru_readings(epochs: int, batch: int, augment: Augment | None = None) -> dict[str, Method]:
    """ARU in every reading of its text: which half is reset, by which noise, and to what."""
    optim = Sgd(lr=0.01, epochs=epochs, batch=batch, schedule=f"step:{max(1, epochs // 2)}", weight_decay=0.0)
    aru = Aru(optim=optim, augment=augment)
    random_noise = replace(aru.attack, steps=0)
    return {
        "finetune, same repair": FineTune(optim=optim, augment=augment),
        "aru smallest": aru,
        "aru largest": replace(aru, which="largest"),
        "aru random half": replace(aru, which="random"),
        "aru smallest, ascent": replace(aru, attack=replace(aru.attack, descend=False)),
        "aru smallest, random noise": replace(aru, attack=random_noise),
        "aru largest, random noise": replace(aru, which="largest", attack=random_noise),
        "aru smallest, fresh": replace(aru, reset="fresh"),
    }


def dau_methods(draws: int, pretraining: int, augment: Augment | None = None) -> dict[str, Method]:
    """DAU beside fine-tuning of the same steps."""
    dau = Dau(augment=augment, pretraining=pretraining, sensitivity=Sensitivity(draws=draws, chunk=draws))
    return {"finetune, same steps": FineTune(optim=dau.optim, augment=augment), "dau": dau}
