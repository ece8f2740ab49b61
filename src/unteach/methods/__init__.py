"""Unlearning methods: a model and a split in, a new model out. One file per method; this table is the list."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from unteach.methods.amun import Amun
from unteach.methods.aru import Aru
from unteach.methods.dau import Dau
from unteach.methods.finetune import FineTune
from unteach.methods.gradient_ascent import GradientAscent
from unteach.methods.neggrad_plus import NegGradPlus
from unteach.methods.random_label import RandomLabel
from unteach.methods.retrain import Retrain
from unteach.methods.trw import Trw
from unteach.types import Method

# A partial is a method under other defaults, with a name of its own.
METHODS: dict[str, Callable[..., Method]] = {
    "amun": Amun,
    "amun-forget-only": partial(Amun, use_retain=False),
    "amun-adv-only": partial(Amun, use_forget=False),
    "amun-salun": partial(Amun, saliency=0.5),
    "aru": Aru,
    "dau": Dau,
    "trw": Trw,
    "rwft": partial(Trw, beta=0.0),
    "retrain": Retrain,
    "finetune": FineTune,
    "gradient-ascent": GradientAscent,
    "neggrad-plus": NegGradPlus,
    "random-label": RandomLabel,
}

__all__ = [
    "METHODS",
    "Amun",
    "Aru",
    "Dau",
    "FineTune",
    "GradientAscent",
    "NegGradPlus",
    "RandomLabel",
    "Retrain",
    "Trw",
]
