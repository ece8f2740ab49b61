"""Shear, zoom and colour jitter of whole batches of images, every image by draws of its own."""

from __future__ import annotations

import torch

from unteach.types import Refusal

LUMA = (0.299, 0.587, 0.114)

Among = tuple[int, slice]
"""Of how many images these are which: draws are made for all, so that processes that share them out vary them as one would."""


def warp(
    images: torch.Tensor, shear: float, zoom: float, generator: torch.Generator, among: Among | None = None
) -> torch.Tensor:
    """Every image slanted and scaled about its centre: one affine grid and one nearest lookup for the batch.

    ``images``: floats ``n × c × h × w``. ``shear``: degrees; an angle a is drawn uniformly in ± shear. ``zoom``: a scale s is
    drawn uniformly in 1 ± zoom. What is 0 draws nothing. A pixel at (x, y) from the centre, in pixels to the right and
    downwards, shows what was at ((x + y tan a) / s, y / s), rounded to the nearest pixel; black where that lies outside.
    Returns: new images of the same shape, channels_last.
    *Source:* torchvision's RandomAffine(degrees=0, shear=shear, scale=(1 − zoom, 1 + zoom)) with its defaults, nearest and
    zero fill; MUFAC's training (Choi & Na, Towards Machine Unlearning Benchmarks, 2023, arXiv 2311.02240, authors' code) has
    shear 10 and zoom 0.2.
    *Departs:* where the place looked up is half-way between two pixels, they may choose the other one.
    """
    number, _, height, width = images.shape
    theta = torch.eye(2, 3).repeat(number, 1, 1)
    if shear:
        angles = torch.deg2rad(_uniform(number, -shear, shear, generator, among))
        theta[:, 0, 1] = torch.tan(angles) * (height / width)  # the grid counts half heights and half widths
    if zoom:
        theta /= _uniform(number, 1 - zoom, 1 + zoom, generator, among)[:, None, None]
    functional = torch.nn.functional
    grid = functional.affine_grid(theta.to(images.device), list(images.shape), align_corners=False)
    warped = functional.grid_sample(images, grid, mode="nearest", padding_mode="zeros", align_corners=False)
    return warped.contiguous(memory_format=torch.channels_last)


def jitter(
    images: torch.Tensor,
    brightness: float,
    contrast: float,
    saturation: float,
    generator: torch.Generator,
    among: Among | None = None,
) -> torch.Tensor:
    """Every image blended with black, then with its own mean grey, then with its grey version; cut to 0–1 after each.

    ``images``: floats ``n × c × h × w`` in 0–1, changed in place. For each setting that is not 0, and for no other, a factor f
    is drawn per image, uniformly in 1 ± setting but not below 0; the image becomes f × image + (1 − f) × other. Grey is
    0.299 red + 0.587 green + 0.114 blue (ITU-R 601); on one-channel images it is the image, and saturation does nothing.
    Returns: the images, in 0–1. Raises: Refusal where grey is asked of neither one nor three channels.
    *Source:* torchvision's ColorJitter(brightness, contrast, saturation); MUFAC's training (Choi & Na, 2023, arXiv
    2311.02240, authors' code) has 0.2 for each.
    *Departs:* the order is fixed, brightness, contrast, saturation, where ColorJitter draws one per image; nothing is
    rounded to 8 bits on the way, as Pillow does, nor the mean grey; weights of grey as Pillow's (on tensors torchvision has
    0.2989 for red, so that grey pixels would not quite stay).
    """
    if brightness:
        images = _blend(images, torch.zeros((), device=images.device), _factors(images, brightness, generator, among))
    if contrast:
        mean = _grey(images).mean((1, 2, 3), keepdim=True)
        images = _blend(images, mean, _factors(images, contrast, generator, among))
    if saturation and images.shape[1] != 1:
        images = _blend(images, _grey(images), _factors(images, saturation, generator, among))
    return images


def _blend(images: torch.Tensor, other: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    return images.mul_(factors).add_((1 - factors) * other).clamp_(0, 1)


def _factors(images: torch.Tensor, setting: float, generator: torch.Generator, among: Among | None) -> torch.Tensor:
    drawn = _uniform(len(images), max(0.0, 1 - setting), 1 + setting, generator, among)
    return drawn.to(images.device)[:, None, None, None]


def _grey(images: torch.Tensor) -> torch.Tensor:
    """Brightness as the eye sees it, ``n × 1 × h × w``."""
    channels = images.shape[1]
    if channels == 1:
        return images
    if channels != 3:
        raise Refusal(
            f"expected images of 1 or 3 channels for contrast and saturation, got {channels} channels; set both to 0"
        )
    return (images * torch.tensor(LUMA, device=images.device)[:, None, None]).sum(1, keepdim=True)


def _uniform(number: int, low: float, high: float, generator: torch.Generator, among: Among | None) -> torch.Tensor:
    total, part = among or (number, slice(None))
    return (low + (high - low) * torch.rand(total, generator=generator))[part]
