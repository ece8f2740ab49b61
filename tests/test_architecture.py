"""Who may import whom: the table of the house, and nothing but it."""

from __future__ import annotations

import ast
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "unteach"

# A room may import rooms of lower levels only. Rooms of one level do not know each other.
LEVELS = [
    {"mapped"},
    {"types", "bill", "precision", "runtime", "events", "wrong_labels", "knobs", "eval_mode", "temporary"},
    {"spectral", "processes", "formats", "devices", "compiled", "workers"},
    {"models", "attacks", "store", "engine", "schedule", "sensitivity", "tracking"},
    {"user_code", "provenance", "logit_stack"},
    {"data"},
    {"checkpoint", "ledger", "feed", "resume", "guard", "logit_store", "loaders"},
    {"train", "evidence"},
    {"prune", "trades"},
    {"recipe"},
    {"adversarial", "attacker", "audit", "saliency", "sparsity", "distill", "curvature", "report"},
    {"methods", "challenge"},
    {"plugins", "presets", "diagnosis"},
    {"api"},
    {"sequence", "references", "stress"},
    {"tuning", "bench", "preflight", "service"},
    {"testing", "verbs", "settings_to_flags"},
    {"cli"},
]
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
ALLOWED_ANYWAY: set[tuple[str, str]] = set()


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Modules of ours that a file imports when it runs; imports for type checkers only do not count."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {module for module in found if module.split(".")[0] == "unteach"}


def test_every_room_has_a_level() -> None:
    rooms = {room_of(path) for path in SOURCE.rglob("*.py")} - {"__init__", "__main__"}
    assert rooms <= LEVEL.keys(), f"rooms without a level: {rooms - LEVEL.keys()}"


def test_arrows_point_down() -> None:
    wrong = []
    for path in SOURCE.rglob("*.py"):
        room = room_of(path)
        if room in ("__init__", "__main__"):
            continue
        for module in imports(path):
            parts = module.split(".")
            target = parts[1] if len(parts) > 1 else "__init__"
            if target in (room, "__init__") or (room, target) in ALLOWED_ANYWAY:
                continue
            if LEVEL[target] >= LEVEL[room]:
                wrong.append(f"{path.relative_to(SOURCE)} imports {module}")
    assert not wrong, "\n".join(wrong)


def test_methods_do_not_know_each_other_nor_their_judge() -> None:
    files = [path for path in (SOURCE / "methods").glob("*.py") if path.name != "__init__.py"]
    names = {f"unteach.methods.{path.stem}" for path in files}
    assert len(files) >= 6
    for path in files:
        seen = imports(path)
        assert not seen & names - {f"unteach.methods.{path.stem}"}, path
        assert not any(module.startswith(("unteach.audit", "unteach.report")) for module in seen), path


def test_only_the_engine_knows_fabric() -> None:
    for path in SOURCE.rglob("*.py"):
        if path.name != "engine.py":
            assert "lightning_fabric" not in path.read_text(), path


def test_only_verbs_draw_reports() -> None:
    for path in SOURCE.rglob("*.py"):
        if room_of(path) not in ("report", "verbs"):
            assert not any(module.startswith("unteach.report") for module in imports(path)), path
