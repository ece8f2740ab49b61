"""``unteach verify``: whether evidence holds, file by file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from unteach.types import Refusal

if TYPE_CHECKING:
    from unteach.evidence import Check, Opened


@dataclass(frozen=True, kw_only=True)
class Verify:
    """Check evidence against the files it speaks of: unteach verify EVIDENCE; files beside it are found by themselves.

    Says for each thing whether it is as it was, was changed, or is not at hand. Exits with 0 if all that was checked holds, and
    with 3 if something does not, or if the evidence is signed and no --public_key is given. Needs no PyTorch.
    """

    first = "evidence"

    evidence: Path = Path("runs/forget/evidence.json")
    """The evidence; it may stand right after the verb."""
    public_key: Path | None = None
    """Public key of who should have signed it (PEM), which you have from them and not from beside the evidence."""
    model: Path | None = None
    """The model that came out."""
    original: Path | None = None
    """The model that came in."""
    ids: Path | None = None
    """The list of ids, one a line."""
    salt: Path | None = None
    """The salt that the ids were digested with."""
    findings: Path | None = None
    """The audit's findings.json."""
    previous: Path | None = None
    """The evidence of how the model that came in was made."""
    ledger: Path | None = None
    """The ledger of requests; that it has grown since is no fault."""
    member: str = ""
    """An id to show to be on the list, by its proof."""
    proof: str = ""
    """The id's proof, 64 hexadecimal digits, as `unteach evidence` prints it for its setting prove."""
    out: Path | None = None
    """JSON file for the checks; left out, they are only printed."""

    def __call__(self) -> int:
        from unteach.evidence import Places, check_member, examined, opened
        from unteach.store import write_json

        if bool(self.member) != bool(self.proof):
            raise Refusal("expected --member and --proof together, got one of them; give both")
        evidence = opened(self.evidence)
        places = Places(
            model=self.model,
            original=self.original,
            ids=self.ids,
            salt=self.salt,
            findings=self.findings,
            previous=self.previous,
            ledger=self.ledger,
            public_key=self.public_key,
        )
        checks = examined(evidence, places)
        if self.member:
            checks.append(check_member(evidence.predicate["request"], self.member, self.proof))
        _show(evidence, checks)
        if self.out is not None:
            told = [{"what": check.what, "holds": check.holds, "sentence": check.sentence} for check in checks]
            write_json(self.out, {"evidence": evidence.sha256, "checks": told})
        return 3 if any(check.holds is False for check in checks) else 0


def _show(evidence: Opened, checks: list[Check]) -> None:
    from unteach.evidence.words import DOES_NOT_PROVE, PROVES, UNSIGNED

    marks = {True: "holds  ", False: "FAILS  ", None: "not seen"}
    for check in checks:
        print(f"{marks[check.holds]:9}{check.sentence}")
    failed = sum(check.holds is False for check in checks)
    held = sum(check.holds is True for check in checks)
    print(
        f"\n{evidence.path}: " + (f"{failed} of {failed + held} checks FAIL" if failed else f"all {held} checks hold")
    )
    unsigned = [] if evidence.envelope else [UNSIGNED]
    if not failed:
        print("\nWhat this shows:", *PROVES, sep="\n- ")
        print("\nWhat it does not show:", *DOES_NOT_PROVE, *unsigned, sep="\n- ")
