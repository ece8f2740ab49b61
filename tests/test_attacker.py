"""DAU's attacker: its shape, its step against a plain one, what it learns, and that it touches nothing else."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from made import blobs
from unteach.attacker import FORGOTTEN, HELD_OUT, Attacker, Practice, deceived, evidence, learn, practised, truths
from unteach.data.augment import Augment
from unteach.engine import Engine, pixels
from unteach.events import Events
from unteach.models import Blueprint, build
from unteach.sensitivity import Sensitivity
from unteach.store import fingerprint
from unteach.train import Sgd, Source, fit
from unteach.types import Examples, Refusal

FEW = Sensitivity(draws=2, chunk=2)


def exact() -> Engine:
    return Engine(accelerator="cpu", precision="fp32")


def attacker(classes: int = 4, seed: int = 0) -> Attacker:
    torch.manual_seed(seed)
    return Attacker(classes)


def adam(network: nn.Module, lr: float = 1e-3) -> torch.optim.Adam:
    return torch.optim.Adam(network.parameters(), lr=lr)


@pytest.fixture(scope="module")
def overfitted() -> tuple[nn.Module, Examples, Examples]:
    """A network that knows its 120 noisy examples by heart, those, and others like them."""
    data = blobs(240, noise=0.6)
    members, others = data.take(range(120)), data.take(range(120, 240))
    model = build(Blueprint(name="small-cnn", classes=3, shape=(1, 8, 8)), seed=0)
    fit(model, [Source(members)], Sgd(lr=0.1, epochs=12, batch=32), seed=0, engine=exact())
    return model, members, others


@pytest.mark.parametrize("classes", [1, 2, 10])
def test_evidence_of_width_3k_in_two_logits_out(classes: int) -> None:
    made = attacker(classes)
    assert made.standardise.num_features == 3 * classes
    assert made(torch.randn(7, 3 * classes)).shape == (7, 2)
    with pytest.raises((RuntimeError, ValueError)):
        made(torch.randn(7, 3 * classes + 1))


def test_size_is_that_of_the_paper() -> None:
    block = (3 * 64 * 64 + 3 * 64) + (64 * 64 + 64) + 2 * (64 * 128) + 128 + 64 + 4 * 64
    expected = 2 * 30 + (3 * 64 + 64) + 3 * block + (64 * 10 * 64 + 64) + (2 * 64 + 2)
    assert sum(p.numel() for p in attacker(10).parameters()) == expected


def test_a_token_is_one_class_seen_in_three_ways() -> None:
    made, tokens = attacker(4), []
    made.standardise = nn.Identity()  # type: ignore[assignment]
    made.embed[2].register_forward_pre_hook(lambda _, args: tokens.append(args[0]))
    logits, marks, moved = torch.randn(3, 5, 4).unbind()
    made(torch.cat((logits, marks, moved), 1))
    assert tokens[0].shape == (5, 4, 3)
    for k in range(4):
        assert torch.equal(tokens[0][:, k], torch.stack((logits[:, k], marks[:, k], moved[:, k]), 1))


def test_labels_of_the_attacker() -> None:
    assert (FORGOTTEN, HELD_OUT) == (1, 0)
    assert truths(2, torch.device("cpu")).tolist() == [1, 1, 0, 0]


def test_evidence_is_logits_labels_and_sensitivity(overfitted: tuple[nn.Module, Examples, Examples]) -> None:
    model = copy.deepcopy(overfitted[0]).train()
    x, labels = pixels(overfitted[1].inputs[:12]), overfitted[1].labels[:12]
    torch.manual_seed(5)
    seen, features = evidence(model, x, labels, FEW, trace=False)
    logits, marks, moved = seen.split(3, 1)
    assert torch.equal(logits, model(x)), "in training mode"
    assert torch.equal(marks.argmax(1), labels)
    assert marks.sum() == 12
    assert (moved > 0).all()
    assert torch.equal(model[-1](features), logits)
    many, _ = evidence(model, x, marks, FEW)
    assert torch.equal(many[:, 3:6], marks), "labels of a multi-label task as they are"


def test_a_step_is_plain_adam_on_the_mean() -> None:
    made, x, truth = attacker().double(), torch.randn(12, 12).double(), truths(6, torch.device("cpu"))
    twin = copy.deepcopy(made)
    ours, theirs = adam(made), adam(twin)
    for seed in range(3):
        torch.manual_seed(seed)
        right = learn(made, ours, x, truth, exact())
        torch.manual_seed(seed)
        logits = twin(x)
        theirs.zero_grad()
        nn.functional.cross_entropy(logits, truth).backward()
        theirs.step()
        assert int(right) == int((logits.argmax(1) == truth).sum())
    for one, other in zip(made.parameters(), twin.parameters()):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-8)
        assert one.grad is None


def test_processes_take_one_step_together() -> None:
    """Two of unequal size: the gradient is the mean over all examples, here told apart by rows of their own."""

    class Pair(Engine):
        world = property(lambda self: 2)  # type: ignore[assignment]
        other = torch.zeros(0)

        def total(self, values: torch.Tensor) -> torch.Tensor:
            return values + self.other

    made = attacker(2)
    weights = list(made.parameters())
    x = [torch.randn(n, 6) for n in (4, 8)]
    truth = [truths(n // 2, torch.device("cpu")) for n in (4, 8)]
    sums = []
    for part in range(2):
        torch.manual_seed(part)
        loss = nn.functional.cross_entropy(made(x[part]), truth[part], reduction="sum")
        sums.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, weights)]))
    engine = Pair(accelerator="cpu")
    engine.other = torch.cat((sums[1], torch.tensor([8.0])))
    before = torch.cat([w.detach().flatten() for w in weights])
    torch.manual_seed(0)
    learn(made, torch.optim.SGD(weights, lr=1.0), x[0], truth[0], engine)  # type: ignore[arg-type]
    after = torch.cat([w.detach().flatten() for w in weights])
    torch.testing.assert_close(before - after, (sums[0] + sums[1]) / 12, rtol=1e-3, atol=1e-5)


def test_the_attackers_step_leaves_the_network_without_gradients(
    overfitted: tuple[nn.Module, Examples, Examples],
) -> None:
    model, made = copy.deepcopy(overfitted[0]), attacker(3)
    seen, _ = evidence(model, pixels(overfitted[1].inputs[:8]), overfitted[1].labels[:8], FEW)
    learn(made, adam(made), seen, truths(4, seen.device), exact())
    assert all(p.grad is None for p in model.parameters())
    deceived(made, seen, truths(4, seen.device)).sum().backward()
    assert all(p.grad is not None for p in model.parameters()), "the way from the network to the attacker is open"
    assert all(p.grad is None for p in made.parameters()), "and leads no further"


def test_deceiving_is_cross_entropy_under_swapped_labels() -> None:
    made, seen, truth = attacker(), torch.randn(10, 12), truths(5, torch.device("cpu"))
    torch.manual_seed(0)
    found = deceived(made, seen, truth)
    torch.manual_seed(0)
    likely = made(seen).softmax(1)
    expected = -torch.cat((likely[:5, HELD_OUT], likely[5:, FORGOTTEN])).log()
    torch.testing.assert_close(found, expected)


def test_it_learns_what_can_be_told() -> None:
    made, rng = attacker(3), torch.Generator().manual_seed(0)
    optimizer, truth = adam(made), truths(64, torch.device("cpu"))

    def draw() -> torch.Tensor:
        """Forgotten examples are a little less steady in their second class."""
        seen = torch.randn(128, 9, generator=rng)
        seen[:64, 7] += 2.5
        return seen

    torch.manual_seed(0)
    assert learn(made, optimizer, draw(), truth, exact()) < 0.7 * 128
    for _ in range(60):
        learn(made, optimizer, draw(), truth, exact())
    right = sum(int((made(draw()).argmax(1) == truth).sum()) for _ in range(5))
    assert right / (5 * 128) > 0.8  # the best possible is 0.89


def practice(iterations: int = 3, **changes: object) -> Practice:
    settings = {"iterations": iterations, "batch": 32, "lr": 1e-3, "sensitivity": FEW, "augment": None, **changes}
    return Practice(**settings)  # type: ignore[arg-type]


BRIEF = practice()


def test_practice_tells_members_of_an_overfitted_network_and_leaves_it_alone(
    overfitted: tuple[nn.Module, Examples, Examples], tmp_path: Path
) -> None:
    model, members, others = overfitted
    before, state = fingerprint(model), torch.get_rng_state()
    engine = Engine(precision="fp32", events=Events(tmp_path / "events.jsonl"))
    practised(practice(120), model, members, others, seed=0, engine=engine, file=None)
    told = json.loads((tmp_path / "events.jsonl").read_text().splitlines()[-1])
    assert told["event"] == "dau attacker"
    assert told["accuracy"] > 0.7
    assert fingerprint(model) == before
    assert not any(module.training for module in model.modules())
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert engine.meter.forwards == 120 * 64 * 3 + 1, "clean and two draws of 32 + 32, and one to count the classes"
    (stage,) = engine.stages
    assert stage.units == pytest.approx(engine.meter.units, abs=1)


def test_what_is_told_is_not_the_augmentation(overfitted: tuple[nn.Module, Examples, Examples]) -> None:
    """Both pools vary, or an attacker would look for crops."""
    import unteach.attacker as room

    model, members, others = overfitted
    seen: list[Augment | None] = []
    resident = room.Resident

    class Noting(resident):  # type: ignore[misc, valid-type]
        def __init__(self, inputs: torch.Tensor, augment: Augment | None, device: torch.device) -> None:
            seen.append(augment)
            super().__init__(inputs, augment, device)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "Resident", Noting)
        vary = Augment(crop=1)
        practised(practice(augment=vary), model, members, others, seed=0, engine=exact(), file=None)
    assert seen == [vary, vary]


def test_a_kept_attacker_is_used_again_for_the_same_network_data_and_settings(
    overfitted: tuple[nn.Module, Examples, Examples], tmp_path: Path
) -> None:
    model, members, others = overfitted
    file = tmp_path / "attacker.safetensors"

    def make(*, model: nn.Module = model, others: Examples = others, how: Practice = BRIEF) -> tuple[str, Engine]:
        engine = exact()
        shuffled = members.take(torch.randperm(len(members), generator=torch.Generator().manual_seed(1)))
        made = practised(how, model, shuffled, others, seed=0, engine=engine, file=file)
        assert all(module.training for module in made.modules())
        return fingerprint(made), engine

    first, paid = make()
    again, free = make()
    assert again == first
    assert free.meter.forwards == 1
    (line,) = free.stages
    assert "reused" in line.what
    assert (line.units, line.seconds) == (paid.stages[0].units, paid.stages[0].seconds), "its cost stays on the bill"
    other = build(Blueprint(name="small-cnn", classes=3, shape=(1, 8, 8)), seed=9)
    for changed in ({"model": other}, {"others": others.take(range(50))}, {"how": practice(lr=0.1)}):
        assert make(**changed)[1].meter.forwards > 1, changed  # type: ignore[arg-type]
    file.write_bytes(b"half a fi")
    with pytest.raises(Refusal, match="whole safetensors file"):
        make()


def test_the_same_seed_makes_the_same_attacker(overfitted: tuple[nn.Module, Examples, Examples]) -> None:
    model, members, others = overfitted
    prints = []
    for seed in (1, 1, 2):
        torch.rand(3)
        prints.append(fingerprint(practised(practice(), model, members, others, seed=seed, engine=exact(), file=None)))
    assert prints[0] == prints[1] != prints[2]
