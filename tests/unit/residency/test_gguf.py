"""What is read from a GGUF file's header."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve.models.gguf import NotGguf, read_header
from tests.unit.residency.gguf_files import Value, llama, write_gguf


def test_values_of_every_kind_are_read(tmp_path: Path) -> None:
    header = read_header(
        write_gguf(tmp_path / "m", {"general.architecture": "x", "x.n": 7, "x.on": True, "x.f": 0.5, "x.s": "é 👩"})
    )
    assert header.architecture == "x"
    assert (header.own("n"), header.own("on"), header.own("f"), header.own("s")) == (7, True, 0.5, "é 👩")


def test_short_lists_of_numbers_are_kept_and_long_ones_and_texts_are_counted(tmp_path: Path) -> None:
    values: dict[str, Value] = {
        "general.architecture": "x",
        "x.heads": [1, 0, 2],
        "x.many": [1] * 5000,
        "x.words": ["a", "", "ß"],
    }
    header = read_header(write_gguf(tmp_path / "m", values))
    assert header.own("heads") == [1, 0, 2]
    assert header.own("many") is None and header.own("words") is None
    assert header.lengths == {"x.heads": 3, "x.many": 5000, "x.words": 3}


def test_a_number_may_be_one_for_all_layers_or_one_for_each(tmp_path: Path) -> None:
    header = read_header(write_gguf(tmp_path / "m", llama(one=3, each=[1, 2])))
    assert header.per_layer("one", 3, 9) == [3, 3, 3]
    assert header.per_layer("each", 3, 9) == [1, 2, 9]
    assert header.per_layer("none", 2, 9) == [9, 9]
    assert (header.number("one"), header.number("each"), header.number("none", 5)) == (3, 2, 5)


def test_tensors_are_weighed_by_where_the_next_begins(tmp_path: Path) -> None:
    tensors = {"a": 64, "b": 32, "c": 320}
    assert read_header(write_gguf(tmp_path / "m", llama(), tensors=tensors)).tensors == tensors
    assert read_header(write_gguf(tmp_path / "m", llama())).tensors == {}


def test_a_file_that_is_cut_off_before_its_last_tensor_is_told(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m", llama(), tensors={"a": 64, "b": 32})
    path.write_bytes(path.read_bytes()[:-64])
    with pytest.raises(NotGguf):
        read_header(path)


@pytest.mark.parametrize("alignment", [0, "32"])
def test_an_alignment_that_is_none_is_told(tmp_path: Path, alignment: Value) -> None:
    with pytest.raises(NotGguf):
        read_header(write_gguf(tmp_path / "m", {**llama(), "general.alignment": alignment}, tensors={"a": 32}))


@pytest.mark.parametrize("content", [b"", b"GGUF", b"PK\x03\x04" + bytes(64), b"GGUF" + b"\x09" + bytes(40)])
def test_what_is_no_gguf_file_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(NotGguf, match=r"model\.gguf"):
        read_header(path)


def test_a_file_that_is_cut_off_anywhere_in_its_header_is_told(tmp_path: Path) -> None:
    whole = write_gguf(tmp_path / "whole", llama(), tensors={"a": 32, "b": 32}).read_bytes()
    cut = tmp_path / "cut"
    for length in range(1, len(whole) - 64, 37):
        cut.write_bytes(whole[:length])
        with pytest.raises(NotGguf):
            read_header(cut)
