"""MATLAB's files: what SciPy writes is read as SciPy reads it, and a damaged file is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from unteach.data.matlab import read_matlab
from unteach.types import Refusal

RNG = np.random.default_rng(0)
ARRAYS = {
    "bytes": RNG.integers(0, 256, (5, 4, 3, 2), dtype=np.uint8),
    "long": RNG.integers(-(2**40), 2**40, (1, 7)),
    "small": np.array([[3]], dtype=np.int16),
    "floats": RNG.random((3, 2)),
    "halves": RNG.random((2, 3)).astype(np.float32),
    "none": np.zeros((0, 3)),
}


@pytest.mark.parametrize("compressed", [False, True])
def test_it_reads_as_scipy_reads(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "a.mat"
    savemat(path, {"text": "abc", "complex": np.array([[1j]]), "struct": {"a": 1}, **ARRAYS}, do_compression=compressed)
    for name, array in ARRAYS.items():
        found, theirs = read_matlab(path, name), loadmat(path)[name]
        assert found.dtype == theirs.dtype == array.dtype
        assert np.array_equal(found, array)
    for name in ("text", "complex", "struct", "absent"):
        with pytest.raises(Refusal, match="no such array of numbers"):
            read_matlab(path, name)


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    savemat(path, {"a": np.arange(20)}, do_compression=True)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(Refusal, match="expected MATLAB's table a in"):
            read_matlab(path, "a")
