"""What the models beside which one is judged are good for: signals of references, and measures of whole populations."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from unteach.audit.finding import Finding, Measured, Skipped
from unteach.checkpoint import Checkpoint, load, new_network
from unteach.data.request import alike
from unteach.engine import Engine
from unteach.logit_store import LogitStore, select
from unteach.models import MODELS
from unteach.references.pool import places_of
from unteach.references.tiers import Company
from unteach.references.units import units_in
from unteach.types import Examples, Refusal, Signals, Split

if TYPE_CHECKING:
    from unteach.stress.lineup import Models


def retrained_of(company: Company) -> tuple[Checkpoint, ...]:
    """The company's retrained models, with their weights."""
    blueprint, keys = company.blueprint, company.manifest.keys[: company.manifest.shown]
    return tuple(
        load(company.cache.weights(key), data=company.data.train, model=blueprint.name, arguments=blueprint.arguments)
        for key in keys
    )


def references_of(company: Company, ids: np.ndarray) -> Signals | None:
    """The signals of the models on random halves, on these examples; None in a tier without any."""
    keys = company.keys("halves")
    if not keys:
        return None
    store = _store(company)
    return select(store.signals(keys), store.positions(ids))


def clusters_of(company: Company, ids: np.ndarray) -> np.ndarray | None:
    """The near-duplicate cluster of each of these examples of the pool; None where all are alone."""
    found = units_in(company.data, company.cache)[places_of(company.data, ids)]
    return found if len(np.unique(found)) < len(found) else None


def measures_of(company: Company, parts: dict[str, Examples], seed: int) -> Measured:
    """KLoM, the competition's ε, U-LiRA and RULI, as far as the tier has the models."""
    found: list[Finding | Skipped] = []
    if company.method is None:
        reason = "no other model can be made as this one was: its method is not known, or needs validation data"
        return [Skipped(name="KLoM, ε, U-LiRA and RULI", family="distribution", reason=reason)]
    wanted: dict[str, tuple[bool, Callable[[], Measured]]] = {
        "KLoM and the competition's ε": (company.has("unlearned"), lambda: _as_distributions(company, parts, seed)),
        "U-LiRA": (company.has("shadows"), lambda: _shadowed(company, seed)),
        "RULI": (company.has("worlds"), lambda: _in_worlds(company, seed)),
    }
    for name, (there, measure) in wanted.items():
        try:
            reason = "" if there else "the tier has no models for it, or the method forgets nothing but whole classes"
            found += measure() if there else ()
        except Refusal as refusal:  # too few models in one world must not cost the whole audit
            reason = str(refusal)
        if reason:
            found.append(Skipped(name=name, family="distribution", reason=reason))
    return found


def _as_distributions(company: Company, parts: dict[str, Examples], seed: int) -> Measured:
    from unteach.audit.epsilon import forgetting_quality
    from unteach.audit.klom import margin_distances

    store = _store(company)
    ids = np.concatenate([part.ids for part in parts.values()])
    owner = np.repeat(np.arange(len(parts)), [len(part) for part in parts.values()])
    columns = {name: np.flatnonzero(owner == number) for number, name in enumerate(parts)}
    rows = store.positions(ids)
    unlearned = _phi(store, company.keys("unlearned", children=True), rows)
    retrained = _phi(store, company.keys("retrained"), rows)
    groups = parts["forget"].groups
    quality = forgetting_quality(
        unlearned[:, columns["forget"]],
        retrained[:, columns["forget"]],
        groups=None if groups is None else np.asarray(groups),
        seed=seed,
    )
    return [*quality, *margin_distances(unlearned, retrained, columns, seed=seed)]


def _shadowed(company: Company, seed: int) -> Measured:
    from unteach.audit.u_lira import two_readings

    store, plan = _store(company), company.plan("shadows")
    children = np.flatnonzero(plan.parents >= 0)
    halves = company.keys("halves")
    # Examples with too few models in a world are left out: small tiers ask some examples to be forgotten only once.
    asked = np.flatnonzero(plan.forgotten[children].sum(0) >= 3)
    if len(asked) < 10:
        reason = f"it takes 10 examples that 3 shadow models forgot, got {len(asked)}; ask for a stronger tier"
        return [Skipped(name="U-LiRA", family="membership", reason=reason)]
    return two_readings(
        _phi(store, company.keys("shadows", children=True), asked),
        plan.members[children][:, asked],
        plan.forgotten[children][:, asked],
        retrained=(_phi(store, halves, asked), company.plan("halves").members[:, asked]),
        origins=plan.parents[children],
        part="forget",
        seed=seed,
    )


