"""torchvision beside a CPU build of torch."""

from __future__ import annotations

import sys
from types import ModuleType

import torch

from unteach.types import Refusal

_schemas: list[torch.library.Library] = []  # a library that is collected takes its schemas along


def import_torchvision() -> ModuleType:
    """Import torchvision, also where its wheel was built for CUDA and torch was not.

    There the import fails since the operators of ``torchvision.ops`` were never registered; naming their schemas is
    enough for models, transforms and data sets. ``ops.nms`` itself then does not work, which nothing here needs.
    """
    try:
        import torchvision
    except ImportError as error:
        raise Refusal(
            "expected torchvision to be installed, got no such package; do pip install 'unteach[vision]'"
        ) from error
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
        library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
        _schemas.append(library)
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # type: ignore[no-untyped-call]
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        import torchvision
    module: ModuleType = torchvision
    return module
