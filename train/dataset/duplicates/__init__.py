"""Duplicates in files of rows: exact, near, and against an evaluation set."""

from train.dataset.duplicates.decisions import REASONS, Decision, Decisions, Reason
from train.dataset.duplicates.find import Progress, TooManyRows, find_duplicates
from train.dataset.duplicates.leaks import find_leaks
from train.dataset.duplicates.pieces import BrokenLine
from train.dataset.duplicates.settings import DuplicateSettings, LeakSettings

__all__ = [
    "REASONS",
    "BrokenLine",
    "Decision",
    "Decisions",
    "DuplicateSettings",
    "LeakSettings",
    "Progress",
    "Reason",
    "TooManyRows",
    "find_duplicates",
    "find_leaks",
]
