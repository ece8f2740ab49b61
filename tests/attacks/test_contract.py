"""What every attack in the table promises."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from unteach.attacks import ATTACKS, Fgsm, Nearest, PgdL2, PgdLinf, Schedule
from unteach.types import Attack, Refusal

Data = tuple[torch.Tensor, torch.Tensor]
Search = Schedule | Nearest | Fgsm
SEARCHES = [Schedule(), Schedule(restart=True), Schedule(bf16=False), Nearest(), Nearest(bf16=False), Fgsm()]
EVERY = [*(kind() for kind in ATTACKS.values()), PgdL2(random_start=True), PgdLinf(random_start=True)]


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def answers(model: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    judge = copy.deepcopy(model).eval()
    with torch.no_grad():
        logits: torch.Tensor = judge(inputs)
    return logits.argmax(1)


@pytest.mark.parametrize("attack", EVERY, ids=str)
def test_an_attack_leaves_the_model_as_it_was_and_its_outputs_in_the_box(
    attack: Attack, network: nn.Module, digits: Data
) -> None:
    x, y = digits[0][:12], digits[1][:12]
    bytes_before = {name: value.clone() for name, value in network.state_dict().items()}
    flags = [module.training for module in network.modules()]
    assert len(set(flags)) == 2
    global_state = torch.get_rng_state()

    out = attack(network, x, y, rng())

    assert isinstance(attack, Attack)
    assert out.dtype == torch.float32
    assert out.shape == x.shape
    assert float(out.min()) >= 0
    assert float(out.max()) <= 1
    assert not out.requires_grad
    assert all(weight.grad is None for weight in network.parameters())
    assert all(weight.requires_grad for weight in network.parameters())
    assert [module.training for module in network.modules()] == flags
    assert all(torch.equal(value, bytes_before[name]) for name, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), global_state)


@pytest.mark.parametrize("attack", EVERY, ids=str)
def test_the_same_seed_gives_the_same_bytes_from_uint8_and_from_floats(
    attack: Attack, network: nn.Module, digits: Data
) -> None:
    x, y = digits[0][:12], digits[1][:12]
    first = attack(network, x, y, rng())
    assert torch.equal(first, attack(network, x, y, rng()))
    assert torch.equal(first, attack(network, x.float() / 255, y, rng()))


@pytest.mark.parametrize("search", SEARCHES, ids=str)
def test_a_search_finds_every_example_and_records_what_the_model_says(
    search: Search, network: nn.Module, digits: Data
) -> None:
    x, y = digits[0][:128], digits[1][:128].clone()
    y[3] = (y[3] + 1) % 10
    clean = x.float() / 255
    seen: list[tuple[int, int]] = []

    found = search.search(network, x, y, rng(), progress=lambda done, total: seen.append((done, total)))

    assert bool(found.success.all())
    assert torch.equal(found.labels, answers(network, found.inputs))
    assert bool((found.labels != y).all())
    measured = (found.inputs - clean).flatten(1).norm(dim=1)
    torch.testing.assert_close(found.distances, measured, atol=1e-6, rtol=1e-5)
    assert bool((measured <= found.epsilons + 1e-5).all())
    already = answers(network, clean) != y
    assert bool(already[3])
    assert torch.equal(found.inputs[already], clean[already])
    assert torch.equal(found.distances == 0, already)
    assert found.gradients == int(found.gradients_each.sum()) > 0
    # Nearest learns from its first gradient whom the model may misread; the others ask about the clean inputs first.
    asks_first = not isinstance(search, Nearest)
    assert bool((found.gradients_each[already] == int(not asks_first)).all())
    assert int(found.forwards_each.min()) >= 1
    walked = 128 - asks_first * int(already.sum())
    assert seen[-1] == (walked, walked)


def test_a_search_does_not_depend_on_how_many_run_beside_an_example(network: nn.Module, digits: Data) -> None:
    x, y = digits[0][:140], digits[1][:140]
    for search in (Schedule(bf16=False), Nearest(bf16=False), Fgsm(bf16=False, restarts=0)):
        together = search.search(network, x, y).distances[:5]
        alone = torch.cat([search.search(network, x[i : i + 1], y[i : i + 1]).distances for i in range(5)])
        torch.testing.assert_close(together, alone, rtol=2e-2, atol=1e-4)


@pytest.mark.parametrize("search", [Schedule(), Nearest(), Fgsm()], ids=str)
def test_no_examples_is_no_work(search: Search, network: nn.Module, digits: Data) -> None:
    assert len(search.search(network, digits[0][:0], digits[1][:0], rng())) == 0


@pytest.mark.parametrize("search", [Schedule(doublings=3), Nearest(), Fgsm(restarts=2)], ids=str)
def test_a_model_that_cannot_be_fooled_is_reported(search: Search, digits: Data) -> None:
    blind = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    nn.init.zeros_(blind[1].weight)
    with torch.no_grad():
        blind[1].bias.copy_(torch.arange(10.0))
    x, y = digits[0][:4], torch.tensor([9, 9, 9, 1])
    found = search.search(blind, x, y, rng())
    assert found.success.tolist() == [False, False, False, True]
    assert torch.equal(found.inputs, x.float() / 255)
    assert found.labels.tolist() == [9, 9, 9, 9]


@pytest.mark.parametrize("search", [Schedule(), Nearest(), Fgsm()], ids=str)
def test_several_labels_are_flipped_when_one_of_them_is(
    search: Search, multi: tuple[nn.Module, torch.Tensor], digits: Data
) -> None:
    model, labels = multi
    found = search.search(model, digits[0][:100], labels[:100], rng())
    with torch.no_grad():
        said = (model(found.inputs) > 0).float()
    assert torch.equal(found.labels, said)
    assert bool((said != labels[:100]).any(1).all())
    assert found.labels.dtype == labels.dtype


def test_bad_inputs_are_refused_in_a_sentence(network: nn.Module, digits: Data) -> None:
    x, y = digits[0][:4].float() / 255, digits[1][:4]
    for inputs, labels, word in [
        (x * 2, y, "0–1"),
        (x * torch.nan, y, "0–1"),
        (x, y[:3], "label per input"),
        ((x * 255).long(), y, "uint8 or float"),
        (x, y + 10, "0 to 9"),
    ]:
        with pytest.raises(Refusal, match=word):
            Nearest()(network, inputs, labels)
    with pytest.raises(Refusal, match="Generator"):
        PgdL2(random_start=True)(network, x, y)
    with pytest.raises(Refusal, match="Generator"):
        Fgsm()(network, x, y)
    for wrong in ({"epsilon": 0.0}, {"steps": 0}, {"noise": -0.1}, {"restarts": -1}):
        with pytest.raises(Refusal, match=next(iter(wrong))):
            Fgsm(**wrong)
    for wrong in (
        {"softness": 0.0},
        {"tolerance": 0.0},
        {"first_cap": 0.0},
        {"gradients": 0},
        {"most": 0},
        {"cuts": 0},
    ):
        with pytest.raises(Refusal, match=next(iter(wrong))):
            Nearest(**wrong)
