"""Images resident as one uint8 tensor, and crops and flips by one gather per batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from unteach.types import Refusal


@dataclass(frozen=True, kw_only=True)
class Augment:
    """How training images are varied: a crop at a random place of the zero-padded image, and a mirror image half the time.

    *Source:* the usual recipe for CIFAR (He et al., 2015, arXiv 1512.03385, section 4.2); the same as torchvision's
    RandomCrop(size, padding) and RandomHorizontalFlip, drawn per image.
    """

    crop: int = 0
    """Pixels of zero padding on every side before the random crop; 0 for none."""
    flip: bool = False
    """Whether half of the images, drawn anew each time, are mirrored left to right."""

    def __post_init__(self) -> None:
        if self.crop < 0:
            raise Refusal(f"expected crop to be 0 or more pixels, got {self.crop}; it is the padding before the crop")


class Resident:
    """All inputs of a data set on the device, ready to be gathered in batches.

    uint8 images ``n × c × h × w`` are kept as ``n × h × w × c``, zero-padded once; float images and feature vectors are
    kept as they are. *Source:* measured in this project: one gather costs a fifteenth of a per-image pipeline.
    """

    def __init__(self, inputs: torch.Tensor, augment: Augment | None, device: torch.device) -> None:
        self.images = inputs.ndim == 4
        self.scale = 255.0 if inputs.dtype == torch.uint8 else 1.0
        self.augment = (augment or Augment()) if self.images else Augment()
        if not self.images:
            self.pixels = inputs.to(device)
            return
        _, channels, self.height, self.width = inputs.shape
        pad = self.augment.crop
        self.padded_height, self.padded_width = self.height + 2 * pad, self.width + 2 * pad
        laid_out = torch.nn.functional.pad(inputs.permute(0, 2, 3, 1), (0, 0, pad, pad, pad, pad))
        self.pixels = laid_out.reshape(-1, channels).contiguous().to(device)
        # Where the pixels of an uncropped, unflipped image stand, from its first one on.
        rows = torch.arange(self.height, device=device)[:, None] * self.padded_width
        self.still = (rows + torch.arange(self.width, device=device)).flatten()

    def batch(self, index: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """The inputs at these positions as floats, pixels in 0–1, images in channels_last.

        ``generator`` lives on the CPU; crops and flips are drawn from it, and nothing where there are none.
        """
        if not self.images:
            return self.pixels[index.to(self.pixels.device)].float()
        start = index * (self.padded_height * self.padded_width)
        crop = self.augment.crop
        if crop:
            shift = torch.randint(0, 2 * crop + 1, (2, len(index)), generator=generator)
            start = start + shift[0] * self.padded_width + shift[1]
        where = start.to(self.pixels.device)[:, None] + self.still
        if self.augment.flip:
            mirrored = torch.rand(len(index), generator=generator) < 0.5
            where = torch.where(mirrored.to(where.device)[:, None], self._mirror(where), where)
        out = self.pixels.index_select(0, where.flatten()).float()
        if self.scale != 1:
            out.mul_(1 / self.scale)
        return out.view(len(index), self.height, self.width, -1).permute(0, 3, 1, 2)

    def _mirror(self, where: torch.Tensor) -> torch.Tensor:
        return where.view(-1, self.height, self.width).flip(2).flatten(1)
