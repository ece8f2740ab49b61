"""``unteach request``: a queue of requests to forget, worked off on one model after the other."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from unteach.guard import Guard
from unteach.ledger import Budget, Policy, Queue, State
from unteach.ledger.queue import sha256
from unteach.methods import Amun
from unteach.models import Preprocess
from unteach.recipe import Recipe
from unteach.references.unlearning import restored_method, told
from unteach.store import record, restored
from unteach.types import Method, Refusal
from unteach.verbs.settings import DataChoice, Machine, anywhere, check_seed

OPENED_WITH = (
    *(
        "checkpoint",
        "model",
        "model_args",
        "preprocess",
        "source",
        "validation",
        "method",
        "preset",
        "recipe",
        "policy",
    ),
    *("budget", "audit_every", "references", "retain_sample", "seed", "guard"),
)
NESTED: dict[str, Any] = {
    "preprocess": Preprocess,
    "source": DataChoice,
    "recipe": Recipe,
    "policy": Policy,
    "budget": Budget,
    "guard": Guard,
}


@dataclass(frozen=True, kw_only=True)
class Requests:
    """Keep requests to forget and work them off, one model after the other: unteach request open, add, run, status.

    open begins a queue for a checkpoint, with the settings of all its runs; add records a request; run forgets what is due,
    each time in the last accepted model, and says when it is time to retrain; list shows the requests; status what they cost and
    what the model lost, with status.html and status.json; withdraw takes a request back. Killed at any moment, run goes on.
    """

    first = "action"

    action: str = "status"
    """open, add, run, list, status or withdraw; it may stand right after the verb."""
    queue: Path = Path("runs/queue")
    """Folder of the queue. Its settings may name code of your own network, which run runs: work off only your own."""
    ids: str = ""
    """For add: what to forget: a file of ids (.txt, .csv, .json), class:NAME, group:NAME, random:COUNT."""
    due: str = ""
    """For add: the date by which it is to be done, such as 2027-03-31."""
    note: str = ""
    """For add: words to find it by. They stay in the ledger for good: write no names."""
    key: str = ""
    """For add: your own name for the request. A second add with the same key and ids is the same request."""
    request: int = 0
    """For withdraw: the number of the request."""
    now: bool = False
    """For run: whether to run what is to wait by the policy, too."""
    retrain: bool = False
    """For run: whether to train a new model from scratch, without all that was asked for so far."""
    checkpoint: Path = field(default=Path("model.safetensors"))
    """For open: the trained model, safetensors or a PyTorch file."""
    model: str = ""
    """For open: network of the checkpoint, if it does not say or is no name of `unteach list`."""
    model_args: dict[str, Any] = field(default_factory=dict)
    """For open: arguments for the network's factory, as JSON or YAML."""
    preprocess: Preprocess = field(default_factory=Preprocess)
    source: DataChoice = field(default_factory=DataChoice)
    validation: str = ""
    """For open: ids the original never saw, for methods that need validation data; left out, those held out in its training."""
    method: Method = field(default_factory=Amun)
    """For open: how to forget; `unteach list` tells the methods."""
    preset: bool = True
    """For open: whether settings of the method that are left at their defaults are those measured for such requests."""
    recipe: Recipe | None = None
    """For open: how the original was trained, when the checkpoint does not say."""
    policy: Policy = field(default_factory=Policy)
    """For open: when requests are run, and how many together."""
    budget: Budget = field(default_factory=Budget)
    """For open: what the model may cost and lose before retraining is advised."""
    audit_every: int = 0
    """For open: every so many runs an audit with retrained references; 0 for never."""
    references: int = 2
    """For open: retrained models of such an audit, 1 or more."""
    retain_sample: int = 10_000
    """For open: retained examples that are looked at after each run."""
    seed: int = 0
    """For open: seed of the first run; each further one adds one."""
    guard: Guard = field(default_factory=Guard)
    """For open: when a network counts as collapsed."""
    quiet: bool = False
    """No progress bars."""
    machine: Machine = field(default_factory=Machine)

    def __call__(self) -> int:
        check_seed(self.seed)
        actions: dict[str, Callable[[Requests, Queue], int]]
        actions = {"open": _open, "add": _add, "list": _list, "withdraw": _withdraw, "run": _run, "status": _status}
        if self.action not in actions:
            raise Refusal(f"expected request {', '.join(actions)}, got {self.action!r}; choose one of these")
        if self.machine.devices != 1:
            raise Refusal(f"expected one device for a queue, got --devices {self.machine.devices}; leave it out")
        return actions[self.action](self, Queue(self.queue))

    def as_json(self) -> dict[str, Any]:
        """The settings of the queue as plain values; ``as_opened`` is the way back."""
        names = {name: getattr(self, name) for name in OPENED_WITH}
        names |= {"checkpoint": str(self.checkpoint.absolute()), "method": told(self.method)}
        plain = {
            name: record(value) if name in NESTED and value is not None else value for name, value in names.items()
        }
        settings: dict[str, Any] = json.loads(json.dumps(plain, default=str))
        return settings

    def as_opened(self, state: State) -> Requests:
        """The same with the settings that the queue was opened with.

        Raises: Refusal where others are given.
        """
        mine, plain, known = self.as_json(), Requests().as_json(), state.settings
        if other := sorted(name for name in OPENED_WITH if mine[name] not in (plain[name], known[name])):
            raise Refusal(
                f"expected the settings that {self.queue} was opened with, got other {', '.join(other)}; leave them out, or open "
                "another --queue"
            )
        made = {name: known[name] for name in OPENED_WITH} | {"checkpoint": Path(known["checkpoint"])}
        method: Mapping[str, Any] = known["method"]
        made["method"] = restored_method(method["method"], method["settings"], method.get("code"))
        for name, kind in NESTED.items():
            made[name] = None if known[name] is None else restored(kind, known[name])
        return replace(self, **made)


