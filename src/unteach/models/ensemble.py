"""Several networks on disjoint parts of the data, so that forgetting an example means retraining one of them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable

import numpy as np
import torch

from unteach.types import Examples, MultiLabel, Refusal


class Ensemble(torch.nn.Module):
    """Networks of one kind, each for a part (shard) of the training data; its logits are those of their mean probabilities.

    Inputs ``n × …`` go through every network. Of S networks' probabilities, averaged, the logarithm is returned, ``n × classes``
    (with ``several_labels`` the log-odds of each label). Which shard an example belongs to is a hash of its id, or of its group
    with ``by_group``, so that a person's examples are in one; no table is kept, and other examples do not matter.
    ``seed`` is that of the training, −1 before; it stays in the state dict, for a shard is trained anew from the same.
    *Source:* Bourtoule et al., Machine Unlearning (SISA), IEEE S&P 2021, arXiv 1912.03817, section IV. *Departs:* mean of
    probabilities, not a majority vote, so that there are logits; parts by hash and not by lot, so that their sizes vary.
    """

    seed: torch.Tensor

    def __init__(
        self, networks: Iterable[torch.nn.Module], *, by_group: bool = False, several_labels: bool = False
    ) -> None:
        super().__init__()
        self.shards = torch.nn.ModuleList(networks)
        if len(self.shards) < 1:
            raise Refusal("expected one network or more in an ensemble, got none; give some")
        self.by_group, self.several_labels = by_group, several_labels
        self.register_buffer("seed", torch.tensor(-1))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        each = torch.stack([shard(inputs).float() for shard in self.shards])
        if self.several_labels:
            log_odds = torch.nn.functional.logsigmoid
            return log_odds(each).logsumexp(0) - log_odds(-each).logsumexp(0)
        return each.log_softmax(2).logsumexp(0) - math.log(len(self.shards))

    def places(self, examples: Examples) -> np.ndarray:
        """The number of the shard that each example belongs to, int64 ``n``, from 0.

        Raises: Refusal when examples without groups are to be told apart by group.
        """
        if not self.by_group:
            return _hashed(examples.ids, len(self.shards))
        if examples.groups is None:
            raise Refusal("expected groups in the data of an ensemble by group, got none; leave by_group out")
        return _hashed(examples.groups, len(self.shards))

    def parts(self, examples: Examples, numbers: Iterable[int]) -> dict[int, Examples]:
        """Number of a shard → its own examples.

        Raises: Refusal for a shard without any, or for labels of another kind than the ensemble's.
        """
        if isinstance(examples.task, MultiLabel) != self.several_labels:
            raise Refusal(
                f"expected several_labels to be {not self.several_labels} for these labels, got {self.several_labels}; "
                "change the ensemble's arguments"
            )
        where = self.places(examples)
        found = {number: examples.take(where == number) for number in numbers}
        if empty := [number for number, part in found.items() if not len(part)]:
            raise Refusal(
                f"expected examples in each of {len(self.shards)} shards, got none in shard {empty[0] + 1}; "
                "train anew with fewer shards"
            )
        return found

    def expected_share(self, count: int) -> float:
        """The share of all training that ``count`` random deletions at once are expected to cost: 1 − (1 − 1/S)^count."""
        return float(1 - (1 - 1 / len(self.shards)) ** count)


def _hashed(names: np.ndarray, count: int) -> np.ndarray:
    """A number below ``count`` for each name, the same on every machine."""
    known = {
        name: int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest()) % count
        for name in set(names.tolist())
    }
    return np.array([known[name] for name in names.tolist()], dtype=np.int64)
