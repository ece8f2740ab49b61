"""``unteach evidence``: what was done to a model, as a statement that someone else can check."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unteach.types import Refusal
from unteach.user_code import pin

if TYPE_CHECKING:
    import numpy as np

    from unteach.evidence import Run

PAGE = "officer.html"
PICTURES = 12  # pictures of forgotten records on the page: a row of it


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Write evidence of a finished forget run: evidence.json for `unteach verify`, officer.html to read and print.

    evidence.json is an in-toto statement, with --key in a signed DSSE envelope. It holds digests of the models, the ids, the data
    and the findings, but no ids. ids.salt, which only its owner may read, is what ids are checked with: keep it, and apart.
    """

    run: Path = field(default=Path("runs/forget"))
    """Folder of the forget run; the evidence goes into it."""
    original: Path | None = None
    """The model that came in; left out, the checkpoint that the run's settings name."""
    key: Path | None = None
    """Private key to sign with (Ed25519, PEM); if it is encrypted, its password is in UNTEACH_KEY_PASSWORD. Left out, nothing
    is signed."""
    new_key: Path | None = None
    """Make a key pair and nothing else: the private key here, the public one beside it with .pub at its end."""
    previous: Path | None = None
    """Evidence of how the model that came in was made, if it was itself made to forget."""
    ledger: Path | None = None
    """Ledger of requests whose present last entry the evidence is to name."""
    salt: Path | None = None
    """File of at least 16 random bytes to digest the ids with; left out, the run's own, or a new one."""
    prove: str = ""
    """Only print the proof that this id is on the list of a run that has evidence; it is for the owner of that record."""
    show_ids: bool = False
    """Whether the page names the ids (as many as fit)."""
    images: bool = False
    """Whether the page shows pictures of forgotten records (twelve at most); the data are read for it."""
    code: tuple[str, ...] = field(default=(), metadata={"pin": pin})
    """For pictures: code of your own that reads the data, as file.py:NAME."""
    overwrite: bool = False
    """Whether evidence that is there already may be replaced."""

    def __call__(self) -> int:
        if self.new_key is not None:
            return self._make_key(self.new_key)
        from unteach.evidence import read_run

        run = read_run(self.run, self.original)
        if self.prove:
            return self._print_proof(run)
        if (self.run / "evidence.json").exists() and not self.overwrite:
            raise Refusal(
                f"expected no evidence in {self.run} yet, got an evidence.json there; give --overwrite true to replace it"
            )
        return self._write(run)

    def _write(self, run: Run) -> int:
        import hashlib

        from unteach.evidence import canonical, sealed, statement_of
        from unteach.evidence.envelope import enclosed, signer_of
        from unteach.evidence.ids import SALT
        from unteach.report.officer import as_officer_page
        from unteach.store import write, write_text

        signer = signer_of(self.key) if self.key is not None else None
        salt = self._salt()
        keyid = signer.public_key.keyid if signer else None
        statement = statement_of(run, salt, signer=keyid, previous=self.previous, ledger=self._head())
        self._refuse_unless_it_holds(run, statement)
        names = run.names if self.show_ids else []
        page = as_officer_page(statement, names, self._pictures(run) if self.images else [])
        statement["predicate"]["files"][PAGE] = hashlib.sha256(page.encode()).hexdigest()
        text = canonical(sealed(statement))
        write(self.run / SALT, lambda temporary: temporary.write_bytes(salt), mode=0o600)
        write_text(self.run / PAGE, page)
        write_text(self.run / "evidence.json", canonical(enclosed(text, signer)) if signer else text)
        self._tell(run, keyid)
        return 0

    def _salt(self) -> bytes:
        from unteach.evidence.ids import SALT, read_salt

        own = self.run / SALT
        salt = read_salt(self.salt or own) if self.salt or own.is_file() else f"{secrets.token_hex(32)}\n".encode()
        if own.is_file() and own.read_bytes() != salt and not self.overwrite:
            raise Refusal(
                f"expected the salt of {self.run} to stay, got another one in {self.salt}; leave --salt out, or give --overwrite "
                "true: then proofs that were given out no longer hold"
            )
        return salt

    def _head(self) -> dict[str, Any] | None:
        if self.ledger is None:
            return None
        from unteach.ledger.chain import Ledger

        faults = Ledger(self.ledger).faults()
        if faults:
            raise Refusal(f"expected a sound ledger at {self.ledger}, got: {faults[0]}; restore it from a copy")
        head = Ledger(self.ledger).head()
        if not head.seq:
            raise Refusal(f"expected a ledger with entries at {self.ledger}, got an empty one; leave --ledger out")
        return {"seq": head.seq, "hash": head.hash}

    def _refuse_unless_it_holds(self, run: Run, statement: dict[str, Any]) -> None:
        """Nothing is put on record that `unteach verify` would turn down."""
        from unteach.evidence import Opened, Places, examined, sealed

        trial = Opened(self.run / "evidence.json", sealed(statement), None, "")
        places = Places(original=run.original, previous=self.previous, ledger=self.ledger)
        for check in examined(trial, places):
            if check.holds is False and check.what not in ("signature", "salt"):
                raise Refusal(
                    f"expected files of {self.run} that belong together, got: {check.sentence}; give the right --original or "
                    "--previous, or run forget again"
                )

    def _print_proof(self, run: Run) -> int:
        from unteach.evidence.ids import SALT, proof_of, read_salt

        if self.prove not in run.names:
            raise Refusal(f"expected an id on the list of {self.run}, got {self.prove!r}; see its forget.txt")
        print(proof_of(self.prove, read_salt(self.salt or self.run / SALT)))
        return 0

    def _make_key(self, path: Path) -> int:
        from unteach.evidence.envelope import PASSWORD, new_key, password

        public = new_key(path)
        print(f"private key, {'encrypted' if password() else f'not encrypted (set {PASSWORD} to have it so)'}: {path}")
        print(f"public key, for those who verify: {public}")
        return 0

    def _pictures(self, run: Run) -> list[np.ndarray]:
        """Pictures of the first of the forgotten records."""
        from unteach.store import restored
        from unteach.verbs.evaluation import thumbnails
        from unteach.verbs.settings import DataChoice

        data = restored(DataChoice, run.settings["source"]).load()
        return list(thumbnails(data.train.take(data.train.positions(run.names[:PICTURES]))).values())

    def _tell(self, run: Run, keyid: str | None) -> None:
        if run.original is None:
            print("the model that came in is not at hand: the evidence has only its fingerprint; see --original")
        print(f"evidence, {f'signed by key {keyid}' if keyid else 'not signed'}: {self.run / 'evidence.json'}")
        print(f"to read and print: {self.run / PAGE}")
        print(f"keep apart, for proofs that an id is on the list: {self.run / 'ids.salt'}")
