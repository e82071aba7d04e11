"""Duplicates in files of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import TypeVar

import numpy as np

from train.dataset.duplicates.candidates import Band, BandTask
from train.dataset.duplicates.components import Groups, joined
from train.dataset.duplicates.decisions import REASONS, Decisions, Reason, write_decisions
from train.dataset.duplicates.exact import ExactTask, Pairs, ranges_of
from train.dataset.duplicates.pieces import pieces_of
from train.dataset.duplicates.settings import DuplicateSettings
from train.dataset.duplicates.sketches import band_width
from train.dataset.duplicates.survey import Surveyed, SurveyTask
from train.dataset.duplicates.verify import PART_ROWS, VerifyTask
from train.dataset.parallel import Task, each

#: Told the step, how many parts of it are done, and how many there are.
Progress = Callable[[str, int, int], None]
U = TypeVar("U")
R = TypeVar("R")

_MOST_ROWS = 2**32


class TooManyRows(Exception):
    """There are more rows than a pair has room for."""


def find_duplicates(
    shards: Sequence[Path],
    settings: DuplicateSettings,
    workdir: Path,
    *,
    workers: int = 0,
    progress: Progress = lambda step, done, total: None,
) -> Decisions:
    """Find the rows that repeat others. The result depends on the files and the settings alone.

    Args:
        shards: files of rows, in order.
        workdir: an empty folder that every worker sees, for about 400 bytes a row; it must stay while the result is
            used.
        workers: as ``train.dataset.parallel.each`` has it.

    Raises:
        BrokenLine: a line of a file is no row.
        TooManyRows: more than 4,294,967,296 rows.
        WorkersFailed: Ray could not do the work.
    """
    surveyed = survey_all(shards, settings, workdir / "rows", workers, progress)
    same = _exact(surveyed, workers, progress) if settings.exact or settings.near else joined([])
    near = _near(surveyed, same, settings, workdir, workers, progress) if settings.near else joined([])
    _decide(surveyed, same, near, settings, workdir / "decisions.npy")
    return Decisions(workdir / "decisions.npy", surveyed, surveyed)


def survey_all(
    shards: Sequence[Path], settings: DuplicateSettings, folder: Path, workers: int, progress: Progress
) -> Surveyed:
    """Read all rows once.

    Raises:
        BrokenLine, TooManyRows, WorkersFailed: as ``find_duplicates`` says.
    """
    folder.mkdir(parents=True)
    pieces = pieces_of(shards)
    counts = list(told(SurveyTask(settings, folder), pieces, workers, "read", progress))
    if sum(counts) >= _MOST_ROWS:
        raise TooManyRows(f"{sum(counts)} rows; at most {_MOST_ROWS - 1}")
    return Surveyed(pieces, counts, folder)


def told(task: Task[U, R], units: Sequence[U], workers: int, step: str, progress: Progress) -> Iterator[R]:
    """The results of ``each``, with progress told."""
    progress(step, 0, len(units))
    for done, result in enumerate(each(task, units, workers), start=1):
        progress(step, done, len(units))
        yield result


def _exact(surveyed: Surveyed, workers: int, progress: Progress) -> Pairs:
    ranges = ranges_of(surveyed.rows)
    return joined(told(ExactTask(surveyed, ranges), range(ranges), workers, "compare exactly", progress))


def _near(
    surveyed: Surveyed, same: Pairs, settings: DuplicateSettings, workdir: Path, workers: int, progress: Progress
) -> Pairs:
    """Near duplicates among the rows that repeat no earlier one exactly."""
    repeated = workdir / "repeated.npy"
    flags = np.zeros(surveyed.rows, dtype=bool)
    flags[same[:, 1]] = True
    np.save(repeated, flags)
    folder = workdir / "candidates"
    folder.mkdir()
    width, ranges = band_width(settings), ranges_of(surveyed.rows)
    bands = [Band(*place) for place in product(range(settings.permutations // width), range(ranges))]
    look = BandTask(surveyed, repeated, width, ranges, folder)
    files = list(told(look, bands, workers, "look for candidates", progress))
    parts = range(-(-surveyed.rows // PART_ROWS))
    return joined(told(VerifyTask(surveyed, files, settings), parts, workers, "compare candidates", progress))


def _decide(surveyed: Surveyed, same: Pairs, near: Pairs, settings: DuplicateSettings, path: Path) -> None:
    groups = Groups(np.concatenate([same, near]))
    rows = groups.rows
    if len(rows) == 0:
        write_decisions(path, rows, np.zeros(0, dtype=np.uint8), rows)
        return
    kept = groups.kept(surveyed.facts(rows), settings)
    # The first row with the same content, for every row.
    originals = rows.copy()
    originals[np.searchsorted(rows, same[:, 1])] = same[:, 0]
    alike = settings.exact & (originals == originals[np.searchsorted(rows, kept)])
    reasons = np.where(alike, REASONS.index(Reason.EXACT), REASONS.index(Reason.NEAR)).astype(np.uint8)
    dropped = rows != kept
    write_decisions(path, rows[dropped], reasons[dropped], kept[dropped])
