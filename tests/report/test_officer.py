"""The two pages for who answers for privacy: what they say, and that they are two."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unteach.report.officer import as_officer_page
from unteach.report.words import VERDICTS

DIGEST = "0123456789abcdef" * 4


@pytest.fixture
def statement() -> dict[str, Any]:
    """As full as statements get."""
    names = (
        "FT AUC by confidence",
        "FT AUC by two-sided confidence",
        "forget accuracy",
        "test accuracy",
        "retain accuracy",
    )
    far = {"difference": -0.012, "low": -0.1234, "high": 0.1234, "margin": 0.02, "detectable": 0.127}
    model = {"name": "a-rather-long-name-of-a-network-epoch-90.ckpt", "sha256": DIGEST, "fingerprint": DIGEST}
    return {
        "subject": [{"name": name, "digest": {"sha256": DIGEST}} for name in ("model.safetensors", "model.ckpt")],
        "predicate": {
            "made": {"at": "2026-01-15T23:59:00+00:00", "by": "unteach 0.1.0", "clock": "By its own clock."},
            "request": {"kind": "file", "count": 1234, "digest": DIGEST},
            "data": {"name": "fashion-mnist", "fingerprint": DIGEST},
            "before": model,
            "after": {**model, "name": "model.safetensors"},
            "method": {"name": "MaskedSmallGradients"},
            "audit": {
                "verdict": "over-forgotten",
                "retrained": 5,
                "differences": [{"quantity": name, **far} for name in names],
                "controls": {"original_caught": True, "held_out_retrain_passes": False, "hard_tests": None},
            },
            "cost": {"forget_seconds": 18.4, "retrain_seconds": 290.0},
            "files": {"findings.json": DIGEST, "report.html": DIGEST},
            "previous": {"name": "evidence.json", "sha256": DIGEST},
            "ledger": {"seq": 12345, "hash": DIGEST},
            "signer": DIGEST,
            "proves": ["What was checked is as it was, to the bit, and that takes a line of the page."] * 5,
            "does_not_prove": ["That the information is gone; this takes one line of the page or a little more."] * 7,
        },
    }


def words(page: str) -> str:
    """What a reader sees, in one line."""
    return " ".join(re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL).split())


def test_it_says_what_was_asked_found_and_spent(statement: dict[str, Any]) -> None:
    seen = words(as_officer_page(statement))
    for told in (
        "A model was to forget 1,234 records",
        "15 January 2026, 23:59 UTC",
        "a list of records",
        VERDICTS["over-forgotten"].meaning,
        "5 models were trained from the start",
        "It recognises the original model, which still knows the records yes",
        "It finds nothing wrong with a model that never saw the records no",
        "Further tests, harder to pass, find no trace not tested",
        "−1.2 −12.3 to +12.3 ±2.0 12.7",
        "forgetting took 18.4 s, 6.3% of that",
        "Ledger of requests: entry 12345",
        "is signed with the key named below",
    ):
        assert told in seen, told
    assert as_officer_page(statement) == as_officer_page(statement)


def test_what_is_missing_is_said(statement: dict[str, Any]) -> None:
    told = statement["predicate"]
    told |= {"signer": None, "previous": None, "ledger": None, "cost": {}}
    told["audit"] = {"verdict": "inconclusive", "retrained": 0, "differences": [], "controls": {}}
    told["request"] |= {"count": 1, "kind": "group"}
    seen = words(as_officer_page(statement))
    assert "forget 1 record it was" in seen
    assert "all records of one or more people or groups" in seen
    assert "could not be measured" in seen
    assert "Nobody signed this record" in seen
    assert "The cost was not measured" in seen
    told["cost"] = {"forget_seconds": 6.0, "retrain_seconds": 2.0}
    assert "3.0 times as long" in words(as_officer_page(statement))


def test_names_are_text_and_no_markup(statement: dict[str, Any]) -> None:
    statement["predicate"]["method"]["name"] = statement["predicate"]["data"]["name"] = "<script>alert(1)</script>"
    page = as_officer_page(statement, ["<img src=x>"])
    assert "<script>" not in page
    assert "<img" not in page
    assert "http:" not in page, "it loads nothing"
    assert "https:" not in page


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium to print")
@pytest.mark.parametrize("full", [False, True], ids=["usual", "full"])
def test_two_pages_of_paper(full: bool, statement: dict[str, Any], tmp_path: Path) -> None:
    names = [f"photos/people/{number:07d}.jpeg" for number in range(500)] if full else []
    pictures = [np.zeros((32, 32, 3), np.uint8)] * 12 if full else []
    (tmp_path / "page.html").write_text(as_officer_page(statement, names, pictures), encoding="utf-8")
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer"]
    subprocess.run(
        [*command, f"--print-to-pdf={tmp_path / 'page.pdf'}", (tmp_path / "page.html").as_uri()],
        check=True,
        capture_output=True,
        timeout=60,
    )
    assert len(re.findall(rb"/Type\s*/Page\b", (tmp_path / "page.pdf").read_bytes())) == 2
