"""Networks: a few of our own by name, anybody's by import path, those of timm, torchvision and Hugging Face by prefix."""

from __future__ import annotations

from unteach.models.build import MODELS, OUTSIDE, WHITENING_SAMPLE, Blueprint, build, fresh, requires
from unteach.models.preprocess import Preprocess

__all__ = ["MODELS", "OUTSIDE", "WHITENING_SAMPLE", "Blueprint", "Preprocess", "build", "fresh", "requires"]
