"""Rows that an evaluation set has, too: the same, similar, or with one of its messages inside."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from train.dataset.duplicates.decisions import REASONS, Decisions, Reason, write_decisions
from train.dataset.duplicates.find import Progress, survey_all, told
from train.dataset.duplicates.settings import LeakSettings
from train.dataset.duplicates.sketches import Codes, band_width, doubtful, jaccard, similarity
from train.dataset.duplicates.survey import Indices, Surveyed
from train.dataset.duplicates.text import Hashes, Json, distinct, ngrams, shingles, word_hashes

_AT_ONCE = 1 << 16


@dataclass(frozen=True, slots=True)
class LeakTask:
    """Holds pieces of the training set, told by their numbers, against the whole evaluation set.

    Attributes:
        table: the file of the evaluation set's n-grams.
    """

    surveyed: Surveyed
    evaluation: Surveyed
    table: Path
    settings: LeakSettings

    def __call__(self, number: int) -> list[Leak]:
        """The leaks of a piece: each row once, for the first reason of exact, near, contained."""
        found: dict[int, Leak] = {}
        for leak in _all_leaks(self, number):
            found.setdefault(leak.row, leak)
        return list(found.values())


class Leak(NamedTuple):
    """A row, why it is a leak (a place in ``REASONS``), and the evaluation row."""

    row: int
    reason: int
    other: int


class NgramTable(NamedTuple):
    """The n-grams of an evaluation set's messages.

    Attributes:
        hashes: sorted; one entry for each message that has the n-gram.
        messages: which message that is.
        sizes: how many different n-grams each message has.
        rows: which row each message is of.
    """

    hashes: Hashes
    messages: Indices
    sizes: Indices
    rows: Indices


def find_leaks(
    shards: Sequence[Path],
    evaluation: Sequence[Path],
    settings: LeakSettings,
    workdir: Path,
    *,
    workers: int = 0,
    progress: Progress = lambda step, done, total: None,
) -> Decisions:
    """Find the rows of ``shards`` that ``evaluation`` has, too.

    Every worker holds the evaluation set's sketches and n-grams in memory, a few bytes for each of its words; the
    training set may be of any size.

    Args:
        shards, evaluation: files of rows.
        workdir: an empty folder that every worker sees; it must stay while the result is used.
        workers: as ``train.dataset.parallel.each`` has it.

    Raises:
        BrokenLine: a line of a file is no row.
        TooManyRows: more than 4,294,967,296 rows.
        WorkersFailed: Ray could not do the work.
    """
    held_out = survey_all(evaluation, settings, workdir / "evaluation", workers, progress)
    table = workdir / "ngrams.npz"
    np.savez(table, **_table(held_out, settings)._asdict())
    surveyed = survey_all(shards, settings, workdir / "rows", workers, progress)
    look = LeakTask(surveyed, held_out, table, settings)
    found = told(look, range(len(surveyed.pieces)), workers, "look for leaks", progress)
    columns = np.array(list(chain.from_iterable(found)), dtype=np.int64).reshape(-1, 3)
    path = workdir / "decisions.npy"
    write_decisions(path, columns[:, 0], columns[:, 1].astype(np.uint8), columns[:, 2])
    return Decisions(path, surveyed, held_out)


def _all_leaks(task: LeakTask, number: int) -> Iterator[Leak]:
    if task.evaluation.rows == 0:
        return
    if task.settings.exact:
        yield from _exact(task, number)
    if task.settings.near:
        yield from _near(task, number)
    if task.settings.contained:
        yield from _contained(task, number)


def _exact(task: LeakTask, number: int) -> Iterator[Leak]:
    known = {key: index for index, key in reversed(list(enumerate(_digests(task.evaluation))))}
    start = int(task.surveyed.starts[number])
    for place, key in enumerate(map(bytes, task.surveyed.digests(number))):
        if key in known:
            yield Leak(start + place, REASONS.index(Reason.EXACT), known[key])


def _digests(surveyed: Surveyed) -> Iterator[bytes]:
    for piece in surveyed.pieces:
        yield from map(bytes, surveyed.digests(piece.number))


def _near(task: LeakTask, number: int) -> Iterator[Leak]:
    settings, start = task.settings, int(task.surveyed.starts[number])
    mine = task.surveyed.sketches(np.arange(start, task.surveyed.starts[number + 1]))
    theirs = task.evaluation.sketches(np.arange(task.evaluation.rows))
    least, clear = doubtful(settings)
    pairs = _similar_pairs(mine, theirs, band_width(settings), least)
    unclear = pairs[similarity(mine[pairs[:, 0]], theirs[pairs[:, 1]]) < clear]
    ours, others = (
        {index: shingles(row, settings) for index, row in surveyed.rows_at(indices)}
        for surveyed, indices in ((task.surveyed, unclear[:, 0] + start), (task.evaluation, unclear[:, 1]))
    )
    unlike = {
        (place, other)
        for place, other in unclear.tolist()
        if jaccard(ours[start + place], others[other]) < settings.threshold
    }
    for place, other in pairs.tolist():
        if (place, other) not in unlike:
            yield Leak(start + place, REASONS.index(Reason.NEAR), other)


def _similar_pairs(mine: Codes, theirs: Codes, width: int, least: float) -> NDArray[np.int64]:
    """Pairs of rows that share a band and whose estimate is not below ``least``, as places in both, in order."""
    found: NDArray[np.int64] = np.zeros((0, 2), dtype=np.int64)
    if not len(mine):
        return found
    for start in range(0, mine.shape[1] - width + 1, width):
        one, other = (np.ascontiguousarray(codes[:, start : start + width]) for codes in (mine, theirs))
        kind = np.dtype((np.void, width))
        pairs = _equal(one.view(kind)[:, 0], other.view(kind)[:, 0])
        for first in range(0, len(pairs), _AT_ONCE):
            some = pairs[first : first + _AT_ONCE]
            similar = similarity(mine[some[:, 0]], theirs[some[:, 1]]) >= least
            found = np.unique(np.concatenate([found, some[similar]]), axis=0)
    return found


def _equal(mine: NDArray[np.void], theirs: NDArray[np.void]) -> NDArray[np.int64]:
    """All pairs of equal values, as places in both."""
    order = np.argsort(theirs, kind="stable")
    first, last = (np.searchsorted(theirs[order], mine, side=side) for side in ("left", "right"))
    counts = last - first
    places = np.repeat(np.arange(len(mine)), counts)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.stack([places, order[np.repeat(first, counts) + within]], axis=1)


def _contained(task: LeakTask, number: int) -> Iterator[Leak]:
    table = _loaded(task.table)
    piece, start = task.surveyed.pieces[number], int(task.surveyed.starts[number])
    for place, (_, row) in enumerate(piece.rows()):
        message = _message_inside(row, table, task.settings)
        if message is not None:
            yield Leak(start + place, REASONS.index(Reason.CONTAINED), int(table.rows[message]))


def _message_inside(row: Json, table: NgramTable, settings: LeakSettings) -> int | None:
    """The evaluation message of whose n-grams the row has the most, where those are enough."""
    own = [ngrams(words, settings.ngram) for words in _long_messages(row, settings)]
    if not own or not len(table.hashes):
        return None
    wanted = distinct(np.concatenate(own))
    first, last = (np.searchsorted(table.hashes, wanted, side=side) for side in ("left", "right"))
    if not (last > first).any():
        return None
    hits = np.concatenate([table.messages[low:high] for low, high in zip(first, last, strict=True) if high > low])
    messages, counts = np.unique(hits, return_counts=True)
    shares = counts / table.sizes[messages]
    best = int(np.argmax(shares))
    return int(messages[best]) if shares[best] >= settings.contained else None


def _table(evaluation: Surveyed, settings: LeakSettings) -> NgramTable:
    hashes, sizes, rows = [], [], []
    index = 0
    for piece in evaluation.pieces:
        for _, row in piece.rows():
            for words in _long_messages(row, settings):
                hashes.append(distinct(ngrams(words, settings.ngram)))
                sizes.append(len(hashes[-1]))
                rows.append(index)
            index += 1
    together = np.concatenate([np.zeros(0, dtype=np.uint64), *hashes])
    messages = np.repeat(np.arange(len(sizes)), sizes)
    order = np.argsort(together, kind="stable")
    return NgramTable(together[order], messages[order], np.array(sizes, np.int64), np.array(rows, np.int64))


def _long_messages(row: Json, settings: LeakSettings) -> Iterator[NDArray[np.uint32]]:
    """The words of each message of a user or an assistant that has enough of them."""
    for message in row["messages"]:
        if message["role"] in ("user", "assistant") and message.get("content"):
            words = word_hashes(message["content"])
            if len(words) >= settings.ngram:
                yield words


@lru_cache(maxsize=1)
def _loaded(path: Path) -> NgramTable:
    with np.load(path) as file:
        return NgramTable(**{name: file[name] for name in NgramTable._fields})
