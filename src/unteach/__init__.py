"""Make a trained PyTorch classifier forget chosen examples, and show how close it came to retraining."""

from __future__ import annotations

__version__ = "0.1.0"

_PUBLIC = {
    "forget": "unteach.api",
    "forget_in_sequence": "unteach.sequence",
    "Forgotten": "unteach.api",
    "Examples": "unteach.types",
    "Split": "unteach.types",
    "Refusal": "unteach.types",
    "Engine": "unteach.engine",
    "Sgd": "unteach.train",
    "audit": "unteach.audit",
}

__all__ = [
    "Engine",
    "Examples",
    "Forgotten",
    "Refusal",
    "Sgd",
    "Split",
    "__version__",
    "audit",
    "forget",
    "forget_in_sequence",
]


def __getattr__(name: str) -> object:
    """Names of the public interface, imported when first used: ``import unteach`` itself costs nothing."""
    if name in _PUBLIC:
        from importlib import import_module

        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'unteach' has no attribute {name!r}")
