"""Unlearning methods: a model and a split in, a new model out. One file per method; this table is the list."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from unteach.methods.amun import Amun
from unteach.methods.aru import Aru
from unteach.methods.bad_teacher import BadTeacher
from unteach.methods.dau import Dau
from unteach.methods.finetune import FineTune
from unteach.methods.gradient_ascent import GradientAscent
from unteach.methods.l1_sparse import L1Sparse
from unteach.methods.neggrad_plus import NegGradPlus
from unteach.methods.random_label import RandomLabel
from unteach.methods.retrain import Retrain
from unteach.methods.salun import SalUn
from unteach.methods.scrub import Scrub
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
    "salun": SalUn,
    "l1-sparse": L1Sparse,
    "scrub": Scrub,
    "scrub-r": partial(Scrub, rewind=True),
    "bad-teacher": BadTeacher,
}

__all__ = [
    "METHODS",
    "Amun",
    "Aru",
    "BadTeacher",
    "Dau",
    "FineTune",
    "GradientAscent",
    "L1Sparse",
    "NegGradPlus",
    "RandomLabel",
    "Retrain",
    "SalUn",
    "Scrub",
    "Trw",
]
