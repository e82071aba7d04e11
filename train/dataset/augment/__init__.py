"""More rows out of those that there are: questions in other words, conversations in other languages, by a model.

What a model wrote is marked as such (``provenance.augmented``), checked, and never used to judge by.
"""

from train.dataset.augment.journal import JournalError
from train.dataset.augment.run import Augmentation, AugmentStopped, augment
from train.dataset.augment.settings import AugmentSettings

__all__ = ["AugmentSettings", "AugmentStopped", "Augmentation", "JournalError", "augment"]
