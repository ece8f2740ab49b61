"""Handwritten digits, 1,797 grey images of 8 × 8: the data that are always there."""

from __future__ import annotations

import numpy as np

from unteach.data.dataset import DataSet, Where, checked, divided


def digits(where: Where) -> DataSet:
    """Handwritten digits (Alpaydin and Kaynak, UCI 1998), 1,797 grey images 8 × 8 from scikit-learn; a fifth is held out."""
    from sklearn.datasets import load_digits

    found = load_digits()
    pixels = np.rint(found.images * (255 / 16)).astype(np.uint8)[:, None]
    whole = checked("digits", pixels, found.target.astype(np.int64), classes=tuple("0123456789"))
    return divided("digits", whole, where.test_share)
