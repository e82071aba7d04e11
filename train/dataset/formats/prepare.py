"""From files of rows to a folder that a trainer reads: whole, or not there."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from train.dataset.formats.apart import Places, keys_of
from train.dataset.formats.columns import schema_of
from train.dataset.formats.finish import finish
from train.dataset.formats.inputs import InputError, Piece, inputs_of, pieces_of, rows_of
from train.dataset.formats.packing import pack
from train.dataset.formats.split import SPLITS, SplitName
from train.dataset.formats.work import PrepareSettings, Tally, Work
from train.dataset.formats.writers import Writer, read_parquet
from train.dataset.parallel import each
from train.dataset.rows import Row

Json = dict[str, Any]


class FaultyRows(Exception):
    """Lines of the input are no rows; nothing was written.

    Attributes:
        tally: has the faults, by file and line.
    """

    def __init__(self, tally: Tally) -> None:
        count = sum(found.total for found in tally.faults.values())
        super().__init__(f"{count} faults in the input")
        self.tally = tally


def prepare(
    inputs: Sequence[Path],
    out: Path,
    settings: PrepareSettings,
    *,
    model: str | None = None,
    clusters: Mapping[str, str] | None = None,
    workers: int = 0,
    progress: Callable[[int], None] = lambda count: None,
) -> Tally:
    """Prepare rows, and write the folder ``out`` when all is done.

    Args:
        inputs: files of rows, or folders of data sets that are split already.
        out: must not be there, or be empty.
        model: names the tokenizer: a folder, a GGUF file, or a model of the hub. The form ``chat`` takes none.
        clusters: names of groups that must not be split, by id of a row or conversation.
        workers: 0 works in this process; more in so many Ray actors, and ``out``'s folder is one that all see.
        progress: told how many bytes of the input are done.

    Raises:
        InputError: an input or ``out`` cannot be used, a conversation comes in two splits, or no row is left.
        TokenizerError: the tokenizer cannot be used.
        FaultyRows: lines are no rows.
    """
    if (model is None) != (settings.form == "chat"):
        raise InputError(f"the form {settings.form} {'needs' if model is None else 'takes no'} model")
    # Workers need not stand where this process does.
    files = inputs_of([path.absolute() for path in inputs])
    with _whole_folder(out.absolute()) as folder:
        parts = folder / "parts"
        parts.mkdir()
        work = Work(settings, _absolute(model), parts, clusters or {})
        chat = work.chat  # Fails here, before anything is read.
        tally, places = Tally(), Places()
        pieces: list[tuple[Piece, frozenset[SplitName]]] = []
        for done in each(work, pieces_of(files), workers):
            tally.merge(done.tally)
            places.merge(done.places)
            pieces.append((done.piece, frozenset(done.tally.splits)))
            progress(done.piece.size)
        if tally.faults:
            raise FaultyRows(tally)
        if not tally.splits:
            raise InputError(f"no row is left of {tally.read}{_why(tally)}")
        if torn := places.torn():
            raise InputError(_torn(torn, [piece for piece, _ in pieces], work.clusters))
        written = {split: _write(split, work, pieces, folder) for split in SPLITS if split in tally.splits}
        shutil.rmtree(parts)
        finish(folder, tally, written, settings, model, chat)
    return tally


def _absolute(model: str | None) -> str | None:
    return model if model is None or not Path(model).exists() else str(Path(model).absolute())


def _torn(torn: set[int], pieces: Sequence[Piece], clusters: Mapping[str, str]) -> str:
    """Where the first row is whose conversation is in two splits."""
    where = next(
        f"{piece.source.path}: line {number}: {row.id}"
        for piece in pieces
        for number, row in rows_of(piece)
        if isinstance(row, Row) and not torn.isdisjoint(keys_of(row, clusters))
    )
    return f"{where} is in another split too; curate these inputs together, so that they are split alike"


def _why(tally: Tally) -> str:
    reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(tally.dropped.items()))
    return f" ({reasons})" if reasons else ""


@contextmanager
def _whole_folder(out: Path) -> Iterator[Path]:
    """A folder that becomes ``out`` when all is written, and leaves no trace when not; for its owner only."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is there already and not empty; name another folder, or remove it")
    if not out.parent.is_dir():
        raise InputError(f"there is no folder {out.parent} to write {out.name} into")
    part = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".part", dir=out.parent))
    try:
        yield part
        os.replace(part, out)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def _write(
    split: SplitName, work: Work, pieces: Sequence[tuple[Piece, frozenset[SplitName]]], folder: Path
) -> tuple[str, int]:
    """Write the file of a split; gives its name in the folder, and its rows."""
    settings = work.settings
    name = f"data/{split}.{settings.files}"
    rows = read_parquet(work.part(piece, split) for piece, splits in pieces if split in splits)
    if settings.pack and settings.form == "tokens" and not settings.pairs:
        rows = _packed(rows, settings.encode.max_tokens)
    (folder / "data").mkdir(exist_ok=True)
    with Writer(folder / name, settings.files, schema_of(settings.form, settings.pairs)) as writer:
        for row in rows:
            writer.write(row)
    return name, writer.count


class _Sequence(dict[str, Any]):
    """A row of one sequence, as long as its tokens."""

    def __len__(self) -> int:
        return len(self["input_ids"])


def _packed(rows: Iterator[Json], capacity: int) -> Iterator[Json]:
    import numpy as np

    for held in pack(map(_Sequence, rows), capacity):
        yield {
            "ids": [id for one in held for id in one["ids"]],
            **{name: np.concatenate([one[name] for one in held]) for name in ("input_ids", "labels", "seq_lengths")},
        }
