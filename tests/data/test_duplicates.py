"""Duplicates: planted copies are found whatever their order, look-alikes are not, and the hash is the one of the field."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unteach.data.duplicates import (
    Collision,
    Near,
    _alike,
    _standardised,
    _usual,
    collisions,
    digests,
    exact,
    perceptual_hash,
    same_hash,
)
from unteach.types import Refusal


def pictures(n: int, seed: int = 0, channels: int = 3, side: int = 16) -> np.ndarray:
    """Smooth random images, as different as photographs are: float 40–215, ``n × c × side × side``."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.uniform(40, 215, (n, channels, 5, 5)))
    return torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear").numpy()


def images(floats: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.clip(np.rint(floats), 0, 255).astype(np.uint8))


def sets(clusters: np.ndarray) -> set[frozenset[int]]:
    """The clusters of two or more."""
    return {frozenset(np.flatnonzero(clusters == name).tolist()) for name in clusters if (clusters == name).sum() > 1}


def test_exact_copies_of_images_and_of_features():
    features = torch.tensor([[1.0, 2], [3, 4], [1, 2], [1, 2.0001]])
    assert exact(features).tolist() == [0, 1, 0, 3]
    x = images(pictures(3))
    assert exact(torch.cat([x, x.flip(3), x[:1]])).tolist() == [0, 1, 2, 3, 4, 5, 0]
    assert exact(x[:0]).tolist() == []
    assert exact(x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)).tolist() == [0, 1, 2]
    assert digests(torch.zeros(1, 0, dtype=torch.uint8)) == [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    ]


def test_the_hash_is_its_definition_bit_for_bit():
    # Cosine sums written out, on an image that needs no resizing and in grey as Pillow rounds it.
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (3, 32, 32))
    grey = (image[0] * 19595 + image[1] * 38470 + image[2] * 7471 + 0x8000) >> 16
    at, k = np.arange(32), np.arange(8)
    waves = 2 * np.cos(np.pi * (2 * at + 1) * k[:, None] / 64)
    low = waves @ grey @ waves.T
    bits = "".join("01"[int(value)] for value in (low > np.median(low)).ravel())
    assert int(perceptual_hash(torch.from_numpy(image.astype(np.uint8))[None])[0]) == int(bits, 2)


@pytest.mark.parametrize(
    ("image", "value"),
    [  # what ImageHash 4.3.2 gives with Pillow 13
        ("ramp", "952a557555aaaa55"),
        ("waves", "b5b5e04a1fe01fe0"),
    ],
)
def test_the_hash_is_that_of_the_field(image, value):
    y, x = np.mgrid[:28, :28]
    pixels = {"ramp": (9 * x + y) % 256, "waves": np.rint(127 + 100 * np.sin(x / 3 + y * y / 90)).astype(int)}[image]
    found = perceptual_hash(torch.from_numpy(pixels.astype(np.uint8))[None, None])
    assert f"{int(found[0]):016x}" == value


def test_the_hash_of_a_symmetric_image_does_not_depend_on_its_neighbours():
    disc = (np.hypot(*np.mgrid[-14:14, -14:14] + 0.5) < 9)[None, None] * np.uint8(200)
    for before in range(5):
        mixed = torch.cat([images(pictures(before, channels=1, side=28)), torch.from_numpy(disc)])
        assert perceptual_hash(mixed)[-1] == perceptual_hash(torch.from_numpy(disc))[0]


def test_silhouettes_that_share_a_hash_are_no_near_duplicates():
    """One outline with 100 different prints: hashes agree by chance, but the images are no more alike than is usual."""
    rng = np.random.default_rng(0)
    outline = np.kron(rng.uniform(40, 215, (14, 14)), np.ones((2, 2)))
    x = images(outline + rng.choice([-4, 4], (100, 1, 28, 28)))
    assert len(sets(same_hash(x))) > 3
    assert not sets(Near()(x))


