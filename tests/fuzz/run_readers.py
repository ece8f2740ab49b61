"""The readers of settings, findings, queues and plans: what runs leave behind, and what users write."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from fuzz.hostile import Files, Target
from fuzz.model_readers import written
from unteach.bench.protocol import Protocol
from unteach.bench.summary import read as cell_of
from unteach.ledger import Queue
from unteach.ledger.soundness import seal
from unteach.methods import FineTune
from unteach.models import Blueprint
from unteach.recipe import Recipe
from unteach.references.cache import Cache, Record
from unteach.references.manifest import DataSpec, Manifest, in_order, jobs_of
from unteach.references.manifest import read as read_manifest
from unteach.references.plan import Halves, Shadows, units_of
from unteach.train import Sgd
from unteach.verbs.forget import Forget
from unteach.verbs.report import Report
from unteach.verbs.settings import Output

FINDINGS: dict[str, Any] = {
    "verdict": "indistinguishable from retrain within tolerance",
    "models": {
        name: {
            "accuracy": {"retain": 0.9, "forget": 0.8, "test": 0.8},
            "games": {"FT": {"confidence": {"auc": 0.6, "low": 0.5, "high": 0.7, "roc": [[0, 0], [0.5, 0.6], [1, 1]]}}},
        }
        for name in ("original", "unlearned", "retrained")
    },
    "controls": {"original_caught": {"passed": True, "text": "it is"}, "constant_predictor": {"passed": True}},
    "gaps": {"average": 0.01, "retain": 0.0},
    "cost": {"forget_epochs": 1.0, "forget_seconds": 2.0, "retrain_epochs": 10.0},
    "settings": {"method": {"lr": 0.1}, "seed": 0},
    "exposed": [{"id": "17", "score": 0.9}],
    "skipped": [{"metric": "LiRA", "reason": "no references"}],
    "classes": [{"name": "cat", "accuracy": 0.5}],
    "doubts": ["few examples"],
    "fingerprints": {"unlearned": "ab"},
}
CELL = cell_of(FINDINGS, {}) | {"key": "ab", "interval": [0.1, 0.2]}
PROTOCOL = Protocol(
    data="digits",
    model="small-cnn",
    recipe=Recipe(),
    requests=("random:0.1",),
    rows={"finetune": FineTune()},
    seeds=(0,),
)


def bytes_of(value: Any) -> bytes:
    return json.dumps(value, indent=1).encode()


def _configs() -> list[Files]:
    flags = {"ids": "random:0.1", "data": "digits", "method": "finetune", "seed": 1}
    nested = flags | {"optim": {"lr": 0.1, "epochs": 2}, "augment": {"crop": 1, "flip": True}}
    words = b"data: digits\nmethod: amun\nids: class:3\noptim:\n  lr: 0.1\n"
    return [{"a.yaml": bytes_of(flags)}, {"a.yaml": bytes_of(nested)}, {"a.yaml": words}]


def _config(folder: Path) -> None:
    from unteach.cli import parse

    parse(Forget, "unteach forget", ["--config", str(folder / "a.yaml")])


def _settings(folder: Path) -> None:
    Output(out=folder).open({"seed": 1, "data": "digits"})


def _cells() -> list[Files]:
    cell = bytes_of(CELL)
    files = {f"cells/{name}/0-0-0-0/cell.json": cell for name in ("original", "retrained", "finetune")}
    refused = {"cells/finetune/0-0-0-0/refused.json": bytes_of({"why": "no convolutions"})}
    return [files, {name: cell for name in files if "finetune" not in name} | refused]


def _rows(folder: Path) -> None:
    from unteach.verbs.bench import rows_of

    rows_of(PROTOCOL, folder)


def _queues() -> list[Files]:
    def write(folder: Path) -> None:
        queue = Queue(folder)
        queue.open({"seed": 1, "checkpoint": "model.safetensors"}, "00")
        queue.add(["a", "b"], due="2030-01-01", note="x", key="k")
        queue.add(["c"])
        queue.start([1])
        with closing(sqlite3.connect(folder / "ledger.sqlite")) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    return [{name: content for name, content in written(write).items() if not name.endswith(("-wal", "-shm"))}]


def _queue(folder: Path) -> None:
    queue = Queue(folder)
    faults = queue.ledger.faults()
    state = queue.state()
    assert not faults, "a ledger with faults was read"
    queue.ledger.notes()
    for request in state.requests:
        queue.ids(request)
    if state.current:
        queue.model_of(state.current.number, state)


def _entries(content: bytes) -> list[Any]:
    if not content.startswith(b"SQLite format 3"):
        raise ValueError("no database")
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.deserialize(_without_log(content))
        try:
            rows = connection.execute("SELECT seq, at, kind, body FROM entries ORDER BY seq").fetchall()
            return [[*row[:3], json.loads(row[3])] for row in rows]
        except (sqlite3.Error, TypeError) as error:
            raise ValueError(str(error)) from error


def _without_log(content: bytes) -> bytes:
    """The same database as one that has no write-ahead log: one in memory can have none."""
    return content[:18] + b"\1\1" + content[20:]


def _sealed(entries: list[Any]) -> bytes:
    """A ledger of these entries as somebody would write it who knows the format."""
    template = _queues()[0]["ledger.sqlite"]
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.deserialize(_without_log(template))
        rules = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in rules:
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute("DELETE FROM entries")
        previous = ""
        for seq, at, kind, body in entries:
            text = json.dumps(body, sort_keys=True, separators=(",", ":"))
            hash_ = seal(seq, at, kind, text, previous)
            connection.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?)", (seq, at, kind, text, previous, hash_))
            previous = hash_
        for _, sql in rules:
            connection.execute(sql)
        content: bytes = connection.serialize()
    return content[:18] + b"\2\2" + content[20:]


def _plans() -> list[Files]:
    def write(folder: Path) -> None:
        plan = Shadows(halves=Halves(models=2), requests=1, size=2)(units_of(20))
        method = FineTune(optim=Sgd(lr=0.02, epochs=1))
        blueprint = Blueprint(name="mlp", classes=2, shape=(3,))
        jobs = in_order(jobs_of(plan, blueprint=blueprint, recipe=Recipe(), method=method), "ab")
        cache = Cache(folder)
        made = Manifest(source=DataSpec(spec="digits"), fingerprint="ab", cache=cache, jobs=jobs).write()
        made.rename(folder / "plan.json")
        cache.put(
            Record(
                key="k",
                kind="t",
                data="d",
                data_fingerprint="ab",
                network="mlp",
                recipe="r",
                seed=0,
                weights={"bytes": 1},
            )
        )

    return [written(write)]


def _plan(folder: Path) -> None:
    made = read_manifest(folder / "plan.json")
    assert len(made.keys) == len(made.parents)
    made.left()


def _records(folder: Path) -> None:
    cache = Cache(folder)
    for record in cache.records():
        cache.whole(record, closely=True)
        assert record.bytes >= 0


def _weights() -> list[Files]:
    def write(folder: Path) -> None:
        from unteach.logit_store import LogitStore
        from unteach.references.cache import digest_of_array, weights_of
        from unteach.store import save_tensors

        cache = Cache(folder)
        import torch

        save_tensors(cache.weights("k"), {"w": torch.zeros(3)}, {})
        logits = np.zeros((1, 3, 2), np.float32)
        store = LogitStore.open(cache.logits("ab", 1), ids=np.array(list("abc")), labels=np.array([0, 1, 0]))
        store.put("k", logits, members=np.ones(3, bool))
        told = {"1": {"bytes": logits.nbytes, "sha256": digest_of_array(logits)}}
        made = Record(
            key="k", kind="t", data="d", data_fingerprint="ab", network="mlp", recipe="r", seed=0, logits=told
        )
        cache.put(Record(**(vars(made) | {"weights": weights_of(cache.weights("k"))})))

    return [written(write)]


def _events() -> list[Files]:
    lines = [{"event": "epoch", "at": 1.5, "stage": "training", "epoch": 2, "loss": 0.5}] * 3
    return [{"events.jsonl": "".join(f"{json.dumps(line)}\n" for line in lines).encode()}]


def _progress(folder: Path) -> None:
    from unteach.service.shown import progress_in

    progress_in(folder / "events.jsonl")


def _keys() -> list[Files]:
    def write(folder: Path) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

        key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
        (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (folder / "key.pub").write_bytes(public)
        (folder / "salt").write_bytes(bytes(range(32)))
        (folder / "ids.txt").write_text("a\nb\n")

    return [written(write)]


def _key(folder: Path) -> None:
    from unteach.evidence.envelope import public_key_of, signer_of
    from unteach.evidence.ids import read_ids, read_salt

    public_key_of(folder / "key.pub")
    signer_of(folder / "key.pem")
    read_salt(folder / "salt")
    read_ids(folder / "ids.txt")


SQLITE = (_entries, _sealed)
JSON_FORM: tuple[Callable[[bytes], Any], Callable[[Any], bytes]] = (json.loads, bytes_of)

TARGETS = (
    Target("--config (YAML)", _configs, _config),
    Target(
        "findings.json",
        lambda: [{"findings.json": bytes_of(FINDINGS)}],
        lambda f: Report(findings=f / "findings.json")(),
    ),
    Target("settings.json", lambda: [{"settings.json": bytes_of({"seed": 1, "data": "digits"})}], _settings),
    Target("cell.json", _cells, _rows),
    Target("queue (ledger, ids, salt)", _queues, _queue, forms=(JSON_FORM, SQLITE)),
    Target("plan of references", _plans, _plan, only=("plan.json",)),
    Target("cache of references", _weights, _records),
    Target("keys, salt, ids of evidence", _keys, _key),
    Target("events.jsonl", _events, _progress),
)
