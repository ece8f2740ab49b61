"""The method on CONTRIBUTING's first screen is one that works."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from made import blobs
from unteach.data import split
from unteach.plugins import method_named
from unteach.testing import check_method


def test_the_method_of_the_first_screen_keeps_the_contract(tmp_path: Path) -> None:
    text = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()
    file = tmp_path / "my_method.py"
    file.write_text(re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0])
    data = blobs()
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, len(data.classes)))
    check_method(method_named(f"{file}:MyMethod"), model.eval(), split(data, data.ids[:8].tolist()))