def copies(floats: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each image darker or brighter, flatter, and with noise of one grey level."""
    n = len(floats)
    contrast, shift = rng.uniform(0.6, 1.1, (n, 1, 1, 1)), rng.uniform(-15, 15, (n, 1, 1, 1))
    return 128 + (floats - 128) * contrast + shift + rng.normal(0, 1, floats.shape)


@given(seed=st.integers(0, 10**6), planted=st.integers(0, 12), channels=st.sampled_from([1, 3]))
@settings(max_examples=20, deadline=None)
def test_planted_copies_are_found_in_any_order(seed, planted, channels):
    rng = np.random.default_rng(seed)
    originals = pictures(40, seed, channels)
    made = copies(originals[:planted], rng)
    x = torch.cat([images(originals), images(made), images(originals[:planted])])
    order = torch.from_numpy(rng.permutation(len(x)))
    expected = {frozenset({i, 40 + i, 40 + planted + i}) for i in range(planted)}
    assert sets(Near()(x)) == expected
    shuffled = sets(Near()(x[order]))
    assert {frozenset(order[list(one)].tolist()) for one in shuffled} == expected
    assert {frozenset(s - set(range(40, 40 + planted))) for s in expected} == sets(exact(x))


@given(seed=st.integers(0, 10**6), channels=st.sampled_from([1, 3]), share=st.floats(0.1, 0.99))
@settings(max_examples=20, deadline=None)
def test_no_pair_is_missed_that_a_look_at_all_pairs_finds(seed, channels, share):
    rng = np.random.default_rng(seed)
    originals = pictures(30, seed, channels, side=9)
    x = images(np.concatenate([originals, originals[:10] + rng.normal(0, 12, originals[:10].shape)]))
    flat = _standardised(x).reshape(len(x), -1).astype(np.float64)
    unlike = 1 - flat @ flat.T
    alone = unlike + 9 * np.eye(len(x))
    assert _usual(x) == pytest.approx(np.median(alone.min(1)), abs=1e-5)
    limit = share * _usual(x)
    first, second = np.nonzero(np.triu(unlike <= limit, 1) & (abs(unlike - limit) > 1e-6))
    found = {tuple(sorted(pair)) for pair in _alike(x, share).tolist()}
    assert set(zip(first.tolist(), second.tolist())) <= found
    assert all(unlike[pair] <= limit + 1e-6 for pair in found)


def test_images_of_one_colour_are_like_none_but_their_copies():
    plain = torch.stack([torch.full((3, 16, 16), v, dtype=torch.uint8) for v in (0, 9, 200, 9)])
    assert sets(Near()(torch.cat([plain, images(pictures(8))]))) == {frozenset({1, 3})}
    assert Near()(plain).tolist() == [0, 1, 2, 1]


def test_clusters_are_named_by_their_first_member():
    x = images(pictures(6))
    clusters = Near()(x[[3, 1, 3, 5, 1, 3]])
    assert clusters.tolist() == [0, 1, 0, 3, 1, 0]
    assert clusters.dtype == np.int64
    assert same_hash(x[[3, 1, 3, 5, 1, 3]]).tolist() == [0, 1, 0, 3, 1, 0]


def test_what_is_no_image_is_refused():
    for features in (torch.zeros(4, 3), torch.zeros(4, 1, 8, 8)):
        with pytest.raises(Refusal, match="expected uint8 images"):
            perceptual_hash(features)
    with pytest.raises(Refusal, match="take exact copies"):
        Near()(torch.zeros(4, 3))
    for share in (0.0, 1.0, float("nan")):
        with pytest.raises(Refusal, match="between 0 and 1"):
            Near(share=share)


def test_collisions_name_the_examples_and_count_the_pairs():
    clusters = np.array([0, 0, 0, 3, 3, 5, 6])
    parts = np.array(["forget", "retain", "retain", "test", "forget", "test", "retain"])
    ids = np.array(list("abcdefg"))
    assert collisions(clusters, parts, ids) == [
        Collision("forget", "retain", 2, ("a",)),
        Collision("forget", "test", 1, ("e",)),
        Collision("retain", "forget", 2, ("b", "c")),
        Collision("retain", "retain", 1, ("b", "c")),
        Collision("test", "forget", 1, ("d",)),
    ]
    assert collisions(np.arange(7), parts, ids) == []


@given(clusters=st.lists(st.integers(0, 5), max_size=25), seed=st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_collisions_are_those_of_two_loops(clusters, seed):
    parts = np.random.default_rng(seed).choice(["forget", "retain", "test"], len(clusters))
    found = {(one.part, one.other): one for one in collisions(np.array(clusters), parts, np.arange(len(clusters)))}
    for a in ("forget", "retain", "test"):
        for b in ("forget", "retain", "test"):
            pairs = [
                (i, j)
                for i in range(len(clusters))
                for j in range(len(clusters))
                if i != j and clusters[i] == clusters[j] and parts[i] == a and parts[j] == b
            ]
            if not pairs:
                assert (a, b) not in found
            else:
                assert found[a, b].pairs == len(pairs) // (2 if a == b else 1)
                assert found[a, b].ids == tuple(sorted({i for i, _ in pairs}))


def test_exact_copies_whose_digests_end_in_zeros() -> None:
    """Digests are compared as bytes, of which NumPy would drop zeros at the end: against a table of them as text."""
    rng = np.random.default_rng(0)
    rows = torch.from_numpy(rng.integers(0, 256, (3000, 2, 1, 1), dtype=np.uint8))  # some with digests that end in 00
    found = digests(rows)
    assert any(digest.endswith("00") for digest in found)
    first: dict[str, int] = {}
    assert exact(rows).tolist() == [first.setdefault(digest, row) for row, digest in enumerate(found)]
    assert found[:2] == [hashlib.sha256(bytes(row.flatten().tolist())).hexdigest() for row in rows[:2]]
