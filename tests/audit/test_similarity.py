"""Weight distances by layer and debiased CKA against its n × n definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unteach.audit.finding import Skipped
from unteach.audit.similarity import feature_distance, linear_cka, weight_distances
from unteach.types import Refusal


def network(seed: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 3)).state_dict()


def by_definition(x: np.ndarray, y: np.ndarray) -> float:
    """Song et al., eq. 5, with n × n kernels."""

    def hsic(k, m):
        n = len(k)
        k, m = (kernel - np.diag(np.diag(kernel)) for kernel in (k, m))
        one = np.ones(n)
        middle = (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
        return (np.trace(k @ m) + middle - 2 / (n - 2) * (one @ k @ m @ one)) / (n * (n - 3))

    k, m = x @ x.T, y @ y.T
    return hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))


def test_layers_are_told_apart_and_buffers_left_out():
    original = network(0)
    moved = {name: value.clone() for name, value in original.items()}
    moved["2.weight"] += 1
    moved["1.running_mean"] += 9
    found = {(one.name, one.part): one for one in weight_distances(moved, [network(1), network(2)], original)}
    start = "relative weight distance from original (ℓ2)"
    last = torch.cat([original["2.weight"].ravel(), original["2.bias"]]).double()
    assert found[start, "0"].value == 0
    assert found[start, "1"].value == 0
    assert found[start, "2"].value == pytest.approx(np.sqrt(12) / float(last.norm()))
    assert not found[start, "all layers"].retrained
    clean = found["relative weight distance (ℓ2)", "0"]
    a, b = (torch.cat([network(s)["0.weight"].ravel(), network(s)["0.bias"]]).double() for s in (1, 2))
    assert clean.retrained == pytest.approx((float((a - b).norm() / b.norm()), float((a - b).norm() / a.norm())))
    assert "permuted" in clean.doubts[0]


def test_other_networks_are_refused_and_empty_layers_skipped():
    with pytest.raises(Refusal, match="one network"):
        weight_distances(network(0), [torch.nn.Linear(2, 2).state_dict()] * 2)
    zero = {name: torch.zeros_like(value) for name, value in network(0).items()}
    assert all(isinstance(one, Skipped) for one in weight_distances(network(0), [zero, zero], zero))
    assert isinstance(weight_distances(network(0), [network(1)])[0], Skipped)


@given(st.integers(0, 2**32 - 1), st.integers(5, 30), st.integers(1, 12), st.floats(-50, 50))
def test_cka_is_its_definition(seed, n, d, offset):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, d)) + offset, rng.normal(size=(n, 3))
    y[:, 0] += x[:, 0]
    expected = by_definition(x - x.mean(0), y - y.mean(0))
    if np.isfinite(expected):  # of few examples an estimate of HSIC(X, X) may be negative
        assert linear_cka(x, y) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_cka_does_not_see_rotation_scale_and_mean_and_is_unbiased():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 6))
    turn = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    assert linear_cka(x, 3 * x @ turn + 100) == pytest.approx(1)
    unrelated = [linear_cka(rng.normal(size=(15, 40)), rng.normal(size=(15, 40))) for _ in range(300)]
    assert np.mean(unrelated) == pytest.approx(0, abs=0.02), "the biased form gives about 0.7 here"
    assert linear_cka(np.full((20, 3), 0.1), x[:20]) is None
    with pytest.raises(Refusal, match="4 or more"):
        linear_cka(x[:3], x[:3])


def test_feature_findings_have_a_floor():
    rng = np.random.default_rng(1)
    shared = rng.normal(size=(300, 8))
    retrained = [shared + 0.3 * rng.normal(size=(300, 8)) for _ in range(4)]
    near = feature_distance(shared + 0.3 * rng.normal(size=(300, 8)), retrained, "forget", "features")
    far = feature_distance(rng.normal(size=(300, 8)), retrained, "forget", "features")
    assert near.value == pytest.approx(near.target, abs=0.03)
    assert far.value > 0.9 > max(far.retrained)
    assert far.inside is False
    assert "do not vary" in feature_distance(np.zeros((300, 8)), retrained, "forget", "features").reason
    assert isinstance(feature_distance(shared, retrained[:1], "forget", "features"), Skipped)
