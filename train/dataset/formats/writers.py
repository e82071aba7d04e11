"""Files of prepared rows: Parquet, or JSONL with the same columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import orjson

Json = dict[str, Any]
FileKind = Literal["parquet", "jsonl"]

#: Rows that are put together before they are written, and so the rows of a group of Parquet.
_GROUP = 500


class Writer:
    """Writes rows to one file; a context manager.

    Args:
        schema: the columns (``columns.schema_of``).

    Attributes:
        count: rows so far.
    """

    def __init__(self, path: Path, kind: FileKind, schema: Any) -> None:  # noqa: ANN401
        import pyarrow.parquet

        self.count = 0
        self._schema = schema
        self._held: list[Json] = []
        self._file = path.open("wb")
        # The file and not its path, which Parquet takes only where it is UTF-8.
        self._parquet = (
            pyarrow.parquet.ParquetWriter(self._file, schema, compression="zstd") if kind == "parquet" else None
        )

    def write(self, row: Json) -> None:
        """Add a row."""
        self.count += 1
        self._held.append(row)
        if len(self._held) == _GROUP:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._parquet is None:
            for row in self._held:
                line = {name: _without_absent(row.get(name)) for name in self._schema.names}
                # Tokens are arrays where they come from Parquet.
                self._file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY))
        elif self._held:
            self._parquet.write_table(pa.Table.from_pylist(self._held, self._schema))
        self._held = []

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        with self._file:
            self._flush()
            if self._parquet is not None:
                self._parquet.close()


def _without_absent(value: object) -> object:
    """Messages have every field in a column, and as lines only those that they have, ``content`` apart."""
    if isinstance(value, list):
        return [_without_absent(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {name: _without_absent(one) for name, one in value.items() if one is not None or name == "content"}


def read_parquet(paths: Iterable[Path]) -> Iterator[Json]:
    """The rows of Parquet files, a few at a time in memory; lists of numbers as arrays."""
    import pyarrow as pa
    import pyarrow.parquet

    numbers = pa.list_(pa.int32())
    for path in paths:
        with path.open("rb") as file, pyarrow.parquet.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches(_GROUP):
                columns = [
                    [one.values.to_numpy() for one in column] if column.type == numbers else column.to_pylist()
                    for column in batch.columns
                ]
                for values in zip(*columns, strict=True):
                    yield dict(zip(batch.schema.names, values, strict=True))