def _open(settings: Requests, queue: Queue) -> int:
    """Begin the queue, once the data and the checkpoint are found to fit."""
    from unteach.checkpoint import check_data
    from unteach.verbs.network import checkpoint_at
    from unteach.verbs.request import refuse_unless_in_range, refuse_without_recipe

    if settings.audit_every < 0 or settings.references < 1 or settings.retain_sample < 1:
        raise Refusal(
            "expected --audit_every of 0 or more, --references and --retain_sample of 1 or more, got less; raise them"
        )
    source = settings.source
    if source.data_root is not None:  # the queue is worked off from wherever
        source = replace(source, data_root=source.data_root.absolute())
    settings = replace(settings, source=replace(source, data=anywhere(source).spec))
    data = settings.source.load()
    original = check_data(checkpoint_at(settings, settings.checkpoint, data.train), data)
    refuse_unless_in_range(settings.method, data)
    refuse_without_recipe(settings.method, original)
    queue.open(settings.as_json(), sha256(settings.checkpoint))
    print(
        f"queue: {queue.folder}, for {settings.checkpoint}; add requests with unteach request add --queue {queue.folder}"
    )
    return 0


def _add(settings: Requests, queue: Queue) -> int:
    from unteach.data import forget_ids

    state = queue.state()
    opened = settings.as_opened(state)
    data = opened.source.load()
    others = [
        each for each in state.requests if each.status != "withdrawn" and not (each.key and each.key == settings.key)
    ]
    asked = {name for each in others for name in queue.ids(each)}
    ids = forget_ids(settings.ids, data.train, opened.seed + len(state.requests), asked, data.requests)
    made = queue.add(ids, due=settings.due, note=settings.note, key=settings.key)
    again = len(asked & set(ids))
    print(
        f"request {made.number}: {made.count} ids, received {made.received[:19]}"
        + (f", due {made.due[:10]}" if made.due else "")
        + (f"; {again} of them were asked for before" if again else "")
        + (f"; it was recorded already and is {made.status}" if made.number <= len(state.requests) else "")
    )
    return 0


def _withdraw(settings: Requests, queue: Queue) -> int:
    queue.withdraw(settings.request)
    print(f"request {settings.request} was withdrawn")
    return 0


def _run(settings: Requests, queue: Queue) -> int:
    from unteach.verbs.working_off import work_off

    return work_off(settings.as_opened(queue.state()), queue)


def _list(settings: Requests, queue: Queue) -> int:
    from rich.console import Console

    from unteach.verbs.standing import requests_table

    Console().print(requests_table(queue))
    return 0


def _status(settings: Requests, queue: Queue) -> int:
    from unteach.verbs.standing import show

    show(queue)
    return 0
