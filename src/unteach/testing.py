"""Contracts that anybody's method has to meet; call these from your own tests."""

from __future__ import annotations

import copy
import json

import torch

from unteach.engine import Engine
from unteach.store import fingerprint, record, restored
from unteach.types import Method, Split


def check_method(method: Method, model: torch.nn.Module, split: Split) -> torch.nn.Module:
    """Call a method twice and check what every method promises; returns the new model.

    The given model keeps its bytes, training flags and missing gradients; the new one is another object with the same names,
    shapes and types, finite, in eval mode, and the same bytes for the same seed; the global random state is untouched; the
    settings survive JSON. Raises: AssertionError that names the broken promise.
    """
    before, state = fingerprint(model), torch.get_rng_state()
    flags = [module.training for module in model.modules()]
    made = [method(model, split, torch.Generator().manual_seed(7), Engine(accelerator="cpu")) for _ in range(2)]
    assert fingerprint(model) == before, "the given model must stay bit-identical"
    assert [module.training for module in model.modules()] == flags, "the given model's training flags must stay"
    assert all(p.grad is None for p in model.parameters()), "no gradients may be left on the given model"
    assert torch.equal(torch.get_rng_state(), state), "the global random state must not be moved"
    new = made[0]
    assert new is not model, "the new model must be another object"
    old_state, new_state = model.state_dict(), new.state_dict()
    assert list(old_state) == list(new_state), "names in the state dict must stay"
    for name, value in new_state.items():
        assert value.shape == old_state[name].shape, f"the shape of {name} must stay"
        assert value.dtype == old_state[name].dtype, f"the type of {name} must stay"
        assert torch.isfinite(value.float()).all(), f"{name} must be finite"
    assert not any(module.training for module in new.modules()), "the new model must be in eval mode"
    assert fingerprint(made[0]) == fingerprint(made[1]), "the same seed must give the same bytes"
    assert set(method.needs) <= {"retain", "validation", "class", "convolutions"}, f"unknown needs: {method.needs}"
    told = json.loads(json.dumps(record(method), default=str))
    assert restored(type(method), told) == method, "settings must come back from their JSON"
    assert copy.deepcopy(method) == method, "settings must compare by value"
    return new
