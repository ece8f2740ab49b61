"""Recipes: smoothing, sparse training and adversarial training, against what their formulas say."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from made import blobs
from unteach.data.augment import Augment
from unteach.engine import Engine
from unteach.models import Blueprint, build
from unteach.models.masks import keep_pruned, masks_of, set_masks
from unteach.prune import Prune, Snapshot, prune_and_rewind, smallest
from unteach.recipe import Recipe
from unteach.spectral import Clip, Gouk, Lanczos, Miyato, layers_of
from unteach.store import fingerprint
from unteach.trades import Trades, divergence
from unteach.train import Sgd, Source, fit
from unteach.types import MultiClass, MultiLabel, Refusal

OPTIM = Sgd(lr=0.05, epochs=4, batch=16, schedule="step:2")


def network(seed: int = 0) -> torch.nn.Module:
    return build(Blueprint(name="small-cnn", classes=3, shape=(1, 8, 8)), seed=seed)


def exact(scratch: Path | None = None) -> Engine:
    return Engine(precision="fp32", scratch=scratch)


def struck(engine: Engine, after: int) -> Engine:
    """An engine whose training breaks off when this many epochs have been told."""
    told = 0

    def emit(kind: str, **_: object) -> None:
        nonlocal told
        told += kind == "epoch"
        if told == after:
            raise RuntimeError("struck")

    engine.events.emit = emit  # type: ignore[method-assign]
    return engine


def zeros(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight == 0 for name, weight in model.named_parameters() if weight.ndim == 4}


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(optim=OPTIM),
        Recipe(optim=OPTIM, augment=Augment(crop=2), smoothing=0.1),
        Recipe(optim=OPTIM, prune=Prune(share=0.5, rewind=2), trades=Trades(steps=2)),
        *(Recipe(optim=OPTIM, clip=kind(target=0.7)) for kind in (Clip, Gouk, Miyato)),
    ],
)
def test_a_recipe_comes_back_from_its_json(recipe: Recipe) -> None:
    assert Recipe.from_json(recipe.as_json()) == recipe


def test_settings_of_any_kind_come_back_from_their_record() -> None:
    import json

    from unteach.attacks import Fgsm, Schedule
    from unteach.methods import Amun, Retrain
    from unteach.store import record, restored

    for settings in (
        Amun(attack=Schedule(restart=True), stored=Path("a/b.safetensors"), saliency=0.3),
        Amun(attack=Fgsm(), augment=Augment(flip=True)),
        Retrain(training=Recipe(clip=Miyato(target=2.0))),
    ):
        assert restored(type(settings), json.loads(json.dumps(record(settings), default=str))) == settings


def test_what_is_off_is_not_told() -> None:
    """Models that were trained before these settings came are found again under their old key."""
    assert set(Recipe().as_json()) == {"optim", "augment"}


def test_a_plain_recipe_is_fit() -> None:
    ours, theirs = network(), network()
    Recipe(optim=OPTIM)(ours, blobs(40), seed=3, engine=exact())
    fit(theirs, [Source(blobs(40))], OPTIM, seed=3, engine=exact())
    assert fingerprint(ours) == fingerprint(theirs)


def test_smoothing_spreads_its_share() -> None:
    logits, labels = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 0, 1])
    logp = logits.log_softmax(1)
    expected = -(0.8 * logp.gather(1, labels[:, None])[:, 0] + 0.2 * logp.mean(1))
    torch.testing.assert_close(MultiClass(4).loss(logits, labels, 0.2), expected)
    yes = (torch.rand(6, 4) > 0.5).float()
    p = logits.sigmoid()
    soft = 0.8 * yes + 0.1
    torch.testing.assert_close(
        MultiLabel(4).loss(logits, yes, 0.2), -(soft * p.log() + (1 - soft) * (1 - p).log()).mean(1)
    )


def test_smoothed_training_is_less_sure() -> None:
    data, sure, smooth = blobs(60), network(), network()
    optim = Sgd(lr=0.1, epochs=15, batch=16)
    Recipe(optim=optim)(sure, data, seed=0, engine=exact())
    Recipe(optim=optim, smoothing=0.3)(smooth, data, seed=0, engine=exact())
    top = [exact().logits(model, data.inputs).softmax(1).amax(1).mean() for model in (sure, smooth)]
    assert top[1] < top[0] - 0.1


def test_the_smallest_weights_of_the_whole_network_go() -> None:
    model = network()
    weights = torch.cat([w.detach().abs().flatten() for w in model.parameters() if w.ndim == 4])
    masks = smallest(model, 0.7)
    kept = torch.cat([w.detach().abs()[masks[n]] for n, w in model.named_parameters() if n in masks])
    assert len(kept) == len(weights) - int(0.7 * len(weights))
    assert kept.min() >= weights.sort().values[int(0.7 * len(weights))]
    assert len({float(mask.float().mean()) for mask in masks.values()}) > 1, "ranked globally, not layer by layer"


def test_fixed_convolutions_are_not_pruned() -> None:
    model = build(Blueprint(name="airbench-small", classes=3, shape=(3, 32, 32)), seed=0)
    assert "whitening.weight" not in smallest(model, 0.5)


def test_survivors_go_back_to_the_early_epoch() -> None:
    model = network()
    early = Snapshot(2)
    steps = 3 * 2
    fit(
        model, [Source(blobs(48))], Sgd(lr=0.05, epochs=2, batch=16), seed=0, engine=exact(), after_step=early
    )  # fmt: skip
    assert early.steps == steps
    late = {name: value.clone() for name, value in model.state_dict().items()}
    expected = smallest(model, 0.6)
    prune_and_rewind(model, 0.6, early.taken)
    for name, value in model.state_dict().items():
        target = early.taken[name] * expected[name] if name in expected else early.taken[name]
        assert torch.equal(value, target)
    assert any(not torch.equal(late[name], early.taken[name]) for name in late)


def test_a_sparse_network_stays_sparse_through_training_and_copies() -> None:
    import copy

    model, data = network(), blobs(48)
    Recipe(optim=OPTIM, prune=Prune(share=0.8, rewind=1))(model, data, seed=0, engine=exact())
    before = zeros(model)
    share = sum(int(z.sum()) for z in before.values()) / sum(z.numel() for z in before.values())
    assert share == pytest.approx(0.8, abs=1e-3)
    other = copy.deepcopy(model)
    fit(other, [Source(data)], OPTIM, seed=5, engine=exact())
    assert fingerprint(other) != fingerprint(model)
    assert all(torch.equal(zeros(other)[name], zero) for name, zero in before.items())
    assert list(model.state_dict()) == list(network().state_dict()), "the state dict is the dense network's"


def test_masks_hold() -> None:
    model = torch.nn.Conv2d(1, 1, 2)
    set_masks(model, {"weight": torch.tensor([[[[True, False], [False, True]]]])})
    with torch.no_grad():
        model.weight.fill_(3.0)
    keep_pruned(model)
    assert model.weight.flatten().tolist() == [3, 0, 0, 3]
    assert set(masks_of(model)) == {"weight"}
    assert masks_of(torch.nn.Conv2d(1, 1, 2)) == {}


@pytest.mark.parametrize("stop", [2, 6])  # in the dense part, and in the sparse one
def test_sparse_training_goes_on_after_an_interruption(stop: int, tmp_path: Path) -> None:
    data, recipe = blobs(48), Recipe(optim=OPTIM, prune=Prune(share=0.5, rewind=2))
    whole = network()
    recipe(whole, data, seed=1, engine=exact(tmp_path / "whole"))

    cut = network()
    with pytest.raises(RuntimeError, match="struck"):
        recipe(cut, data, seed=1, engine=struck(exact(tmp_path / "cut"), after=stop))
    again = network()
    recipe(again, data, seed=1, engine=exact(tmp_path / "cut"))
    assert fingerprint(again) == fingerprint(whole)


def test_a_clipped_training_ends_within_its_target_and_goes_on_after_an_interruption(tmp_path: Path) -> None:
    data, recipe = blobs(48), Recipe(optim=Sgd(lr=0.1, epochs=4, batch=16), clip=Clip(target=0.9, every=2))
    whole, free = network(), network()
    recipe(whole, data, seed=1, engine=exact())
    Recipe(optim=recipe.optim)(free, data, seed=1, engine=exact())
    norms = [
        [
            float(Lanczos()(layer.map(), torch.Generator().manual_seed(0)).values[0])
            for layer in layers_of(model, (1, 8, 8))
            if layer.kind in ("convolution", "dense")
        ]
        for model in (whole, free)
    ]
    assert max(norms[0]) <= 0.9 * 1.001
    assert max(norms[1]) > 1
    cut = network()
    with pytest.raises(RuntimeError, match="struck"):
        recipe(cut, data, seed=1, engine=struck(exact(tmp_path), after=2))
    again = network()
    recipe(again, data, seed=1, engine=exact(tmp_path))
    assert fingerprint(again) == fingerprint(whole)


def test_pruning_costs_its_second_training() -> None:
    assert Recipe(optim=OPTIM).cost == 4
    assert Recipe(optim=OPTIM, prune=Prune(rewind=1)).cost == 7
    assert Recipe(optim=OPTIM, trades=Trades(steps=10)).cost == pytest.approx(4 * (2 + 21 / 3))


@pytest.mark.parametrize("task", [MultiClass(4), MultiLabel(4)])
def test_divergence(task: MultiClass | MultiLabel) -> None:
    one, other = torch.randn(5, 4), torch.randn(5, 4)
    if isinstance(task, MultiClass):
        p, q = (torch.distributions.Categorical(logits=z) for z in (one, other))
        expected = torch.distributions.kl_divergence(p, q)
    else:
        a, b = (torch.distributions.Bernoulli(logits=z) for z in (one, other))
        expected = torch.distributions.kl_divergence(a, b).mean(1)
    torch.testing.assert_close(divergence(one, other, task), expected, rtol=1e-4, atol=1e-6)
    assert divergence(one, one, task).abs().max() < 1e-6


def test_the_worst_point_is_in_the_ball_and_worse_than_chance() -> None:
    model, data = network(), blobs(60, noise=0.2)
    fit(model, [Source(data)], Sgd(lr=0.1, epochs=8, batch=16), seed=0, engine=exact())
    inputs = data.inputs.float() / 255
    model.train()
    torch.manual_seed(0)
    ball = Trades(epsilon=0.05, step=0.0125)
    hard = ball._worst(model, inputs, data.task)
    assert (hard - inputs).abs().max() <= 0.05 + 1e-6
    assert hard.min() >= 0
    assert hard.max() <= 1
    assert all(module.training for module in model.modules()), "training flags come back"
    model.eval()
    with torch.no_grad():
        clean = model(inputs)
        noise = (inputs + 0.05 * (2 * torch.rand_like(inputs) - 1)).clamp(0, 1)
        worst, random = (float(divergence(clean, model(x), data.task).mean()) for x in (hard, noise))
    assert worst > 3 * random


def test_trades_without_its_term_is_plain_training() -> None:
    plain, robust = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3)), None
    import copy

    robust = copy.deepcopy(plain)
    Recipe(optim=OPTIM)(plain, blobs(40), seed=0, engine=exact())
    Recipe(optim=OPTIM, trades=Trades(beta=0.0, steps=1))(robust, blobs(40), seed=0, engine=exact())
    for ours, theirs in zip(robust.parameters(), plain.parameters()):
        torch.testing.assert_close(ours, theirs)


def test_adversarial_training_withstands_more() -> None:
    from unteach.attacks import PgdLinf

    data = blobs(150, noise=0.2)
    optim = Sgd(lr=0.05, epochs=20, batch=16)
    right = []
    for recipe in (Recipe(optim=optim), Recipe(optim=optim, trades=Trades(epsilon=0.06, step=0.02, steps=5))):
        model = network()
        recipe(model, data, seed=0, engine=exact())
        struck = PgdLinf(epsilon=0.06, steps=10)(model, data.inputs, data.labels)
        logits = exact().logits(model, struck)
        right.append(float(data.task.correct(logits, data.labels).mean()))
    assert right[1] > right[0] + 0.15


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"smoothing": 1.0}, "smoothing"),
        ({"prune": Prune(rewind=20)}, r"prune\.rewind"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(settings: dict[str, object], names: str) -> None:
    with pytest.raises(Refusal, match=names):
        Recipe(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [{"share": 1.0}, {"share": -0.1}, {"rewind": 0}])
def test_a_pruning_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(Refusal, match=next(iter(wrong))):
        Prune(**wrong)  # type: ignore[arg-type]


def test_a_network_without_convolutions_is_not_pruned() -> None:
    with pytest.raises(Refusal, match="convolutions to prune"):
        smallest(torch.nn.Linear(3, 2), 0.5)


def test_a_training_from_scratch_shows_all() -> None:
    with pytest.raises(Refusal, match=r"recipe\.optim\.sample 100"):
        Recipe(optim=Sgd(sample=100))
