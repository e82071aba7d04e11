"""Validation of a training file with line numbers: ``python -m train.dataset.validation FILE``.

The gateway runs the same on what is uploaded with the purpose ``fine-tune``.
"""

from train.dataset.validation.check import validate
from train.dataset.validation.forms import Fault
from train.dataset.validation.lines import MAX_LINE_BYTES, lines_of
from train.dataset.validation.report import MAX_LISTED, Found, LineFault, RoleCount, Statistics, Validation

__all__ = [
    "MAX_LINE_BYTES",
    "MAX_LISTED",
    "Fault",
    "Found",
    "LineFault",
    "RoleCount",
    "Statistics",
    "Validation",
    "lines_of",
    "validate",
]
