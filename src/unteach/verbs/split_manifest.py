"""The split of an audit on paper, and what near-duplicates across its parts mean for its numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from unteach.data import DataSet
from unteach.data.duplicates import collisions
from unteach.data.manifest import Manifest
from unteach.references.cache import Cache
from unteach.references.pool import places_of
from unteach.references.units import clusters_in
from unteach.store import write_text
from unteach.types import Split

DOUBTS = {
    (
        "forget",
        "retain",
    ): "{n} forgotten examples have near-duplicates among the retained ones: what those teach stays.",
    (
        "test",
        "forget",
    ): "{n} test examples have near-duplicates among the forgotten ones, so they are not wholly unseen.",
    (
        "test",
        "retain",
    ): "{n} test examples have near-duplicates among the retained ones, so they are not wholly unseen.",
    (
        "unseen",
        "forget",
    ): "{n} unseen examples have near-duplicates among the forgotten ones: they are no clean non-members.",
    (
        "unseen",
        "retain",
    ): "{n} unseen examples have near-duplicates among the retained ones: they are no clean non-members.",
    (
        "test",
        "unseen",
    ): "{n} test examples have near-duplicates among the unseen ones: utility and attacks share pictures.",
}


def write_split(path: Path, parts: Split, data: DataSet, cache: Cache) -> tuple[str, list[str]]:
    """Write the manifest of this split with the near-duplicates that the cache knows; returns its digest and the doubts."""
    outside = {"test": data.test, "unseen": data.unseen, "validation": parts.validation}
    named = {"retain": parts.retain, "forget": parts.forget, **outside}
    given = {name: part for name, part in named.items() if part is not None and len(part)}
    places = places_of(data, np.concatenate([part.ids for part in given.values()]))
    manifest = Manifest.of(given, clusters=clusters_in(data, cache)[places])
    write_text(path, manifest.text)
    found = collisions(manifest.clusters, manifest.parts, manifest.ids) if manifest.clusters is not None else []
    doubts = [DOUBTS[one.part, one.other].format(n=len(one.ids)) for one in found if (one.part, one.other) in DOUBTS]
    return manifest.digest, doubts
