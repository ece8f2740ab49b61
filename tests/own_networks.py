"""Networks and checkpoints as users have them: of torchvision, timm and Hugging Face, for tables and for embeddings."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

CLASSES = 3
RECIPE = ("--recipe.optim.lr", "0.01", "--recipe.optim.epochs", "1", "--recipe.optim.batch", "20")
ONCE = ("--method", "finetune", "--optim.epochs", "1", "--optim.batch", "20", "--optim.lr", "0.001")
HERE = ("--device", "cpu", "--precision", "fp32")


class Table(nn.Module):
    """Five features in any unit; dropout, and a batch norm that counts its batches."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(5, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.1))
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.body(x))
        return out


class Encoder(nn.Module):
    """A transformer encoder on embeddings that were computed before, ``n × tokens × width``; a dictionary comes out."""

    def __init__(self, width: int = 8, layers: int = 1) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(width, 2, 16, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        hidden = self.encoder(x)
        return {"hidden": hidden, "logits": self.head(hidden.mean(1))}


class FrozenBackbone(nn.Module):
    """A backbone that is not trained, under a head that is."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten())
        self.backbone.requires_grad_(False)
        self.head = nn.Linear(96, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.backbone(x))
        return out


def resnet50() -> nn.Module:
    from unteach.models.vision import import_torchvision

    made: nn.Module = import_torchvision().models.resnet50(num_classes=CLASSES)
    return made


SMALL_VIT = {"img_size": 32, "patch_size": 8, "depth": 2, "embed_dim": 48, "num_heads": 3}


def timm_vit() -> nn.Module:
    from unteach.models.vision import import_torchvision

    import_torchvision()
    import timm

    made: nn.Module = timm.create_model("vit_tiny_patch16_224", num_classes=CLASSES, **SMALL_VIT)
    return made


def hugging_face_vit() -> nn.Module:
    from unteach.models.vision import import_torchvision

    import_torchvision()
    from transformers import ViTConfig, ViTForImageClassification

    sides = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = ViTConfig(**sides, image_size=32, patch_size=8, num_labels=CLASSES)
    made: nn.Module = ViTForImageClassification(config)
    return made


@dataclass(frozen=True, kw_only=True)
class Own:
    """A network as its user has it: how to make it bare, its checkpoint, its data, and the flags that name it.

    ``write(folder)`` puts its checkpoint and data.npz there; ``flags(folder)`` are of every verb with a --model, ``--data``
    included; ``read(file)`` is how the user loads such a file, strictly, into the bare network.
    """

    packages: tuple[str, ...]
    bare: Callable[[], nn.Module]
    file: str
    model: Callable[[Path], tuple[str, ...]]
    save: Callable[[nn.Module, Path], None]
    read: Callable[[Path], nn.Module]
    data: Callable[[Path], None]

    def checkpoint(self, folder: Path) -> Path:
        return folder / self.file

    def flags(self, folder: Path) -> tuple[str, ...]:
        return (*self.model(folder), "--data", f"npz:{folder / 'data.npz'}")

    def write(self, folder: Path) -> None:
        """The network's checkpoint and its data; skips the test where the library is not installed."""
        skip_without(*self.packages)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.save(self.bare(), self.checkpoint(folder))
        self.data(folder / "data.npz")


def images(path: Path, side: int = 32, count: int = 60) -> None:
    """Colour images whose class is their brightest channel, with an id each."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % CLASSES
    pixels = rng.integers(0, 120, (count, 3, side, side))
    pixels[np.arange(count), labels] += 100
    half = count // 2
    tests = {"test_x": pixels[:half][::-1].astype(np.uint8), "test_y": labels[:half][::-1]}
    np.savez(path, x=pixels.astype(np.uint8), y=labels, ids=[f"picture {n}" for n in range(count)], **tests)


def table(path: Path, count: int = 60) -> None:
    """Rows of five features in the hundreds."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % CLASSES
    rows = (300 + 50 * labels[:, None] + 20 * rng.standard_normal((count, 5))).astype(np.float32)
    np.savez(path, x=rows, y=labels, test_x=rows[: count // 2][::-1], test_y=labels[: count // 2][::-1])


def skip_without(*packages: str) -> None:
    """Skip the test where one of these is not installed; import torchvision as it can be beside a CPU build of torch."""
    from unteach.models.vision import import_torchvision

    if missing := [name for name in packages if importlib.util.find_spec(name) is None]:
        pytest.skip(f"{', '.join(missing)} not installed")
    if "torchvision" in packages:
        import_torchvision()


def _save_pretrained(model: nn.Module, path: Path) -> None:
    model.save_pretrained(path.parent)  # type: ignore[operator]
    told = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "do_normalize": True}
    (path.parent / "preprocessor_config.json").write_text(json.dumps(told))


def _from_pretrained(path: Path) -> nn.Module:
    """Where only the weights lie, the configuration of the small ViT comes beside them."""
    from transformers import ViTForImageClassification

    hugging_face_vit().config.save_pretrained(path.parent)  # type: ignore[operator,union-attr]
    model, told = ViTForImageClassification.from_pretrained(path.parent, output_loading_info=True)
    assert not any(told.values()), told
    made: nn.Module = model
    return made


def _read(bare: Callable[[], nn.Module], path: Path) -> nn.Module:
    model = bare()
    model.load_state_dict(torch.load(path, weights_only=True), strict=True)
    return model


def _read_lightning(path: Path) -> nn.Module:
    model = nn.ModuleDict({"model": Table()})  # as the module that Lightning trained holds it
    model.load_state_dict(torch.load(path, weights_only=True)["state_dict"], strict=True)
    return model["model"]


def _save(model: nn.Module, path: Path) -> None:
    torch.save(model.state_dict(), path)


def _save_lightning(model: nn.Module, path: Path) -> None:
    """As Lightning's trainer does, with what it adds."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    torch.save(
        {
            "epoch": 3,
            "global_step": 12,
            "pytorch-lightning_version": "2.6.6",
            "state_dict": {f"model.{name}": value for name, value in model.state_dict().items()},
            "loops": {"fit_loop": {"state_dict": {}}},
            "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.5)}},
            "optimizer_states": [optimizer.state_dict()],
            "lr_schedulers": [],
            "hyper_parameters": {"width": 16, "optimizer": "sgd"},
        },
        path,
    )


OWN = {
    "torchvision": Own(
        packages=("torchvision",),
        bare=resnet50,
        file="network.pth",
        model=lambda folder: (
            *("--model", "torchvision:resnet50", "--preprocess.mean", "0.485", "0.456", "0.406"),
            *("--preprocess.std", "0.229", "0.224", "0.225"),
        ),
        save=_save,
        read=partial(_read, resnet50),
        data=images,
    ),
    "timm": Own(
        packages=("torchvision", "timm"),
        bare=timm_vit,
        file="network.pt",
        model=lambda folder: ("--model", "timm:vit_tiny_patch16_224", "--model_args", json.dumps(SMALL_VIT)),
        save=_save,
        read=partial(_read, timm_vit),
        data=images,
    ),
    "hugging-face": Own(
        packages=("torchvision", "transformers"),
        bare=hugging_face_vit,
        file="model.safetensors",
        model=lambda folder: ("--model", f"hf:{folder}"),
        save=_save_pretrained,
        read=_from_pretrained,
        data=images,
    ),
    "table": Own(
        packages=(),
        bare=Table,
        file="network.ckpt",
        model=lambda folder: (*("--model", f"{__file__}:Table", "--preprocess.mean", "350", "--preprocess.std", "50"),),
        save=_save_lightning,
        read=_read_lightning,
        data=table,
    ),
}
