"""Duplicates in files of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from train.dataset.duplicates.candidates import BandTask, write_candidates
from train.dataset.duplicates.components import Groups, joined
from train.dataset.duplicates.decisions import REASONS, Decisions, Reason, write_decisions
from train.dataset.duplicates.exact import ExactTask, Pairs, exact_pairs, ranges_of
from train.dataset.duplicates.pieces import pieces_of
from train.dataset.duplicates.settings import DuplicateSettings
from train.dataset.duplicates.sketches import band_width
from train.dataset.duplicates.survey import Surveyed, SurveyTask, survey
from train.dataset.duplicates.verify import PART_ROWS, VerifyTask, near_pairs
from train.dataset.duplicates.workers import Here, Parallelism

#: Told the step, how many parts of it are done, and how many there are.
Progress = Callable[[str, int, int], None]
R = TypeVar("R")

_MOST_ROWS = 2**32


class TooManyRows(Exception):
    """There are more rows than a pair has room for."""


def find_duplicates(
    shards: Sequence[Path],
    settings: DuplicateSettings,
    workdir: Path,
    *,
    workers: Parallelism | None = None,
    progress: Progress = lambda step, done, total: None,
) -> Decisions:
    """Find the rows that repeat others. The result depends on the files and the settings alone.

    Args:
        shards: files of rows, in order.
        workdir: an empty folder that every worker sees, for about 300 bytes a row; it must stay while the result is
            used.
        workers: who does the work; this process when none is given.

    Raises:
        BrokenLine: a line of a file is no row.
        TooManyRows: more than 4,294,967,296 rows.
    """
    who = workers or Here()
    surveyed = survey_all(shards, settings, workdir / "rows", who, progress)
    same = _exact(surveyed, who, progress) if settings.exact or settings.near else joined([])
    near = _near(surveyed, same, settings, workdir, who, progress) if settings.near else joined([])
    _decide(surveyed, same, near, settings, workdir / "decisions.npy")
    return Decisions(workdir / "decisions.npy", surveyed, surveyed)


def survey_all(
    shards: Sequence[Path], settings: DuplicateSettings, folder: Path, who: Parallelism, progress: Progress
) -> Surveyed:
    """Read all rows once.

    Raises:
        BrokenLine, TooManyRows: as ``find_duplicates`` says.
    """
    folder.mkdir(parents=True)
    pieces = pieces_of(shards)
    tasks = [SurveyTask(piece, settings, folder) for piece in pieces]
    counts = list(told(who.map(survey, tasks), "read", len(tasks), progress))
    if sum(counts) >= _MOST_ROWS:
        raise TooManyRows(f"{sum(counts)} rows; at most {_MOST_ROWS - 1}")
    return Surveyed(pieces, counts, folder)


def told(results: Iterable[R], step: str, total: int, progress: Progress) -> Iterator[R]:
    """The results as they come, with progress told."""
    progress(step, 0, total)
    for done, result in enumerate(results, start=1):
        progress(step, done, total)
        yield result


def _exact(surveyed: Surveyed, who: Parallelism, progress: Progress) -> Pairs:
    ranges = ranges_of(surveyed.rows)
    tasks = [ExactTask(surveyed, number, ranges) for number in range(ranges)]
    return joined(told(who.map(exact_pairs, tasks), "compare exactly", ranges, progress))


def _near(
    surveyed: Surveyed, same: Pairs, settings: DuplicateSettings, workdir: Path, who: Parallelism, progress: Progress
) -> Pairs:
    """Near duplicates among the rows that repeat no earlier one exactly."""
    repeated = workdir / "repeated.npy"
    flags = np.zeros(surveyed.rows, dtype=bool)
    flags[same[:, 1]] = True
    np.save(repeated, flags)
    folder = workdir / "candidates"
    folder.mkdir()
    width, ranges = band_width(settings), ranges_of(surveyed.rows)
    bands = [
        BandTask(surveyed, repeated, band, width, number, ranges, folder / f"{band}-{number}.npy")
        for band in range(settings.permutations // width)
        for number in range(ranges)
    ]
    files = list(told(who.map(write_candidates, bands), "look for candidates", len(bands), progress))
    parts = [VerifyTask(surveyed, files, part, settings) for part in range(-(-surveyed.rows // PART_ROWS))]
    return joined(told(who.map(near_pairs, parts), "compare candidates", len(parts), progress))


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
