"""The page to watch a queue with."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any

from unteach.ledger import Queue
from unteach.report.shelf import TEMPLATES
from unteach.service import Page


def test_a_browser_may_run_what_is_in_it_and_nothing_else() -> None:
    page = Page.with_style((TEMPLATES / "style.css").read_text())
    rules = dict(rule.split(" ", 1) for rule in page.policy.split("; "))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == rules["frame-ancestors"] == "'none'"
    assert "unsafe" not in page.policy
    for tag in ("script", "style"):
        (inside,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page.html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"
    assert not re.search(r"\son\w+=|\sstyle=|javascript:", page.html), "blocked by the policy"
    addresses = set(re.findall(r"https?://[^\"'\s]+", page.html))
    assert addresses == {"http://www.w3.org/2000/svg"}


def test_what_others_wrote_never_becomes_markup_and_the_token_goes_nowhere() -> None:
    html = Page.with_style("").html
    for word in (
        "innerHTML",
        "outerHTML",
        "insertAdjacent",
        "document.write",
        "eval(",
        "localStorage",
        "cookie",
        "postMessage",
    ):
        assert word not in html
    assert re.findall(r"\$\{token\}", html) == ["${token}"], "in the header of a call, and nowhere else"


def test_it_is_open_and_says_nothing_of_the_queue(client: Any, queue: Queue) -> None:
    before = client.get("/").text
    queue.add(["a"], note="letter 5")
    del client.headers["authorization"]
    answer = client.get("/")
    assert answer.status_code == 200
    assert answer.text == before
    assert "script-src 'sha256-" in answer.headers["content-security-policy"]
    assert client.head("/").status_code == 200
