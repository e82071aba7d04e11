"""From the recipe's files to a data set in the model's own tokens, in the run's folder; made once, kept on resume.

Files are read as exports are, so OpenAI's fine-tuning files, rows and whole curated sets are all taken; encoding,
masks and packing are those of ``train.dataset.formats``.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from train.dataset.curate.reading import holds_rows
from train.dataset.exports import Problem, read_file
from train.dataset.formats import (
    EncodeSettings,
    FaultyRows,
    InputError,
    Prepared,
    PrepareSettings,
    TokenizerError,
    load_prepared,
    prepare,
)
from train.dataset.formats.inputs import Input, pieces_of, rows_of
from train.dataset.formats.prepared import MANIFEST
from train.dataset.rows import Row
from train.finetune.recipe import Recipe
from train.run_folder import DATA, RunFolder

Json = dict[str, Any]


class DataError(Exception):
    """The data cannot be learned from; the message is one line, and never shows what was said."""


def manifest_of(folder: RunFolder) -> Json | None:
    """The manifest of the run's data set; none where it has not been made yet.

    Raises:
        StorageError
    """
    return folder.read_json(f"{DATA}/{MANIFEST}")


def prepare_data(recipe: Recipe, folder: RunFolder, base: Path, replay: Iterable[Row]) -> Json:
    """The manifest of the run's data set (``train.dataset.formats``), which is made where the folder has none yet.

    Args:
        base: the checkpoint, for its tokenizer and template.
        replay: rows that are learned beside the data.

    Raises:
        DataError: a file cannot be read, a line is no conversation, or nothing is left to learn from.
        StorageError
    """
    known = manifest_of(folder)
    if known is not None:
        return known
    with tempfile.TemporaryDirectory(prefix="groupqwen-data-") as scratch:
        rows, out = Path(scratch) / "rows", Path(scratch) / DATA
        (rows / "data").mkdir(parents=True)
        _write(rows / "data" / "train.jsonl", conversations(recipe.data.train, "train"), replay)
        if recipe.data.validation:
            _write(rows / "data" / "validation.jsonl", conversations(recipe.data.validation, "validation"), ())
        try:
            prepare([rows], out, _settings(recipe), model=str(base))
        except (InputError, TokenizerError) as error:
            # The files that it may name are made here; the recipe knows them by their keys.
            raise DataError(str(error).replace(f"{rows / 'data'}{os.sep}", "data.")) from error
        except FaultyRows as error:
            raise DataError(f"the data has {error}") from error
        manifest = dict(load_prepared(out).manifest)
        for split, named in (("train", recipe.data.train), ("validation", recipe.data.validation)):
            if named and split not in manifest["splits"]:
                raise DataError(f"data.{split}: nothing is left to learn from")
        _take_over(out, folder)
        return manifest


@contextmanager
def data_on_this_node(folder: RunFolder) -> Iterator[Prepared]:
    """The run's data set, checked: where it lies, or a copy for the time being.

    Raises:
        PreparedError: it is not there, or was changed.
        StorageError
    """
    with folder.on_disk(DATA) as here:
        yield load_prepared(here)


def _take_over(out: Path, folder: RunFolder) -> None:
    """Copy the data set into the run's folder, its manifest last."""
    folder.remove(DATA)
    for one in sorted(out.rglob("*"), key=lambda path: path.name == MANIFEST):
        if one.is_file():
            folder.put(one, f"{DATA}/{one.relative_to(out).as_posix()}")


def _settings(recipe: Recipe) -> PrepareSettings:
    return PrepareSettings(
        pairs=recipe.objective == "dpo",
        pack=recipe.packing,
        encode=EncodeSettings(
            max_tokens=recipe.max_length,
            system_prompt=recipe.data.system_prompt,
            variables=recipe.data.variables,
        ),
    )


def _write(path: Path, *sources: Iterable[Row]) -> None:
    with open(path, "wb", opener=_private) as file:
        for rows in sources:
            file.writelines(row.to_json() for row in rows)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def conversations(names: Iterable[str], split: str) -> Iterator[Row]:
    """The conversations of a recipe's files, and of this split of curated sets.

    Raises:
        DataError: a file cannot be read, or has something else in it; names the file and the line.
    """
    for name in names:
        path = Path(name)
        yield from _rows(str(path / "data" / f"{split}.jsonl") if path.is_dir() else name, f"data.{split}")


def _rows(name: str, key: str) -> Iterator[Row]:
    """The conversations of a file.

    Raises:
        DataError: it cannot be read, or has something else in it.
    """
    if not Path(name).is_file():
        raise DataError(f"{key}: there is no file {name}")
    if holds_rows(name):
        for piece in pieces_of([Input(Path(name))]):
            for number, row in rows_of(piece):
                if not isinstance(row, Row):
                    raise DataError(f"{key}: {name}, line {number}: {row.message}")
                yield row
        return
    for event in read_file(name):
        if not isinstance(event, Problem):
            yield event
        elif event.reason.fault:
            raise DataError(f"{key}: {event}")
