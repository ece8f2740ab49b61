"""The store of logits: whole or absent, any order of writers, refusals, and audits that do not notice where logits lie."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from unteach.audit import MEMBERSHIP, Roles, audit
from unteach.logit_stack import Stack
from unteach.logit_store import LogitStore, select
from unteach.store import save_tensors
from unteach.types import Refusal, Signals

N, CLASSES = 100, 3
IDS = np.array([f"x{i}" for i in range(N)])
PART = np.repeat([0, 1, 2], [50, 20, 30])
LABELS = np.random.default_rng(5).integers(0, CLASSES, N)
MEMBERS = PART < 1


def opened(folder: Path, **columns: np.ndarray) -> LogitStore:
    return LogitStore.open(folder, ids=IDS, labels=LABELS, **columns)


def logits(seed: int, views: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(views, N, CLASSES)).astype(np.float32)


def filled(folder: Path, models: str = "orsha", views: int = 1) -> LogitStore:
    """One model per letter; the first was trained on retain and forget, the others on retain only."""
    store = opened(folder)
    for at, key in enumerate(models):
        store.put(key, logits(at, views), members=(PART < 1) | (at == 0) & (PART == 1), about={"seed": at})
    return store


def in_memory(store: LogitStore) -> Signals:
    """The same signals as a plain array, put together by hand."""
    signals = store.signals("orsha", references="sh")
    return replace(signals, logits=np.stack([logits(at, signals.logits.shape[1]) for at in range(5)]))


floats = st.floats(-(2.0**99), 2.0**99, width=32, allow_subnormal=False)


@given(
    table=arrays(np.float32, (2, 4, 3), elements=floats),
    members=arrays(bool, 4),
    share=arrays(bool, 4),
    about=st.dictionaries(st.text(), st.integers() | st.text() | st.none() | st.lists(st.booleans())),
)
@settings(max_examples=30, deadline=None)
def test_what_is_put_comes_back(tmp_path_factory, table, members, share, about):
    folder = tmp_path_factory.mktemp("store")
    store = LogitStore.open(folder, ids=IDS[:4], labels=np.array([0, 2, 1, 1]))
    store.put("m", table, members=members, forgotten=members & share, about=about)
    again = LogitStore.existing(folder)
    assert again.logits("m").tobytes() == table.tobytes()
    assert again.about("m") == about
    signals = again.signals(["m"])
    assert signals.models == ("m",)
    assert (signals.members[0] == members).all()
    assert (signals.forgotten[0] == (members & share)).all()
    assert signals.logits[0].tobytes() == table.tobytes()


@given(order=st.permutations(range(5)), twice=st.integers(0, 4))
@settings(max_examples=15, deadline=None)
def test_the_order_of_writers_leaves_no_trace(tmp_path_factory, order, twice):
    folder = tmp_path_factory.mktemp("store")
    for at in [*order, twice]:
        opened(folder).put(f"m{at}", logits(at), members=MEMBERS, about={"at": at})
    store = LogitStore.existing(folder)
    assert store.keys() == tuple(f"m{at}" for at in range(5))
    for at in range(5):
        assert store.logits(f"m{at}").tobytes() == logits(at).tobytes()
        assert store.about(f"m{at}") == {"at": at}


def put_all(folder: Path) -> None:
    for at in range(6):
        opened(folder).put(f"m{at}", logits(at), members=MEMBERS, about={"at": at})


def test_writers_of_the_same_models_do_not_disturb_each_other(tmp_path):
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(put_all, tmp_path / "four") for _ in range(4)]:
            done.result()
    put_all(tmp_path / "one")
    files = [{p.name: p.read_bytes() for p in (tmp_path / n).rglob("*") if p.is_file()} for n in ("one", "four")]
    assert files[0] == files[1]
    assert len(files[0]) == 7


def test_examples_in_all_their_columns_come_back(tmp_path):
    groups, clusters = np.array([f"p{i % 7}" for i in range(N)]), np.arange(N) // 2
    store = LogitStore.open(tmp_path, ids=IDS, labels=LABELS, groups=groups, clusters=clusters, classes=("a", "b", "c"))
    again = LogitStore.existing(tmp_path)
    for name in ("ids", "labels", "groups", "clusters"):
        assert (getattr(again, name) == getattr(store, name)).all()
    assert again.classes == ("a", "b", "c")
    assert again.digest == store.digest
    store.put("m", logits(0), members=MEMBERS)
    assert (store.signals(["m"]).groups == groups).all()
    # Clusters are the units where there are no groups.
    alone = opened(tmp_path / "alone", clusters=clusters)
    alone.put("m", logits(0), members=MEMBERS)
    assert (alone.signals(["m"]).groups == clusters).all()


@pytest.mark.parametrize("what", ["ids", "order", "labels", "groups", "clusters", "classes"])
def test_other_examples_are_refused(tmp_path, what):
    filled(tmp_path)
    mine = {"ids": IDS, "labels": LABELS}
    other = {
        "ids": {"ids": np.char.add(IDS, "b")},
        "order": {"ids": IDS[::-1]},
        "labels": {"labels": (LABELS + 1) % CLASSES},
        "groups": {"groups": IDS},
        "clusters": {"clusters": np.arange(N)},
        "classes": {"classes": ("a", "b", "c")},
    }[what]
    with pytest.raises(Refusal, match="choose another folder"):
        LogitStore.open(tmp_path, **(mine | other))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64, torch.int64])
def test_only_float32_is_kept(tmp_path, kind):
    store = opened(tmp_path)
    with pytest.raises(Refusal, match=f"float32, got {str(kind)[6:]}"):
        store.put("m", torch.zeros(1, N, CLASSES, dtype=kind), members=MEMBERS)
    assert not store.has("m")


def test_contradictions_are_refused_and_leave_nothing(tmp_path):
    store = opened(tmp_path)
    good = logits(0)
    for value in (np.nan, np.inf):
        broken = good.copy()
        broken[0, 3, 1] = value
        with pytest.raises(Refusal, match="finite"):
            store.put("m", broken, members=MEMBERS)
    for shape in [(N, CLASSES), (0, N, CLASSES), (1, N - 1, CLASSES), (1, N, CLASSES - 1)]:
        with pytest.raises(Refusal, match="views × 100 × 3"):
            store.put("m", np.zeros(shape, dtype=np.float32), members=MEMBERS)
    with pytest.raises(Refusal, match="to be members"):
        store.put("m", good, members=MEMBERS, forgotten=PART == 1)
    for members in (MEMBERS[:-1], MEMBERS.astype(float)):
        with pytest.raises(Refusal, match="100 booleans"):
            store.put("m", good, members=members)
    with pytest.raises(Refusal, match="plain values"):
        store.put("m", good, members=MEMBERS, about={"at": Path("x")})
    with pytest.raises(Refusal, match="plain values"):
        store.put("m", good, members=MEMBERS, about={"loss": np.nan})
    for key in ("", "a/b", "../m", ".m", "a b", "m" * 201):
        with pytest.raises(Refusal, match="expected a key"):
            store.put(key, good, members=MEMBERS)
    assert store.keys() == ()
    assert [path.name for path in tmp_path.rglob("*")] == ["examples.safetensors"]


def test_class_names_and_label_columns_fix_the_number_of_columns(tmp_path):
    named = LogitStore.open(tmp_path / "a", ids=IDS, labels=LABELS, classes=("a", "b", "c"))
    several = LogitStore.open(tmp_path / "b", ids=IDS, labels=np.eye(3)[LABELS])
    assert several.labels.dtype == np.float32
    for store in (named, several):
        with pytest.raises(Refusal, match="100 × 3"):
            store.put("m", np.zeros((1, N, 4), dtype=np.float32), members=MEMBERS)
        store.put("m", logits(0), members=MEMBERS)
    opened(tmp_path / "c").put("m", np.zeros((1, N, 4), dtype=np.float32), members=MEMBERS)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_cut_file_is_not_there(tmp_path, share):
    store = filled(tmp_path)
    whole = store.file("s").read_bytes()
    store.file("s").write_bytes(whole[: int(share * len(whole))])
    assert not store.has("s")
    assert store.keys() == ("a", "h", "o", "r")
    with pytest.raises(Refusal, match="truncated"):
        store.signals("os")
    store.put("s", logits(2), members=MEMBERS, about={"seed": 2})
    assert store.file("s").read_bytes() == whole


def test_files_of_other_stores_are_not_taken_for_models(tmp_path):
    store = filled(tmp_path / "a")
    other = LogitStore.open(tmp_path / "b", ids=IDS[::-1], labels=LABELS)
    other.put("o", logits(9), members=MEMBERS)
    store.file("o").write_bytes(other.file("o").read_bytes())
    save_tensors(store.file("r"), {"weight": torch.zeros(3)}, {})
    assert store.keys() == ("a", "h", "s")
    with pytest.raises(Refusal, match="this store's examples"):
        store.logits("o")
    with pytest.raises(Refusal, match="expected logits of 'new'"):
        store.about("new")
    with pytest.raises(Refusal, match="store of logits"):
        LogitStore.existing(tmp_path / "nowhere")
    save_tensors(tmp_path / "c" / "examples.safetensors", {"weight": torch.zeros(3)}, {})
    with pytest.raises(Refusal, match="another file"):
        opened(tmp_path / "c")


def test_models_are_removed_and_told_apart(tmp_path):
    store = filled(tmp_path)
    before = store.fingerprint("or")
    store.put("r", logits(1), members=PART < 1, about={"seed": 1})
    assert store.fingerprint("or") == before != store.fingerprint("ro")
    store.put("r", logits(8), members=PART < 1, about={"seed": 1})
    assert store.fingerprint("or") != before
    store.remove("r")
    store.remove("r")
    assert store.keys() == ("a", "h", "o", "s")


def test_the_stack_is_indexed_as_an_array_by_models(tmp_path):
    store = filled(tmp_path, views=2)
    signals, plain = store.signals("orsha", references="sh"), in_memory(store)
    stack = signals.logits
    assert isinstance(stack, Stack)
    assert (stack.shape, stack.ndim, stack.dtype, len(stack)) == ((5, 2, N, CLASSES), 4, np.float32, 5)
    assert signals.references == (2, 3)
    rows = np.array([7, 3, 99])
    for index in [0, -1, np.int64(3), (1, 1), (1, 0, rows), (2, slice(None), 5), (4, 1, 2, 0), (0, 0, PART == 1)]:
        np.testing.assert_array_equal(stack[index], plain.logits[index])
    for mapped in (store.logits("o"), stack[0]):
        with pytest.raises(ValueError, match="read-only"):
            mapped[0, 0, 0] = 1
    np.testing.assert_array_equal(np.asarray(stack), plain.logits)
    np.testing.assert_array_equal([z.sum() for z in stack], [z.sum() for z in plain.logits])
    with pytest.raises(IndexError):
        stack[5]
    for many in (slice(0, 2), [0, 1], PART == 0, None):
        with pytest.raises(Refusal, match="one model"):
            stack[many]
    with pytest.raises(Refusal, match="one at a time"):
        np.asarray(replace(stack, shape=(128, 8, 60_000, 10)))


def test_signals_refuse_doubles_none_and_models_that_differ(tmp_path):
    store = filled(tmp_path)
    for keys in ("oro", ""):
        with pytest.raises(Refusal, match="every model once"):
            store.signals(keys)
    store.put("two", logits(0, views=2), members=MEMBERS)
    with pytest.raises(Refusal, match="same views and classes"):
        store.signals(["o", "two"])
    assert store.signals("or", references="rs").models == ("o", "r", "s")
    assert store.signals("or", references="rs").references == (1, 2)


@given(picks=st.lists(st.lists(st.integers(0, 19), min_size=1), min_size=1, max_size=2))
@settings(max_examples=20, deadline=None)
def test_selected_examples_are_the_same_from_disk_and_from_memory(tmp_path_factory, picks):
    store = filled(tmp_path_factory.mktemp("store"), views=2)
    lazy, plain = store.signals("orsha"), in_memory(store)
    for rows in picks:
        at = np.array(rows) % lazy.logits.shape[2]
        lazy, plain = select(lazy, at), select(plain, at)
    assert lazy.logits.shape == plain.logits.shape
    np.testing.assert_array_equal(np.asarray(lazy.logits), plain.logits)
    for name in ("labels", "members", "forgotten"):
        np.testing.assert_array_equal(getattr(lazy, name), getattr(plain, name))


def test_examples_are_selected_by_their_ids(tmp_path):
    store = opened(tmp_path, groups=IDS)
    store.put("m", logits(0), members=MEMBERS)
    chosen = select(store.signals(["m"]), store.positions(["x7", "x99", "x3"]))
    assert chosen.groups.tolist() == ["x7", "x99", "x3"]
    np.testing.assert_array_equal(chosen.logits[0], logits(0)[:, [7, 99, 3]])
    masked = select(store.signals(["m"]), PART == 1)
    np.testing.assert_array_equal(masked.logits[0], logits(0)[:, PART == 1])
    assert masked.labels.tolist() == LABELS[PART == 1].tolist()
    with pytest.raises(Refusal, match="1 unknown, such as 'y'"):
        store.positions(["x7", "y"])


def test_scores_and_a_whole_audit_are_the_same_from_disk(tmp_path):
    store = filled(tmp_path, views=2)
    for name, kind in MEMBERSHIP.items():
        np.testing.assert_array_equal(kind()(store.signals("orsha"), 1), kind()(in_memory(store), 1), err_msg=name)
    order = np.random.default_rng(1).permutation(N)
    parts = {"retain": PART == 0, "forget": PART == 1, "test": PART == 2}
    masks = {name: mask[order] for name, mask in parts.items()}
    roles = Roles(original=0, retrained=(1, 2), held_out_retrained=3, unlearned=4)
    labels = np.where(PART == 1, 2, LABELS % 2)  # a whole class: the readings of classes look at logits too
    found = [
        audit(select(replace(s, labels=labels), order), roles=roles, ids=IDS[order], **masks)
        for s in (store.signals("orsha"), in_memory(store))
    ]
    assert json.dumps(found[0]) == json.dumps(found[1])
