"""Independent trainings from scratch: originals, retrained models, and whatever else an audit compares with."""

from __future__ import annotations

from unteach.references.job import TrainingJob

__all__ = ["TrainingJob"]
