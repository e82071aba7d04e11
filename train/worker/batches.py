"""The prepared data set as a trainer reads it, and how rows become a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train.dataset.formats import IGNORED

Json = dict[str, Any]

_COLUMNS = {"sft": ["input_ids", "labels", "seq_lengths"], "dpo": ["prompt_ids", "chosen_ids", "rejected_ids"]}


def load_rows(path: Path, objective: str, scratch: Path) -> Any:
    """The rows of one split, mapped into memory and not read into it."""
    from datasets import Dataset

    rows = Dataset.from_parquet(str(path), cache_dir=str(scratch / "rows"), keep_in_memory=False)
    return rows.select_columns(_COLUMNS[objective])


def filled(rows: Any, objective: str, multiple: int) -> Any:
    """The rows, and behind them so many without an answer that their number is a multiple of ``multiple``.

    Workers that share rows out evenly would else take some twice, and judge by them twice.
    """
    from datasets import Dataset, concatenate_datasets

    missing = -len(rows) % multiple
    if not missing:
        return rows
    blank = _blank_pair(rows[0]) if objective == "dpo" else _blank(rows[0])
    return concatenate_datasets([rows, Dataset.from_list([blank] * missing, features=rows.features)])


def _blank(row: Json) -> Json:
    return {"input_ids": row["input_ids"][:2], "labels": [IGNORED] * 2, "seq_lengths": [2]}


def _blank_pair(row: Json) -> Json:
    return {"prompt_ids": row["prompt_ids"][:2], "chosen_ids": [], "rejected_ids": []}


@dataclass(frozen=True)
class Batches:
    """Rows to a batch.

    Rows are padded to the longest, or joined: to one row without padding in which positions begin anew with each
    sequence; attention is kept inside of each by that.

    Attributes:
        pad: the token that fills up.
        joined: whether they are joined, as rows must be that hold several sequences (packing).
    """

    pad: int
    joined: bool

    def __call__(self, rows: Sequence[Json]) -> Json:
        """The tensors of a batch."""
        return self._joined(rows) if self.joined else self._padded(rows)

    def _padded(self, rows: Sequence[Json]) -> Json:
        import torch
        from torch.nn.utils.rnn import pad_sequence

        ids = [torch.tensor(row["input_ids"]) for row in rows]
        labels = [torch.tensor(row["labels"]) for row in rows]
        return {
            "input_ids": pad_sequence(ids, batch_first=True, padding_value=self.pad),
            "attention_mask": pad_sequence([torch.ones_like(one) for one in ids], batch_first=True),
            "labels": pad_sequence(labels, batch_first=True, padding_value=IGNORED),
        }

    def _joined(self, rows: Sequence[Json]) -> Json:
        import torch

        lengths = [length for row in rows for length in row["seq_lengths"]]
        labels = torch.tensor([label for row in rows for label in row["labels"]])
        # The first token of a sequence does not follow on the last one of the sequence before it.
        labels[torch.tensor([0, *lengths[:-1]]).cumsum(0)] = IGNORED
        return {
            "input_ids": torch.tensor([[token for row in rows for token in row["input_ids"]]]),
            "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],
            "labels": labels[None],
        }