def _in_worlds(company: Company, seed: int) -> Measured:
    from unteach.audit.ruli import two_games

    store, plan = _store(company), company.plan("worlds")
    assert company.targets is not None
    rows = np.flatnonzero(company.targets)
    parents = np.flatnonzero(plan.parents < 0)
    children = np.flatnonzero(plan.parents >= 0)
    vulnerable = np.isin(rows, _strata(company)[0])
    return two_games(
        _phi(store, company.keys("worlds"), rows),
        _phi(store, company.keys("worlds", children=True), rows),
        plan.members[parents][:, rows],
        plan.forgotten[children][:, rows],
        parts={"vulnerable": np.flatnonzero(vulnerable), "protected": np.flatnonzero(~vulnerable)},
        seed=seed,
    )


def targets_of(company: Company) -> np.ndarray:
    """Mask over the pool: RULI's targets, chosen by a preliminary LiRA with the models on random halves."""
    mask = np.zeros(len(company.trained), dtype=bool)
    mask[np.concatenate(_strata(company))] = True
    return mask


def _strata(company: Company) -> tuple[np.ndarray, np.ndarray]:
    """Positions in the pool of RULI's vulnerable and protected targets, among what the original was trained on."""
    from unteach.audit.ruli import strata

    rows = np.flatnonzero(company.trained)
    phi = _phi(_store(company), company.keys("halves"), rows)
    size = min(company.tier.targets, len(rows) // 8)
    found = strata(phi, company.plan("halves").members[:, rows], size)
    return rows[found[0]], rows[found[1]]


def _phi(store: LogitStore, keys: tuple[str, ...], rows: np.ndarray) -> np.ndarray:
    """Logit-scaled confidences, ``models × examples``, read one model at a time."""
    from unteach.audit.membership import Confidence

    signals = select(store.signals(keys), rows)
    return np.stack([Confidence()(signals, at) for at in range(len(keys))])


def _store(company: Company) -> LogitStore:
    return LogitStore.existing(company.cache.logits(company.data.fingerprint, 1))


def pressed(
    company: Company, original: Checkpoint | None, unlearned: Checkpoint, parts: Split, seed: int, engine: Engine
) -> Measured:
    """The tests of behaviour, if the tier has them; what can't be had says why."""
    from unteach.stress import STRESS, Lineup, Parts

    if not company.tier.pressed:
        return [Skipped(name="tests of behaviour", family="behaviour", reason="the tier has none")]
    models = Lineup(
        unlearned=unlearned.model,
        retrained=tuple(one.model for one in retrained_of(company)),
        original=original.model if original else None,
    )
    data = company.data
    unseen = data.non_members.take(alike(data.non_members, parts.forget))
    examples = Parts(forget=parts.forget, retain=parts.retain, unseen=unseen, test=data.test)
    found: list[Finding | Skipped] = [*_inside(models, parts, engine), _beside_random(company, models, parts, engine)]
    scratch, engine.scratch = engine.scratch, None  # states of such short trainings would cost more than they save
    for number, (name, kind) in enumerate(STRESS.items()):
        engine.events.progress("tests of behaviour", number, len(STRESS))
        try:
            found += kind()(models, examples, seed=seed, engine=engine)
        except Refusal as refusal:
            found.append(Skipped(name=name, family="behaviour", reason=str(refusal)))
    engine.scratch = scratch
    engine.events.progress("tests of behaviour", len(STRESS), len(STRESS))
    return found


def _inside(models: Models, parts: Split, engine: Engine) -> list[Finding | Skipped]:
    """How far weights and features lie from retrained ones; they are no tests of behaviour, but need the networks too."""
    from unteach.audit.similarity import feature_distance, weight_distances
    from unteach.stress.features import features_of

    states = models.map(lambda model: {name: tensor.cpu() for name, tensor in model.state_dict().items()})
    found = list(weight_distances(states.unlearned, states.retrained, states.original))
    try:
        mine, others = (
            features_of(models.unlearned, parts.forget, engine),
            [features_of(model, parts.forget, engine) for model in models.retrained],
        )
        found.append(feature_distance(mine, others, "forget", "the last layer's input"))
    except Refusal as refusal:
        found.append(Skipped(name="linear CKA", family="distance", reason=str(refusal)))
    return found


def _beside_random(company: Company, models: Models, parts: Split, engine: Engine) -> Finding | Skipped:
    """ZRF: how far the answers lie from those of networks that learnt nothing."""
    from unteach.audit.proxies import FEWEST_RANDOM, zrf_finding
    from unteach.stress.lineup import answers

    if company.blueprint.name not in MODELS or parts.forget.labels.ndim > 1:
        reason = "it takes fresh networks of this kind, and one class an example"
        return Skipped(name="ZRF", family="distance", reason=reason)
    fresh = [new_network(company.blueprint, seed=company.seed + 1 + number) for number in range(FEWEST_RANDOM)]
    logits = models.map(lambda model: answers(model, parts.forget, engine).numpy())
    random = np.stack([answers(model.eval(), parts.forget, engine).numpy() for model in fresh])
    return zrf_finding(logits.unlearned, np.stack(logits.retrained), random)
