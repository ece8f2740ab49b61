"""Networks: a few of our own by name, anybody's by import path, timm and torchvision by prefix."""

from __future__ import annotations

from unteach.models.build import MODELS, WHITENING_SAMPLE, Blueprint, build, fresh, requires

__all__ = ["MODELS", "WHITENING_SAMPLE", "Blueprint", "build", "fresh", "requires"]
