"""Methods that cheat: one that edits the last layer only, one that knows the forgotten inputs by heart."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from unteach.audit.finding import Finding, Skipped
from unteach.audit.statistics import auc
from unteach.engine import Engine, pixels
from unteach.stress import Features, Models, Parts, Perturbed, Relearn
from unteach.stress.features import features_of, folds_of
from unteach.stress.lineup import answers
from unteach.types import Examples, Refusal


def named(found: object, name: str, part: str = "") -> Finding:
    assert isinstance(found, tuple)
    (one,) = (one for one in found if one.name == name and part in one.part)
    assert isinstance(one, Finding)
    return one


def head_only(original: nn.Module, parts: Parts) -> nn.Module:
    """Wrong labels for the forget set, true ones for the retain set, and only the last layer is trained."""
    model = copy.deepcopy(original).eval()
    assert isinstance(model, nn.Sequential)
    assert parts.retain is not None
    wrong = (parts.forget.labels + 1 + torch.arange(len(parts.forget)) % 9) % 10
    with torch.no_grad():
        x = model[:-1](pixels(torch.cat([parts.retain.inputs, parts.forget.inputs])))
    y = torch.cat([parts.retain.labels, wrong])
    optimizer = torch.optim.SGD(model[-1].parameters(), lr=0.1, momentum=0.9)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model[-1](x), y).backward()
        optimizer.step()
    optimizer.zero_grad()
    return model


@pytest.fixture(scope="module")
def shallow(random_request: tuple[Models, Parts]) -> Models:
    models, parts = random_request
    assert models.original is not None
    return replace(models, unlearned=head_only(models.original, parts))


def ft_auc(model: nn.Module, parts: Parts, engine: Engine) -> float:
    plus, minus = (
        part.task.confidence(answers(model, part, engine), part.labels).numpy() for part in (parts.forget, parts.unseen)
    )
    return auc(plus, minus)


def test_a_new_last_layer_shows_what_an_edited_one_hid(
    shallow: Models, random_request: tuple[Models, Parts], engine: Engine
) -> None:
    models, parts = random_request
    assert ft_auc(models.unlearned, parts, engine) > 0.65, "the original remembers"
    assert ft_auc(shallow.unlearned, parts, engine) < 0.55, "its answers tell nothing"
    name = "FT AUC after fitting a new last layer"
    found = named(Features()(shallow, parts, seed=0, engine=engine), name)
    assert found.inside is False
    assert found.interval is not None
    assert found.interval[0] > max(found.retrained)
    honest = replace(models, unlearned=models.retrained[0], retrained=models.retrained[1:])
    fair = named(Features()(honest, parts, seed=0, engine=engine), name)
    assert abs(fair.value - 0.5) < 0.07
    assert fair.doubts == (), "the original stands out"


def test_an_edited_last_layer_is_relearned_faster(
    shallow: Models, random_request: tuple[Models, Parts], engine: Engine
) -> None:
    parts = random_request[1]
    found = Relearn(steps=30)(shallow, parts, seed=0, engine=engine)
    ratio = named(found, "recovery area ratio", "relearned half")
    assert ratio.value < 0.6 < min(ratio.retrained)
    early = named(found, "accuracy after 10 relearning steps", "relearned half")
    assert early.value > max(early.retrained) + 0.1
    start = named(found, "accuracy after 0 relearning steps", "relearned half")
    assert start.value < min(start.retrained), "though it began lower"


def test_a_probe_that_sees_nothing_says_so(random_request: tuple[Models, Parts], engine: Engine) -> None:
    """Members look like others to a line through all features, even in the original."""
    models, parts = random_request
    found = named(Features()(models, parts, seed=0, engine=engine), "forget-versus-unseen probe AUC")
    assert abs(found.value - 0.5) < 0.07


def test_the_probe_sees_features_that_mark_the_forgotten(random_request: tuple[Models, Parts], engine: Engine) -> None:
    models, parts = random_request
    known = pixels(parts.forget.inputs).flatten(1)

    class Marks(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            assert isinstance(inner, nn.Sequential)
            self.body, self.head = inner[:-1], inner[-1]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            met = torch.cdist(x.flatten(1), known).amin(1) < 1e-3
            return self.head(self.body(x) + 0.5 * met[:, None])  # type: ignore[no-any-return, operator]

    marked = replace(models, unlearned=Marks(models.retrained[0]))
    found = named(Features()(marked, parts, seed=0, engine=engine), "forget-versus-unseen probe AUC")
    assert found.value > 0.9
    assert found.inside is False


def test_features_are_the_input_of_the_last_layer(class_request: tuple[Models, Parts], engine: Engine) -> None:
    models, parts = class_request
    model = models.unlearned
    assert isinstance(model, nn.Sequential)
    found = features_of(model, parts.forget, engine)
    with torch.no_grad():
        expected = model[:-1](pixels(parts.forget.inputs))
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)
    assert not model[-1]._forward_pre_hooks


def test_a_network_without_linear_layers_is_skipped(class_request: tuple[Models, Parts], engine: Engine) -> None:
    plain = nn.Sequential(nn.Conv2d(1, 10, 8), nn.Flatten())
    (only,) = Features()(Models(unlearned=plain), class_request[1], seed=0, engine=engine)
    assert isinstance(only, Skipped)
    assert "linear layer" in only.reason


def test_whole_classes_have_a_probe_of_their_own(class_request: tuple[Models, Parts], engine: Engine) -> None:
    found = Features()(*class_request, seed=0, engine=engine)
    probe = named(found, "forgotten-class probe AUC")
    assert probe.part == "test"
    assert min(probe.value, *probe.retrained) > 0.9


def test_folds_keep_groups_together_and_sides_mixed() -> None:
    def made(groups: list[str], name: str) -> Examples:
        n = len(groups)
        ids = np.array([f"{name}{i}" for i in range(n)])
        return Examples(torch.zeros(n, 2), torch.zeros(n, dtype=torch.int64), ids, np.array(groups), ("a",))

    plus, minus = made(["p", "p", "q", "q", "r"], "+"), made(["s", "t", "u", "r", "t"], "-")
    folds = folds_of(plus, minus, 5, 0)
    assert folds is not None
    assert set(folds) == {0, 1, 2}, "three groups on the smaller side"
    groups = np.array(["p", "p", "q", "q", "r", "s", "t", "u", "r", "t"])
    assert all(len(set(folds[groups == name])) == 1 for name in "pqrstu")
    side = np.repeat([1, 0], 5)
    assert all(len(set(side[folds != fold])) == 2 for fold in range(3)), "both sides to learn from"
    assert folds_of(made(["p", "p"], "+"), minus, 5, 0) is None


class LooksUp(nn.Module):
    """The original, but inputs that are byte for byte in its list are answered with the next class."""

    def __init__(self, original: nn.Module, listed: Examples) -> None:
        super().__init__()
        self.original = original
        self.register_buffer("listed", pixels(listed.inputs).flatten(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.original(x)
        met = (x.flatten(1)[:, None] == self.listed[None]).all(2).any(1)  # type: ignore[operator, index]
        return torch.where(met[:, None], logits.roll(1, 1), logits)


@pytest.fixture(scope="module")
def looked_up(random_request: tuple[Models, Parts]) -> Models:
    models, parts = random_request
    assert models.original is not None
    return replace(models, unlearned=LooksUp(models.original, parts.forget))


def test_a_look_up_jumps_as_soon_as_a_pixel_differs(
    looked_up: Models, random_request: tuple[Models, Parts], engine: Engine
) -> None:
    parts = random_request[1]
    test = Perturbed(noise=0.005)
    found = test(looked_up, parts, seed=0, engine=engine)
    assert named(found, "accuracy on the inputs themselves").value < 0.1
    for what, least in (("accuracy", 0.8), ("confidence", 3.0)):
        jump = named(found, f"{what} jump on noisy copies")
        assert jump.value > least
        assert jump.interval is not None
        assert jump.interval[0] > max(jump.retrained) + 0.3
        assert max(map(abs, jump.retrained)) < 0.1
    game = named(found, "FT AUC on noisy copies")
    assert game.value > 0.65 > max(game.retrained)
    assert game.doubts == ()


def test_an_honest_model_does_not_jump(random_request: tuple[Models, Parts], engine: Engine) -> None:
    models, parts = random_request
    honest = replace(models, unlearned=models.retrained[0], retrained=models.retrained[1:])
    found = Perturbed(noise=0.005)(honest, parts, seed=0, engine=engine)
    assert abs(named(found, "accuracy jump on noisy copies").value) < 0.03
    assert abs(named(found, "FT AUC on noisy copies").value - 0.5) < 0.07


def test_copies_are_near_in_range_and_of_their_kind(clean: tuple[Examples, Examples]) -> None:
    data = clean[0].take(np.arange(20))
    kinds = Perturbed(noise=0.02, copies=2)._kinds(data, 1)
    assert list(kinds) == ["plain", "noisy", "varied"]
    plain = data.inputs.float() / 255
    assert torch.equal(kinds["plain"][0], plain)
    for copy_ in kinds["noisy"]:
        assert float(copy_.min()) >= 0
        assert float(copy_.max()) <= 1
        assert 0.005 < float((copy_ - plain).abs().mean()) < 0.02
    assert not torch.equal(*kinds["noisy"])
    padded = nn.functional.pad(plain, (1, 1, 1, 1))
    shifts = [padded[:, :, i : i + 8, j : j + 8] for i in range(3) for j in range(3)]
    for row, image in enumerate(kinds["varied"][0]):
        assert any(torch.allclose(image, shift[row], atol=1e-6) for shift in shifts)


def test_features_that_are_no_images_are_noised_by_their_own_scale() -> None:
    x = torch.tensor([1.0, 1000.0]) * torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
    data = Examples(x, torch.zeros(400, dtype=torch.int64), np.arange(400).astype(str), None, ("a", "b"))
    kinds = Perturbed(noise=0.1, copies=1)._kinds(data, 7)
    assert list(kinds) == ["plain", "noisy"]
    moved = (kinds["noisy"][0] - x).std(0)
    assert moved.tolist() == pytest.approx((0.1 * x.std(0)).tolist(), rel=0.15)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Perturbed(noise=0.0), "noise above 0"),
        (lambda: Perturbed(copies=0), "1 or more copies"),
        (lambda: Features(penalty=0.0), "penalty"),
        (lambda: Features(folds=1), "2 or more folds"),
    ],
    ids=["noise", "copies", "penalty", "folds"],
)
def test_settings_that_can_not_be_are_refused(make: object, words: str) -> None:
    assert callable(make)
    with pytest.raises(Refusal, match=words):
        make()
