"""Checkpoints of training runs; ``python -m train.checkpoints`` lists, inspects, verifies, prunes, restores them."""

from train.checkpoints.manifest import Engine, Manifest, SavedFile
from train.checkpoints.store import CheckpointError, Checkpoints, path_of

__all__ = ["CheckpointError", "Checkpoints", "Engine", "Manifest", "SavedFile", "path_of"]
