"""The usual way of training: torch's DataLoader over PIL images, fp32, NCHW, eager.

RandomCrop, RandomHorizontalFlip and ToTensor are those of torchvision 0.28 restated with PIL and NumPy, since torchvision is
not needed here. Network, start, batch, optimiser, schedule and number of samples are those of the arm beside it; both
standardise pixels in the network.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageOps

from unteach.data import Augment
from unteach.schedule import rate
from unteach.train import Sgd
from unteach.types import Examples


class PilImages(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    """One PIL image at a time, cropped, mirrored and made a tensor, as torchvision's data sets and transforms do."""

    def __init__(self, examples: Examples, augment: Augment) -> None:
        images = examples.inputs.permute(0, 2, 3, 1).contiguous().numpy()
        self.images = images[..., 0] if images.shape[-1] == 1 else images
        self.labels = examples.labels.tolist()
        self.augment = augment

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = Image.fromarray(self.images[index])
        width, height = image.size
        if crop := self.augment.crop:
            image = ImageOps.expand(image, border=crop, fill=0)
            top = int(torch.randint(0, 2 * crop + 1, size=(1,)).item())
            left = int(torch.randint(0, 2 * crop + 1, size=(1,)).item())
            image = image.crop((left, top, left + width, top + height))
        if self.augment.flip and torch.rand(1) < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pixels = torch.from_numpy(np.array(image, np.uint8, copy=True))
        pixels = pixels.view(height, width, -1).permute((2, 0, 1)).contiguous()
        return pixels.to(dtype=torch.get_default_dtype()).div(255), self.labels[index]


def peer_fit(model: torch.nn.Module, examples: Examples, augment: Augment, optim: Sgd, seed: int) -> None:
    """The training loop of the tutorials."""
    torch.manual_seed(seed)
    loader = torch.utils.data.DataLoader(PilImages(examples, augment), batch_size=optim.batch, shuffle=True)
    optimizer = torch.optim.SGD(
        [weight for weight in model.parameters() if weight.requires_grad],
        lr=optim.lr,
        momentum=optim.momentum,
        weight_decay=optim.weight_decay,
        nesterov=optim.nesterov,
    )
    model.train()
    for epoch in range(optim.epochs):
        total = 0.0
        for step, (x, y) in enumerate(loader):
            for group in optimizer.param_groups:
                group["lr"] = optim.lr * rate(optim.schedule, epoch + step / len(loader), optim.epochs)
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            total += loss.item()
    model.eval()
