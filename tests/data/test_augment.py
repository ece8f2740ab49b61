"""Batches from resident images: against a slow reading of pad, crop and mirror, image by image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unteach.data import Augment, Resident
from unteach.types import Refusal

CPU = torch.device("cpu")


def images(n: int = 40, shape: tuple[int, ...] = (3, 6, 5)) -> torch.Tensor:
    """No two pixels of an image are alike, and none is black: every crop can be told from every other."""
    size = int(np.prod(shape))
    offsets = torch.arange(n)[:, None] % 100
    return (1 + (torch.arange(size) + offsets) % 254).to(torch.uint8).reshape(n, *shape)


def variants(image: np.ndarray, crop: int, flip: bool, reflect: bool = False) -> dict[bytes, tuple[int, int, bool]]:
    """Every picture that pad, crop and mirror can make of one image, one NumPy slice at a time."""
    _, height, width = image.shape
    padded = np.pad(image, ((0, 0), (crop, crop), (crop, crop)), mode="reflect" if reflect else "constant")
    made = {}
    for top in range(2 * crop + 1):
        for left in range(2 * crop + 1):
            cut = padded[:, top : top + height, left : left + width]
            for mirror in (False, True) if flip else (False,):
                made[(cut[:, :, ::-1] if mirror else cut).tobytes()] = (top, left, mirror)
    return made


def as_bytes(batch: torch.Tensor) -> list[bytes]:
    return [image.tobytes() for image in (batch * 255).round().to(torch.uint8).contiguous().numpy()]


@settings(max_examples=25, deadline=None)
@given(
    crop=st.integers(0, 3),
    flip=st.booleans(),
    reflect=st.booleans(),
    seed=st.integers(0, 2**31),
    rows=st.lists(st.integers(0, 39), min_size=1, max_size=9),
)
def test_every_picture_is_a_crop_or_mirror_of_its_own_image(
    crop: int, flip: bool, reflect: bool, seed: int, rows: list[int]
) -> None:
    raw = images()
    batch = Resident(raw, Augment(crop=crop, flip=flip, reflect=reflect), CPU).batch(
        torch.tensor(rows), torch.Generator().manual_seed(seed)
    )
    assert batch.dtype == torch.float32
    assert batch.shape == (len(rows), 3, 6, 5)
    for row, picture in zip(rows, as_bytes(batch)):
        assert picture in variants(raw[row].numpy(), crop, flip, reflect)


def test_every_crop_and_mirror_comes_up_about_as_often() -> None:
    raw = images(1)
    many = torch.zeros(9000, dtype=torch.long)
    batch = Resident(raw, Augment(crop=1, flip=True), CPU).batch(many, torch.Generator().manual_seed(1))
    kinds = variants(raw[0].numpy(), 1, True)
    counts = dict.fromkeys(kinds.values(), 0)
    for picture in as_bytes(batch):
        counts[kinds[picture]] += 1
    assert len(counts) == 18
    # 500 expected of each, standard deviation 22
    assert min(counts.values()) > 390
    assert max(counts.values()) < 610


def test_without_augmentation_it_is_the_pixels_over_255_and_draws_nothing() -> None:
    raw = images()
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    rows = torch.tensor([7, 0, 7])
    batch = Resident(raw, None, CPU).batch(rows, generator)
    torch.testing.assert_close(batch, raw[rows].float() / 255, rtol=1e-6, atol=0)
    assert torch.equal(generator.get_state(), before)
    assert batch.min() >= 0
    assert batch.max() <= 1


def test_white_stays_at_or_below_one() -> None:
    raw = torch.full((2, 1, 4, 4), 255, dtype=torch.uint8)
    assert Resident(raw, None, CPU).batch(torch.tensor([0]), torch.Generator()).max() <= 1


def test_same_generator_state_same_bytes_and_other_state_others() -> None:
    resident = Resident(images(), Augment(crop=2, flip=True), CPU)
    rows = torch.arange(40)
    one, again, other = (resident.batch(rows, torch.Generator().manual_seed(s)) for s in (3, 3, 4))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_float_images_go_the_same_way_as_bytes() -> None:
    raw, augment, rows = images(), Augment(crop=2, flip=True), torch.arange(40)
    of_bytes = Resident(raw, augment, CPU).batch(rows, torch.Generator().manual_seed(5))
    of_floats = Resident(raw.float() / 255, augment, CPU).batch(rows, torch.Generator().manual_seed(5))
    torch.testing.assert_close(of_bytes, of_floats, rtol=1e-6, atol=0)


def test_float_images_without_augmentation_keep_every_bit() -> None:
    raw = torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(Resident(raw, None, CPU).batch(torch.tensor([4, 1]), torch.Generator()), raw[[4, 1]])


def test_feature_vectors_pass_through_whatever_the_augmentation() -> None:
    raw = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    assert torch.equal(
        Resident(raw, Augment(crop=4, flip=True), CPU).batch(torch.tensor([2, 2]), generator), raw[[2, 2]]
    )
    assert torch.equal(generator.get_state(), before)


def test_batches_are_laid_out_channels_last() -> None:
    batch = Resident(images(), Augment(crop=1, flip=True), CPU).batch(torch.arange(8), torch.Generator())
    assert batch.is_contiguous(memory_format=torch.channels_last)


def test_negative_padding_is_refused() -> None:
    with pytest.raises(Refusal, match="crop"):
        Augment(crop=-1)


def test_an_image_reflects_no_further_than_itself() -> None:
    with pytest.raises(Refusal, match="expected crop below the image's 5 pixels"):
        Resident(images(), Augment(crop=5, reflect=True), CPU)
