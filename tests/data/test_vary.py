"""Shear, zoom and colour jitter: against a slow reading image by image, closed forms, and what must not change."""

from __future__ import annotations

import hashlib
import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unteach.data import Augment, Resident
from unteach.data.vary import jitter, warp
from unteach.methods import FineTune
from unteach.store import record
from unteach.types import Refusal

CPU = torch.device("cpu")
MUFAC = Augment(flip=True, shear=10, zoom=0.2, brightness=0.2, contrast=0.2, saturation=0.2)
LATER = ("shear", "zoom", "brightness", "contrast", "saturation")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(n: int = 8, shape: tuple[int, ...] = (3, 9, 12), seed: int = 0) -> torch.Tensor:
    """Floats in 0.01–1: no pixel is as black as the frame."""
    return 0.01 + 0.99 * torch.rand(n, *shape, generator=seeded(seed))


def drawn(n: int, low: float, high: float, generator: torch.Generator) -> list[float]:
    return [low + (high - low) * float(u) for u in torch.rand(n, generator=generator)]


def looked_up(image: np.ndarray, angle: float, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """One image slanted by ``angle`` degrees and scaled, pixel by pixel; and which pixels are too close to half-way to say."""
    _, height, width = image.shape
    out, close = np.zeros_like(image), np.zeros((height, width), dtype=bool)
    for row in range(height):
        for column in range(width):
            x, y = column - (width - 1) / 2, row - (height - 1) / 2
            from_x = (x + y * math.tan(math.radians(angle))) / scale + (width - 1) / 2
            from_y = y / scale + (height - 1) / 2
            close[row, column] = any(abs(at - math.floor(at) - 0.5) < 1e-3 for at in (from_x, from_y))
            r, c = round(from_y), round(from_x)
            if 0 <= r < height and 0 <= c < width:
                out[:, row, column] = image[:, r, c]
    return out, close


@settings(max_examples=40, deadline=None)
@given(
    shear=st.sampled_from([0.0, 1.0, 10.0, 45.0, 80.0]),
    zoom=st.sampled_from([0.0, 0.05, 0.2, 0.9]),
    shape=st.sampled_from([(3, 9, 12), (1, 8, 8), (2, 5, 7), (3, 1, 6), (3, 6, 1)]),
    seed=st.integers(0, 2**31),
)
def test_warp_is_the_inverse_map_about_the_centre(shear: float, zoom: float, shape: tuple[int, ...], seed: int) -> None:
    images = noise(4, shape, seed)
    got = warp(images, shear, zoom, seeded(seed))
    again = seeded(seed)
    angles = drawn(4, -shear, shear, again) if shear else [0.0] * 4
    scales = drawn(4, 1 - zoom, 1 + zoom, again) if zoom else [1.0] * 4
    for image, angle, scale, result in zip(images.numpy(), angles, scales, got.numpy()):
        expected, close = looked_up(image, angle, scale)
        np.testing.assert_array_equal(result[:, ~close], expected[:, ~close])


def test_half_way_pixels_are_few() -> None:
    """Else the test above would compare nothing."""
    shares = [looked_up(np.ones((1, 9, 12)), angle, 1.1)[1].mean() for angle in (-9.3, 0.7, 8.1)]
    assert max(shares) < 0.05


def test_the_frame_is_black_and_the_middle_stays() -> None:
    white = torch.ones(200, 1, 9, 9)
    out = warp(white, 0, 0.5, seeded(0))
    assert set(out.unique().tolist()) == {0.0, 1.0}
    assert bool((out[:, :, 4, 4] == 1).all())
    framed = (out[:, 0, 0, 0] == 0).float().mean()  # scaled below 8/9, of 0.5 to 1.5: 0.39 of them
    assert 0.25 < float(framed) < 0.53
    slanted = warp(noise(50, (3, 9, 9)), 40, 0, seeded(0))
    assert torch.equal(slanted[:, :, 4], noise(50, (3, 9, 9))[:, :, 4]), "the middle row does not move"


def test_shear_and_zoom_leave_the_colours_of_pixels_alone() -> None:
    images = noise(20, (3, 16, 16))
    for image, out in zip(images, warp(images, 10, 0.2, seeded(2))):
        known = {tuple(pixel) for pixel in image.flatten(1).T.tolist()} | {(0.0, 0.0, 0.0)}
        assert {tuple(pixel) for pixel in out.flatten(1).T.tolist()} <= known


def test_brightness_is_a_factor() -> None:
    images = noise()
    out = jitter(images.clone(), 0.4, 0, 0, seeded(1))
    for image, got, factor in zip(images, out, drawn(8, 0.6, 1.4, seeded(1))):
        torch.testing.assert_close(got, (image * factor).clamp(0, 1))
    assert bool((jitter(torch.zeros(4, 3, 2, 2), 0.4, 0, 0, seeded(1)) == 0).all())


@pytest.mark.parametrize("value", [0.2, 1.0, 3.0])
def test_factors_fill_their_range_and_stay_above_zero(value: float) -> None:
    flat = torch.full((4000, 1, 1, 1), 0.2)
    factors = jitter(flat, value, 0, 0, seeded(3)).flatten() / 0.2
    low, high = max(0, 1 - value), 1 + value
    assert low <= float(factors.min()) < low + 0.01 * (high - low)
    assert high - 0.01 * (high - low) < float(factors.max()) <= high * (1 + 1e-6)
    assert abs(float(factors.mean()) - (low + high) / 2) < 0.03 * (high - low)


@pytest.mark.parametrize("channels", [1, 3])
def test_contrast_keeps_the_mean_grey_and_stretches_the_rest(channels: int) -> None:
    images = 0.4 + 0.2 * noise(8, (channels, 6, 5))  # nothing is cut off
    out = jitter(images.clone(), 0, 0.2, 0, seeded(1))
    luma = torch.tensor([0.299, 0.587, 0.114] if channels == 3 else [1.0])[:, None, None]
    for image, got, factor in zip(images, out, drawn(8, 0.8, 1.2, seeded(1))):
        mean = (image * luma).sum(0).mean()
        torch.testing.assert_close((got * luma).sum(0).mean(), mean)
        torch.testing.assert_close(got - mean, factor * (image - mean))
    flat = torch.full((4, channels, 3, 3), 0.3)
    torch.testing.assert_close(jitter(flat.clone(), 0, 0.9, 0, seeded(1)), flat)


def test_saturation_keeps_grey_pixels_and_the_luma_of_all() -> None:
    grey = noise(8, (1, 6, 5)).expand(-1, 3, -1, -1)
    torch.testing.assert_close(jitter(grey.clone(), 0, 0, 0.9, seeded(1)), grey)
    images = 0.4 + 0.2 * noise(8, (3, 6, 5))
    out = jitter(images.clone(), 0, 0, 0.2, seeded(1))
    luma = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    for image, got, factor in zip(images, out, drawn(8, 0.8, 1.2, seeded(1))):
        shade = (image * luma).sum(0)
        torch.testing.assert_close((got * luma).sum(0), shade)
        torch.testing.assert_close(got - shade, factor * (image - shade))


def test_jitter_is_brightness_then_contrast_then_saturation() -> None:
    images = noise()
    together, apart = seeded(4), seeded(4)
    step = jitter(images.clone(), 0.5, 0, 0, apart)
    step = jitter(step, 0, 0.6, 0, apart)
    step = jitter(step, 0, 0, 0.7, apart)
    assert torch.equal(jitter(images.clone(), 0.5, 0.6, 0.7, together), step)


def test_flip_then_warp_then_jitter() -> None:
    raw, rows = (noise(20, (3, 8, 8)) * 255).to(torch.uint8), torch.arange(20)
    whole = Resident(raw, replace(MUFAC, crop=1), CPU).batch(rows, seeded(7))
    by_hand = seeded(7)
    step = Resident(raw, Augment(crop=1, flip=True), CPU).batch(rows, by_hand)
    assert torch.equal(whole, jitter(warp(step, 10, 0.2, by_hand), 0.2, 0.2, 0.2, by_hand))


@pytest.mark.parametrize(
    ("crop", "flip", "expected"),
    [
        (0, False, "c1b28abaf07c09315007e7dd7c2eb965d4fe5e723c8cfda795aa51b684f915a1"),
        (0, True, "ab2031b2bdfc04261b6b04ae18a03f82a62faf3a0cf59492006114dbcc8580d5"),
        (2, False, "48f0d792c2acec690ad9084522c583279081f66264b8591d46877d3d7570bff9"),
        (2, True, "7d0e5e45ad98bb5c387c131dcc31aaddc8e2c98d4fa5e4d8be38430dd43e00af"),
    ],
)
def test_crops_and_flips_are_those_of_before_shear_and_jitter_came(crop: int, flip: bool, expected: str) -> None:
    """Check sums of batches and of the generator after them, from the code of commit ed0c54f."""
    raw = (1 + (torch.arange(90) + torch.arange(40)[:, None]) % 254).to(torch.uint8).reshape(40, 3, 6, 5)
    generator, digest = seeded(11), hashlib.sha256()
    resident = Resident(raw, Augment(crop=crop, flip=flip), CPU)
    for rows in torch.arange(40).split(16):
        digest.update(resident.batch(rows, generator).contiguous().numpy().tobytes())
    digest.update(generator.get_state().numpy().tobytes())
    assert digest.hexdigest() == expected


def test_keys_of_crops_and_flips_are_those_of_before_too() -> None:
    """Trained models and stopped trainings are found again by these."""
    before = Augment(crop=4, flip=True)
    assert repr(before) == "Augment(crop=4, flip=True)"
    assert record(before) == {"crop": 4, "flip": True}
    assert record(FineTune(augment=before))["augment"] == {"crop": 4, "flip": True}
    assert record(FineTune())["augment"] is None
    assert record(MUFAC) == {name: value for name, value in asdict(MUFAC).items() if name not in ("reflect", "own")}
    assert repr(replace(before, zoom=0.2)) == "Augment(crop=4, flip=True, zoom=0.2)"


@pytest.mark.parametrize(
    "augment", [MUFAC, Augment(shear=5), Augment(contrast=0.1), Augment(crop=2, reflect=True)], ids=repr
)
def test_a_recipe_comes_back_from_its_record(augment: Augment) -> None:
    assert Augment(**record(augment)) == augment
    assert eval(repr(augment)) == augment


@pytest.mark.parametrize("name", LATER)
def test_each_draws_one_number_an_image_and_what_is_off_none(name: str) -> None:
    raw, rows = (noise(6) * 255).to(torch.uint8), torch.tensor([3, 3, 0, 5])
    generator, expected = seeded(1), seeded(1)
    batch = Resident(raw, replace(Augment(), **{name: 0.3}), CPU).batch(rows, generator)
    torch.rand(4, generator=expected)
    assert torch.equal(generator.get_state(), expected.get_state())
    # shear by 0.3 degrees moves no pixel of so small an image
    assert (name == "shear") == torch.equal(batch, Resident(raw, None, CPU).batch(rows, seeded(1)))


def test_saturation_of_one_channel_does_and_draws_nothing() -> None:
    raw, rows = (noise(6, (1, 5, 4)) * 255).to(torch.uint8), torch.arange(6)
    generator = seeded(1)
    before = generator.get_state()
    batch = Resident(raw, Augment(saturation=0.9), CPU).batch(rows, generator)
    assert torch.equal(batch, Resident(raw, None, CPU).batch(rows, seeded(1)))
    assert torch.equal(generator.get_state(), before)


def test_same_generator_state_same_bytes_and_every_image_its_own() -> None:
    raw = (noise(1, (3, 16, 16)) * 255).to(torch.uint8)
    resident, rows = Resident(raw, MUFAC, CPU), torch.zeros(30, dtype=torch.long)
    one, again, other = (resident.batch(rows, seeded(s)) for s in (3, 3, 4))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert len({image.numpy().tobytes() for image in one.contiguous()}) == 30


def test_the_resident_images_stay_as_they_were() -> None:
    for raw in (noise(), (noise() * 255).to(torch.uint8)):
        kept, resident = raw.clone(), Resident(raw, MUFAC, CPU)
        pixels = resident.pixels.clone()
        resident.batch(torch.arange(8), seeded(0))
        assert torch.equal(raw, kept)
        assert torch.equal(resident.pixels, pixels)


share = st.floats(0, 0.999)
factor = st.one_of(st.floats(0, 2), st.sampled_from([0.0, 1e-9, 1e6]))


@settings(max_examples=60, deadline=None)
@given(
    augment=st.builds(
        Augment,
        crop=st.integers(0, 2),
        flip=st.booleans(),
        shear=st.one_of(st.just(0.0), st.floats(0, 89.999)),
        zoom=share,
        brightness=factor,
        contrast=factor,
        saturation=factor,
    ),
    shape=st.sampled_from([(3, 6, 5), (1, 4, 4), (3, 1, 1), (1, 7, 2)]),
    floats=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_pixels_stay_in_range_and_layout(augment: Augment, shape: tuple[int, ...], floats: bool, seed: int) -> None:
    raw = torch.rand(5, *shape, generator=seeded(seed)).round(decimals=1)  # some are black, some white
    given_as = raw if floats else (raw * 255).to(torch.uint8)
    batch = Resident(given_as, augment, CPU).batch(torch.tensor([4, 0, 0]), seeded(seed))
    assert batch.dtype == torch.float32
    assert batch.shape == (3, *shape)
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert bool(((batch >= 0) & (batch <= 1)).all())


def test_feature_vectors_pass_through() -> None:
    raw, generator = torch.randn(5, 7, generator=seeded(0)), seeded(0)
    before = generator.get_state()
    assert torch.equal(Resident(raw, MUFAC, CPU).batch(torch.tensor([2, 2]), generator), raw[[2, 2]])
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("name", ["contrast", "saturation"])
def test_grey_of_other_channels_is_refused(name: str) -> None:
    resident = Resident(noise(3, (4, 5, 5)), replace(Augment(), **{name: 0.2}), CPU)
    with pytest.raises(Refusal, match="1 or 3 channels"):
        resident.batch(torch.arange(3), seeded(0))
    resident = Resident(noise(3, (4, 5, 5)), Augment(shear=10, zoom=0.2, brightness=0.2), CPU)
    assert resident.batch(torch.arange(3), seeded(0)).shape == (3, 4, 5, 5)


@pytest.mark.parametrize(
    ("name", "value"),
    [*((name, bad) for name in LATER for bad in (-0.1, math.nan, math.inf)), ("shear", 90.0), ("zoom", 1.0)],
)
def test_settings_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(Refusal, match=f"expected {name} to be .*got {value}"):
        Augment(**{name: value})
