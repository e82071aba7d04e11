"""Chat exports in: vendors' files, data sets in common forms, and this group's own store, as typed rows."""

from train.dataset.exports.files import Event, Reading, files_of, read_file
from train.dataset.exports.group import Group
from train.dataset.exports.problems import Place, Problem, Reason
from train.dataset.exports.reader import ReadOptions
from train.dataset.exports.registry import READERS, Readers
from train.dataset.exports.report import Report
from train.dataset.exports.run import ExportStopped, RowFilter, write_rows
from train.dataset.exports.store import read_store

__all__ = [
    "READERS",
    "Event",
    "ExportStopped",
    "Group",
    "Place",
    "Problem",
    "ReadOptions",
    "Readers",
    "Reading",
    "Reason",
    "Report",
    "RowFilter",
    "files_of",
    "read_file",
    "read_store",
    "write_rows",
]
