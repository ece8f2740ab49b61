"""``unteach report``: draw the page again from findings."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from unteach.store import read_json
from unteach.types import Refusal


@dataclass(frozen=True, kw_only=True)
class Report:
    """Write report.html and report.md from a findings.json; no model and no data are needed (so no thumbnails)."""

    findings: Path = field(default=Path("runs/forget/findings.json"))
    """The findings of a forget or audit run."""
    out: Path | None = None
    """Folder for the pages; left out, the folder of the findings."""

    def __call__(self) -> int:
        from unteach.report import render

        found = read_json(self.findings)
        if not isinstance(found, dict) or "verdict" not in found:
            raise Refusal(
                f"expected findings with a verdict in {self.findings}, got another kind of JSON; give a findings.json"
            )
        for page in render(found, self.out or self.findings.parent):
            print(page)
        return 0
