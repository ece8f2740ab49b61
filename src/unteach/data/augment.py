"""Images resident as one uint8 tensor, crops and flips by one gather per batch, and what else varies them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields

import torch

from unteach.data.vary import jitter, warp
from unteach.mapped import Mapped
from unteach.types import Refusal
from unteach.user_code import pin, unpin

LATER = {"later": True}  # settings that earlier runs had not: they are told only when they are on, see ``store.record``


@dataclass(frozen=True, kw_only=True)
class Augment:
    """How training images are varied, drawn anew per image and batch; all off by default.

    In this order: a crop at a random place of the padded image, a mirror image half the time, shear and zoom about the
    centre, brightness, contrast, saturation, a function of the user's own. Feature vectors are varied by the last alone.
    *Source:* crop and flip are the usual recipe for CIFAR (He et al., 2015, arXiv 1512.03385, section 4.2), as torchvision's
    RandomCrop(size, padding) and RandomHorizontalFlip; the others as its RandomAffine and ColorJitter, for MUFAC (Choi & Na,
    2023, arXiv 2311.02240, authors' code): ``Augment(flip=True, shear=10, zoom=0.2, brightness=0.2, contrast=0.2,
    saturation=0.2)``.
    *Departs:* brightness, contrast and saturation always come in this order, where ColorJitter draws one per image.
    """

    crop: int = 0
    """Pixels of padding on every side before the random crop; 0 for none."""
    flip: bool = False
    """Whether half of the images, drawn anew each time, are mirrored left to right."""
    reflect: bool = field(default=False, metadata=LATER)
    """Whether the padding mirrors the image at its edge instead of being black; less is lost in short trainings."""
    shear: float = field(default=0.0, metadata=LATER)
    """Most degrees, below 90, by which upright lines are slanted to either side, filled with black; 0 for none."""
    zoom: float = field(default=0.0, metadata=LATER)
    """Most by which the scale differs from 1, below 1: with 0.2 it is 0.8 to 1.2; smaller images are framed in black."""
    brightness: float = field(default=0.0, metadata=LATER)
    """Most by which the factor on all pixels differs from 1: with 0.2 it is 0.8 to 1.2, and never below 0."""
    contrast: float = field(default=0.0, metadata=LATER)
    """Most by which the factor on the distance from the image's mean grey differs from 1; never below 0."""
    saturation: float = field(default=0.0, metadata=LATER)
    """Most by which the factor on the distance from the grey image differs from 1; nothing on one-channel images."""
    own: str = field(default="", metadata=LATER | {"pin": pin})
    """Your own function (inputs, generator) -> inputs, as file.py:NAME or pkg.module:NAME: floats of a batch, images
    n × c × h × w in 0-1, to floats of that shape; it draws from the torch.Generator alone, which lives on the CPU."""

    def __post_init__(self) -> None:
        if self.crop < 0:
            raise Refusal(f"expected crop to be 0 or more pixels, got {self.crop}; it is the padding before the crop")
        if not 0 <= self.shear < 90:
            raise Refusal(f"expected shear to be at least 0 and below 90 degrees, got {self.shear}; 10 is usual")
        if not 0 <= self.zoom < 1:
            raise Refusal(f"expected zoom to be at least 0 and below 1, got {self.zoom}; 0.2 scales by 0.8 to 1.2")
        for name in ("brightness", "contrast", "saturation"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise Refusal(f"expected {name} to be 0 or more, got {value}; 0.2 draws factors from 0.8 to 1.2")

    def __repr__(self) -> str:
        """Without later settings that are off: a stopped training is known again by these words."""
        told = [item.name for item in fields(self) if getattr(self, item.name) or not item.metadata]
        return f"Augment({', '.join(f'{name}={getattr(self, name)!r}' for name in told)})"


Vary = Callable[["torch.Tensor", "torch.Generator"], "torch.Tensor"]


class Resident:
    """All inputs of a data set on the device, ready to be gathered in batches.

    uint8 images ``n × c × h × w`` are kept as ``n × h × w × c``, padded once; float images and feature vectors are
    kept as they are. ``Mapped`` inputs stay on disk: each batch is read and laid out when its turn comes, to the same bytes.
    *Source:* measured in this project: one gather costs a fifteenth of a per-image pipeline.
    """

    def __init__(self, inputs: torch.Tensor, augment: Augment | None, device: torch.device) -> None:
        self.images = inputs.ndim == 4
        self.scale = 255.0 if inputs.dtype == torch.uint8 else 1.0
        self.augment, self.device = augment or Augment(), device
        self.own = unpin(self.augment.own) if self.augment.own else None
        if self.images:
            self.height, self.width = inputs.shape[2:]
            pad = self.augment.crop
            self.padded_height, self.padded_width = self.height + 2 * pad, self.width + 2 * pad
            if pad >= min(self.height, self.width) and self.augment.reflect:
                raise Refusal(
                    f"expected crop below the image's {min(self.height, self.width)} pixels to reflect at its edge, got {pad}; "
                    "choose a smaller crop"
                )
            # Where the pixels of an uncropped, unflipped image stand, from its first one on.
            rows = torch.arange(self.height, device=device)[:, None] * self.padded_width
            self.still = (rows + torch.arange(self.width, device=device)).flatten()
        self.mapped = inputs if isinstance(inputs, Mapped) else None
        self.pixels = self._laid_out(inputs) if self.mapped is None else None

    def _laid_out(self, inputs: torch.Tensor) -> torch.Tensor:
        """These inputs as they are kept on the device, images pixel by pixel: ``pixels × c``."""
        if not self.images:
            return inputs.to(self.device)
        pad = self.augment.crop
        if pad and self.augment.reflect:
            padded = torch.nn.functional.pad(inputs.float(), (pad,) * 4, mode="reflect").to(inputs.dtype)
            laid_out = padded.permute(0, 2, 3, 1)
        else:
            laid_out = torch.nn.functional.pad(inputs.permute(0, 2, 3, 1), (0, 0, pad, pad, pad, pad))
        return laid_out.reshape(-1, inputs.shape[1]).contiguous().to(self.device)

    def batch(self, index: torch.Tensor, generator: torch.Generator, part: slice = slice(None)) -> torch.Tensor:
        """The inputs at these positions as floats, pixels in 0–1, images in channels_last; of these the ``part`` is given.

        ``generator`` lives on the CPU; everything that varies is drawn from it, for all the positions, and nothing where
        nothing does.
        """
        if len(index) and not len(index[part]):  # all is drawn even so
            return self.batch(index, generator, slice(1))[:0]
        if self.own is not None:  # who knows what it draws: every process lets it draw for all
            return _varied(self.own, self._batch(index, generator, slice(None)), generator, self.augment.own)[part]
        return self._batch(index, generator, part)

    def _batch(self, index: torch.Tensor, generator: torch.Generator, part: slice) -> torch.Tensor:
        total, index = len(index), index[part]
        if self.pixels is None:
            assert self.mapped is not None
            pixels, index = self._laid_out(self.mapped[index]), torch.arange(len(index))
        else:
            pixels = self.pixels
        if not self.images:
            return pixels[index.to(self.device)].float()
        start = index * (self.padded_height * self.padded_width)
        crop = self.augment.crop
        if crop:
            shift = torch.randint(0, 2 * crop + 1, (2, total), generator=generator)[:, part]
            start = start + shift[0] * self.padded_width + shift[1]
        where = start.to(self.device)[:, None] + self.still
        if self.augment.flip:
            mirrored = torch.rand(total, generator=generator)[part] < 0.5
            where = torch.where(mirrored.to(where.device)[:, None], self._mirror(where), where)
        out = pixels.index_select(0, where.flatten()).float()
        if self.scale != 1:
            out.mul_(1 / self.scale)
        images = out.view(len(index), self.height, self.width, -1).permute(0, 3, 1, 2)
        vary, among = self.augment, (total, part)
        if vary.shear or vary.zoom:
            images = warp(images, vary.shear, vary.zoom, generator, among)
        return jitter(images, vary.brightness, vary.contrast, vary.saturation, generator, among)

    def _mirror(self, where: torch.Tensor) -> torch.Tensor:
        return where.view(-1, self.height, self.width).flip(2).flatten(1)


def _varied(own: Vary, inputs: torch.Tensor, generator: torch.Generator, code: str) -> torch.Tensor:
    made = own(inputs, generator)
    if not isinstance(made, torch.Tensor) or made.shape != inputs.shape or made.dtype != inputs.dtype:
        told = f"{made.dtype} {tuple(made.shape)}" if isinstance(made, torch.Tensor) else type(made).__name__
        raise Refusal(f"expected {inputs.dtype} {tuple(inputs.shape)} from {code}, got {told}; keep shape and type")
    return made
