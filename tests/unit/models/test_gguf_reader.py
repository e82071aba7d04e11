"""The quick reader of GGUF files says what the package's own says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from serve.models.gguf_reader import GgufReader, hasten

#: The package's own, whatever another test has put in its place.
PACKAGES_OWN = gguf.gguf_reader.GGUFReader


def write(path: Path, endianess: gguf.GGUFEndian = gguf.GGUFEndian.LITTLE) -> Path:
    """A file with metadata of every kind and tensors of two types."""
    writer = gguf.GGUFWriter(path, "llama", endianess=endianess)
    writer.add_name("naïve 你好 👩‍👩‍👧")
    writer.add_uint32("llama.block_count", 2)
    writer.add_float32("llama.scale", 0.5)
    writer.add_bool("llama.flag", True)
    writer.add_array("tokenizer.ggml.tokens", ["<s>", "Ġa", "", "你"])
    writer.add_array("tokenizer.ggml.token_type", [3, 1, 1, 4])
    numbers = np.arange(64, dtype=np.float32).reshape(2, 32)
    writer.add_tensor("a", numbers)
    writer.add_tensor(
        "b", gguf.quants.quantize(numbers, gguf.GGMLQuantizationType.Q8_0), raw_dtype=gguf.GGMLQuantizationType.Q8_0
    )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def told(reader: Any) -> tuple[dict[str, Any], dict[str, tuple[Any, list[int], list[Any]]]]:
    """All that a reader says of its file."""
    fields = {name: (field.offset, field.types, field.contents()) for name, field in reader.fields.items()}
    tensors = {one.name: (one.tensor_type, one.shape.tolist(), one.data.tolist()) for one in reader.tensors}
    return fields, tensors


@pytest.mark.parametrize("endianess", list(gguf.GGUFEndian))
def test_both_say_the_same_of_a_file(tmp_path: Path, endianess: gguf.GGUFEndian) -> None:
    file = write(tmp_path / "model.gguf", endianess)
    found = told(GgufReader(file))
    assert found == told(PACKAGES_OWN(file))
    assert found[0]["tokenizer.ggml.tokens"][-1] == ["<s>", "Ġa", "", "你"]
    assert set(found[1]) == {"a", "b"}


@pytest.mark.parametrize("kept", [0, 3, 23, 100, 300])
def test_a_file_that_is_cut_off_is_an_error(tmp_path: Path, kept: int) -> None:
    whole = write(tmp_path / "model.gguf").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[:kept])
    with pytest.raises((ValueError, IndexError)):
        GgufReader(tmp_path / "cut.gguf")


def test_it_is_read_only(tmp_path: Path) -> None:
    [first, _] = GgufReader(write(tmp_path / "model.gguf")).tensors
    with pytest.raises(ValueError, match="read-only"):
        first.data[0, 0] = 1.0


def test_who_asks_the_package_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf, "GGUFReader", PACKAGES_OWN)
    hasten()
    hasten()
    from gguf import GGUFReader

    assert GGUFReader is GgufReader
