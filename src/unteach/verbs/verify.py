"""``unteach verify``: whether evidence holds, file by file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from unteach.evidence.check import Places
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
    places: Places = field(default_factory=Places)
    member: str = ""
    """An id to show to be on the list, by its proof."""
    proof: str = ""
    """The id's proof, 64 hexadecimal digits, as `unteach evidence` prints it for its setting prove."""
    out: Path | None = None
    """JSON file for the checks; left out, they are only printed."""

    def __call__(self) -> int:
        from unteach.evidence import check_member, examined, opened
        from unteach.store import write_json

        if bool(self.member) != bool(self.proof):
            raise Refusal("expected --member and --proof together, got one of them; give both")
        evidence = opened(self.evidence)
        checks = examined(evidence, self.places)
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
