"""Unlearning methods: a model and a split in, a new model out. One file per method; this table is the list."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from unteach.methods.amun import Amun
from unteach.methods.aru import Aru
from unteach.methods.bad_teacher import BadTeacher
from unteach.methods.boundary_expand import BoundaryExpand
from unteach.methods.boundary_shrink import BoundaryShrink
from unteach.methods.cf_k import CfK
from unteach.methods.convolution_transpose import ConvolutionTranspose
from unteach.methods.dau import Dau
from unteach.methods.eu_k import EuK
from unteach.methods.finetune import FineTune
from unteach.methods.fisher import Fisher
from unteach.methods.gradient_ascent import GradientAscent
from unteach.methods.influence import Influence
from unteach.methods.l1_sparse import L1Sparse
from unteach.methods.masked_small_gradients import MaskedSmallGradients
from unteach.methods.neggrad_plus import NegGradPlus
from unteach.methods.random_label import RandomLabel
from unteach.methods.retrain import Retrain
from unteach.methods.salun import SalUn
from unteach.methods.scrub import Scrub
from unteach.methods.sisa import Sisa
from unteach.methods.ssd import Ssd
from unteach.methods.svd_removal import SvdRemoval
from unteach.methods.trw import Trw
from unteach.methods.uam import Uam
from unteach.methods.unsir import BatchNoise, Unsir
from unteach.train import Sgd
from unteach.types import Method

# A partial is a method under other defaults, with a name of its own.
METHODS: dict[str, Callable[..., Method]] = {
    "amun": Amun,
    "amun-forget-only": partial(Amun, use_retain=False),
    "amun-adv-only": partial(Amun, use_forget=False),
    "amun-salun": partial(Amun, saliency=0.5),
    "amun-salun-forget-only": partial(Amun, saliency=0.5, use_retain=False),
    "aru": Aru,
    "dau": Dau,
    "trw": Trw,
    "rwft": partial(Trw, beta=0.0),
    "retrain": Retrain,
    "sisa": Sisa,
    "finetune": FineTune,
    "gradient-ascent": GradientAscent,
    "neggrad-plus": NegGradPlus,
    "random-label": RandomLabel,
    "random-label-forget-only": partial(RandomLabel, use_retain=False),
    # Amnesiac unlearning (Graves et al., 2020, arXiv 2010.10981) as it is run in practice: its exact half subtracts the
    # updates of batches, which nobody records.
    "amnesiac": partial(RandomLabel, optim=Sgd(lr=0.01, epochs=3, schedule="constant")),
    "salun": SalUn,
    "salun-forget-only": partial(SalUn, use_retain=False),
    "l1-sparse": L1Sparse,
    "scrub": Scrub,
    "scrub-r": partial(Scrub, rewind=True),
    "bad-teacher": BadTeacher,
    "ssd": Ssd,
    "lfssd": partial(Ssd, labels=False),
    "fisher": Fisher,
    "influence": Influence,
    "masked-small-gradients": MaskedSmallGradients,
    "convolution-transpose": ConvolutionTranspose,
    "uam": Uam,
    "cf-k": CfK,
    "eu-k": EuK,
    "unsir": Unsir,
    "unsir-batch": partial(Unsir, noise=BatchNoise(), optim=Sgd(lr=0.1, epochs=2, batch=64, schedule="constant")),
    "boundary-shrink": BoundaryShrink,
    # As AMUN's authors code it.
    "boundary-shrink-retain": partial(BoundaryShrink, use_retain=True, refresh=True, optim=Sgd(lr=0.01, epochs=5)),
    "boundary-expand": BoundaryExpand,
    "svd-removal": SvdRemoval,
}

__all__ = [
    "METHODS",
    "Amun",
    "Aru",
    "BadTeacher",
    "BatchNoise",
    "BoundaryExpand",
    "BoundaryShrink",
    "CfK",
    "ConvolutionTranspose",
    "Dau",
    "EuK",
    "FineTune",
    "Fisher",
    "GradientAscent",
    "Influence",
    "L1Sparse",
    "MaskedSmallGradients",
    "NegGradPlus",
    "RandomLabel",
    "Retrain",
    "SalUn",
    "Scrub",
    "Sisa",
    "Ssd",
    "SvdRemoval",
    "Trw",
    "Uam",
    "Unsir",
]
