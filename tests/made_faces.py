"""MUFAC and MUCAC in small, in exactly the published layout: the data themselves can't be passed on."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

ROLES = ("F", "M", "D", "S2")
CUT = 1500 / 10025  # where the benchmark cuts, as a share of the rows
IDENTITIES = (*range(8), *range(190, 202), *range(1250, 1262), *range(4855, 4863))
ATTRIBUTES = [f"Attribute_{column}" for column in range(1, 41)]
for place, name in {21: "Male", 32: "Smiling", 40: "Young"}.items():
    ATTRIBUTES[place - 1] = name


@dataclass(frozen=True)
class Family:
    """What was written: the rows of each table in their order, and who stands on both sides of the cut."""

    rows: dict[str, list[dict[str, str]]]
    cut: int
    straddling: str


def texture(label: int, person: int, rng: np.random.Generator, size: int = 16) -> np.ndarray:
    """A colour image whose label is one pattern and whose person another, with noise."""
    x, y = np.meshgrid(np.arange(size), np.arange(size))
    age = np.sin(2 * np.pi * (label + 1) * x / size)
    face = np.random.default_rng(1000 + person).normal(size=(size, size, 3))
    image = 128 + 50 * age[..., None] + 25 * face + 12 * rng.normal(size=(size, size, 3)) + 0 * y[..., None]
    return np.asarray(image.clip(0, 255), dtype=np.uint8)


def make_mufac(folder: Path, *, card: bool = False, seed: int = 0) -> Family:
    """Sixteen households of 2–4 roles with 3–6 images each; ten train, three are in the val, three in the test table.

    Endings are mixed .jpg and .JPG. The person at the cut is on both sides of it. Three images are in two parts: the first
    forgotten one is also the last retained one, the first of val is the first of test, the second of test the first retained
    one; and within retain the second image is also the third. ``card``: the header and folders of the Hugging Face card.
    """
    rng, rows = np.random.default_rng(seed), {part: [] for part in ("train", "val", "test")}
    pixels: dict[str, list[np.ndarray]] = {part: [] for part in rows}
    person = 0
    for house in range(16):
        part = "train" if house < 10 else "val" if house < 13 else "test"
        number = {"train": 1, "val": 791, "test": 838}[part] + house
        for role in ROLES[: 2 + house % 3]:
            person += 1
            for shot in range(3 + person % 4):
                label = (person + shot) % 8
                name = (
                    f"F{number:04}_AGE_{role}_{20 + shot}_{'abcdefgh'[label]}{shot + 1}.{'jpg' if shot % 2 else 'JPG'}"
                )
                rows[part].append({"household": f"F{number:04}", "role": role, "age": "abcdefgh"[label], "name": name})
                pixels[part].append(texture(label, person, rng))
    cut = round(len(rows["train"]) * CUT)
    at = [(row["household"], row["role"]) for row in rows["train"]]
    assert at[cut - 1] == at[cut], "choose other counts, for a person must stand on both sides"
    pixels["train"][-1] = pixels["train"][0]
    pixels["val"][0] = pixels["test"][0]
    pixels["test"][1] = pixels["train"][cut]
    pixels["train"][cut + 2] = pixels["train"][cut + 1]
    for part, images in pixels.items():
        for number, (row, image) in enumerate(zip(rows[part], images)):
            second = "train_images_part2" if number % 7 == 0 else "train_images_part1"
            place = folder / (second if card and part == "train" else f"{part}_images")
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(place / row["name"], "PNG")  # without loss, so that copies stay copies
        _write(folder / f"custom_{part}_dataset.csv", rows[part], card, cut)
    return Family(rows, cut, "_".join(at[cut]))


def _write(path: Path, rows: Sequence[dict[str, str]], card: bool, cut: int) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        if card:
            writer.writerow(["image_path", "age_group", "identity", "forget_flag"])
            for number, row in enumerate(rows):
                who = f"{row['household']}_{row['role']}"
                writer.writerow([f"any/{row['name']}", row["age"], who, int(number < cut and "train" in path.name)])
            return
        writer.writerow(["family_id", "person_id", "age_class", "image_path"])
        for row in rows:
            writer.writerow([row["household"], row["role"], row["age"], row["name"]])


def make_mucac(folder: Path, *, each: int = 6, missing: int = 17, seed: int = 0) -> dict[str, tuple[int, list[int]]]:
    """Forty identities with ``each`` images; returns identity and marks (male, smiling, young) of every listed image.

    Image ``missing`` is listed and not there. Numbers are dealt out so that text order is not number order.
    """
    rng = np.random.default_rng(seed)
    images = folder / "CelebAMask-HQ" / "CelebA-HQ-img"
    images.mkdir(parents=True)
    told: dict[str, tuple[int, list[int]]] = {}
    people = rng.permutation(np.repeat(IDENTITIES, each))
    table = [[""] for _ in people]
    for number, identity in enumerate(people.tolist()):
        marks = [int(identity % 2), int(number % 3 == 0), int(identity % 5 < 3)]
        told[str(number)] = (identity, marks)
        signs = rng.choice([-1, 1], size=40)
        signs[[20, 31, 39]] = 2 * np.array(marks) - 1
        table[number] = [f"{number}.jpg", *map(str, signs)]
        if number != missing:
            look = texture(sum(mark << at for at, mark in enumerate(marks)), identity, rng)
            Image.fromarray(look).save(images / f"{number}.jpg", "PNG")
    lines = [" ".join(row) for row in table]
    (folder / "CelebA-HQ-attribute.txt").write_text("\n".join([str(len(lines)), " ".join(ATTRIBUTES), *lines, ""]))
    pairs = [f"{number}.jpg {identity}" for number, (identity, _) in told.items()]
    (folder / "CelebA-HQ-identity.txt").write_text("\n".join([*rng.permutation(pairs).tolist(), ""]))
    return told
