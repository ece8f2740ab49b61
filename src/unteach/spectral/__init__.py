"""Layers as linear maps: their singular values, clipping them (FastClip), and what that says about the whole network.

``unteach.spectral.lipschitz`` bounds a whole network; it is imported by its own name, since its tables need torch at once.
"""

from __future__ import annotations

from unteach.spectral.clip import Clip
from unteach.spectral.clipper import Bound, Clipper
from unteach.spectral.divide import Gouk, Miyato, reshaped_norm
from unteach.spectral.layers import Layer, layers_of
from unteach.spectral.operator import LinearMap, check_linear, materialise
from unteach.spectral.values import Lanczos, PowerQR, Singular, norm, spectrum

__all__ = [
    "Bound",
    "Clip",
    "Clipper",
    "Gouk",
    "Lanczos",
    "Layer",
    "LinearMap",
    "Miyato",
    "PowerQR",
    "Singular",
    "check_linear",
    "layers_of",
    "materialise",
    "norm",
    "reshaped_norm",
    "spectrum",
]
