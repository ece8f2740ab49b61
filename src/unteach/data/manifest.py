"""The split of one request on paper: which example plays which part, as one CSV file that is frozen before any training."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from unteach.data.dataset import writable
from unteach.data.duplicates import digests
from unteach.types import Examples, Refusal

PARTS = ("retain", "forget", "test", "unseen", "validation")


@dataclass(frozen=True, eq=False)
class Manifest:
    """One row for every example of every part; all arrays of shape ``n``.

    ``parts``: of PARTS. ``labels``: int64 ``n``, or 0/1 ``n × k`` (multi-label). ``content``: SHA-256 of each input's bytes.
    ``groups``: names (person, household …) or None. ``clusters``: int64, equal for near-duplicates, or None.
    ``shared``: whether an id may be both in test (utility) and in unseen (non-members of attacks); no other part shares ids.
    """

    ids: np.ndarray
    parts: np.ndarray
    labels: np.ndarray
    content: np.ndarray
    groups: np.ndarray | None = None
    clusters: np.ndarray | None = None
    shared: bool = False

    def __post_init__(self) -> None:
        columns = {"parts": self.parts, "labels": self.labels, "content": self.content}
        columns |= {k: v for k, v in {"groups": self.groups, "clusters": self.clusters}.items() if v is not None}
        for name, column in columns.items():
            if len(column) != len(self.ids):
                raise Refusal(f"expected one entry of {name} per id ({len(self.ids)}), got {len(column)}; give all")
        if unknown := sorted(set(self.parts.tolist()) - set(PARTS)):
            raise Refusal(f"expected parts of a split ({', '.join(PARTS)}), got {unknown[0]!r}; rename it")
        names = {*self.ids.tolist(), *([] if self.groups is None else self.groups.tolist())}
        if bad := [name for name in names if not writable(name)]:
            raise Refusal(
                f"expected ids and groups that fit on a line, got {bad[0]!r}; no line breaks, outer spaces, #"
            )
        self._check_ids()

    def _check_ids(self) -> None:
        parts_of: dict[str, list[str]] = {}
        for name, part in zip(self.ids.tolist(), self.parts.tolist()):
            parts_of.setdefault(name, []).append(part)
        several = {name: sorted(parts) for name, parts in parts_of.items() if len(parts) > 1}
        both = [name for name, parts in several.items() if parts == ["test", "unseen"]]
        if twice := several.keys() - set(both):
            raise Refusal(f"expected every id in one row, got {min(twice)!r} in more; keep each example in one part")
        if both and not self.shared:
            raise Refusal(
                f"expected unseen ids that are not used for utility, got {len(both)} in both, such as {both[0]!r}; "
                "take other non-members, or allow it with shared=True"
            )

    @classmethod
    def of(cls, parts: Mapping[str, Examples], clusters: np.ndarray | None = None, shared: bool = False) -> Manifest:
        """The manifest of examples by part; ``clusters``: one number per example, in the order of the parts joined."""
        given = list(parts.values())
        if len({part.labels.ndim for part in given}) != 1 or len({part.groups is None for part in given}) != 1:
            raise Refusal(
                "expected parts with one kind of labels, all with groups or none, got others; take one data set"
            )
        return cls(
            ids=np.concatenate([part.ids for part in given]),
            parts=np.repeat(list(parts), [len(part) for part in given]),
            labels=np.concatenate([part.labels.numpy() for part in given]).astype(np.int64),
            content=np.array([digest for part in given for digest in digests(part.inputs)]),
            groups=None if given[0].groups is None else np.concatenate([np.asarray(part.groups) for part in given]),
            clusters=clusters,
            shared=shared,
        )

    @cached_property
    def text(self) -> str:
        """The manifest as CSV, to be written by ``store.write_text``; several labels stand in one cell, between spaces."""
        n = len(self.ids)
        labels = [" ".join(map(str, row)) for row in self.labels.reshape(n, -1).tolist()]
        groups = [""] * n if self.groups is None else self.groups.tolist()
        clusters = [""] * n if self.clusters is None else self.clusters.tolist()
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(_header(self.labels.ndim == 2))
        writer.writerows(zip(self.ids.tolist(), self.parts.tolist(), labels, groups, clusters, self.content.tolist()))
        return out.getvalue()

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file's bytes, what ``sha256sum`` prints; run records name it."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def counts(self) -> dict[str, int]:
        """How many examples each part has, in the order of PARTS."""
        return {part: int((self.parts == part).sum()) for part in PARTS}

    def ids_of(self, part: str) -> np.ndarray:
        """The ids of one part, in the order of the file."""
        return np.asarray(self.ids[self.parts == part])

    @classmethod
    def read(cls, path: Path, *, digest: str | None = None, shared: bool = False) -> Manifest:
        """The manifest in a file.

        Raises: Refusal for a file that is none, was cut, breaks the rules above, or is not the one with this ``digest``.
        """
        try:
            data = Path(path).read_bytes()
            head, *rows = csv.reader(io.StringIO(data.decode(), newline=""), strict=True)
        except (OSError, ValueError, csv.Error) as error:
            raise Refusal(f"expected a manifest at {path}, got: {error}; check the path, or write it anew") from error
        if digest is not None and hashlib.sha256(data).hexdigest() != digest:
            raise Refusal(f"expected the manifest with digest {digest[:12]}… at {path}, got another; it was changed")
        if head not in (_header(False), _header(True)):
            raise Refusal(
                f"expected the columns {', '.join(_header(False))} in {path}, got {', '.join(head)}; rename them"
            )
        for line, row in enumerate(rows, 2):
            if len(row) != len(head) or len(row[-1]) != 64:
                raise Refusal(f"expected a whole row in line {line} of {path}, got {','.join(row)!r}; the file was cut")
        if not rows:
            raise Refusal(f"expected at least one row in {path}, got the column names only; write the manifest anew")
        ids, parts, labels, groups, clusters, content = (np.array(column) for column in zip(*rows))
        try:
            numbers = [list(map(int, cell.split(" "))) for cell in labels.tolist()] if "labels" in head else labels
            return cls(
                ids=ids,
                parts=parts,
                labels=np.array(numbers).astype(np.int64),
                content=content,
                groups=groups if any(groups.tolist()) else None,
                clusters=clusters.astype(np.int64) if any(clusters.tolist()) else None,
                shared=shared,
            )
        except ValueError as error:
            raise Refusal(
                f"expected whole numbers as labels and clusters in {path}, got: {error}; mend them"
            ) from error


def _header(several: bool) -> list[str]:
    return ["id", "part", "labels" if several else "label", "group", "cluster", "sha256"]
