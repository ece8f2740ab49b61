"""ResNet-18 in three dresses, and VGG-19 with batch norm."""

from __future__ import annotations

import torch
from torch import nn

from unteach.models.layers import Normalise


class BasicBlock(nn.Module):
    """Two 3 × 3 convolutions and a shortcut. *Source:* He et al., 2015, arXiv 1512.03385, figure 5."""

    def __init__(self, into: int, out: int, stride: int, halve: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(into, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU()
        self.downsample: nn.Module = nn.Identity()
        # AMUN halves the sum only where the shortcut has a convolution.
        self.factor = 1.0
        if stride != 1 or into != out:
            self.downsample = nn.Sequential(nn.Conv2d(into, out, 1, stride, bias=False), nn.BatchNorm2d(out))
            self.factor = 0.5 if halve else 1.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        path = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out: torch.Tensor = self.relu((path + self.downsample(x)) * self.factor)
        return out


def resnet18(channels: int, classes: int, *, stem: str = "cifar", halve: bool = False) -> nn.Sequential:
    """ResNet-18, 11.2 M parameters. Names follow torchvision's (``layer1.0.conv1`` …, ``fc``).

    ``stem="cifar"``: 3 × 3 stride 1 without pooling, for 32 × 32 and 64 × 64 images. ``stem="imagenet"``: 7 × 7 stride 2
    and max pool, torchvision's, for 128-pixel faces (MUFAC). ``halve=True`` is AMUN's network: where a shortcut has a
    convolution the block gives half the sum of both branches, and pixels are not standardised.
    *Source:* AMUN (Ebrahimpour-Boroojeny et al., 2025, arXiv 2503.00917) section 6 and its public code, for ``halve``.
    """
    mean, std = ([0.0] * channels, [1.0] * channels) if halve else ([0.5] * channels, [0.25] * channels)
    net = nn.Sequential()
    net.add_module("scale_pixels", Normalise(mean, std))
    if stem == "cifar":
        net.add_module("conv1", nn.Conv2d(channels, 64, 3, 1, 1, bias=False))
    else:
        net.add_module("conv1", nn.Conv2d(channels, 64, 7, 2, 3, bias=False))
    net.add_module("bn1", nn.BatchNorm2d(64))
    net.add_module("relu", nn.ReLU())
    if stem != "cifar":
        net.add_module("maxpool", nn.MaxPool2d(3, 2, 1))
    for number, (into, out, stride) in enumerate(((64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)), 1):
        blocks = nn.Sequential(BasicBlock(into, out, stride, halve), BasicBlock(out, out, 1, halve))
        net.add_module(f"layer{number}", blocks)
    net.add_module("avgpool", nn.AdaptiveAvgPool2d(1))
    net.add_module("flatten", nn.Flatten())
    net.add_module("fc", nn.Linear(512, classes))
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return net


def vgg19_bn(channels: int, classes: int, size: int) -> nn.Sequential:
    """VGG-19 with batch norm: 16 convolutions in 5 stages and one linear layer, 20 M parameters for 32 × 32 images.

    *Source:* Simonyan and Zisserman, 2014, arXiv 1409.1556, column E; AMUN uses it for Tiny-ImageNet, where five
    poolings of 64 pixels leave 2 × 2 × 512 = 2,048 features, its "classifier 2048 → 200".
    """
    if size < 32:
        raise ValueError(f"expected images of at least 32 pixels for vgg19-bn, got {size}; use small-cnn")
    net = nn.Sequential(Normalise([0.5] * channels, [0.25] * channels))
    into = channels
    for out, depth in ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4)):
        for _ in range(depth):
            net.extend([nn.Conv2d(into, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()])
            into = out
        net.append(nn.MaxPool2d(2))
    return net.extend([nn.Flatten(), nn.Linear(512 * (size // 32) ** 2, classes)])
