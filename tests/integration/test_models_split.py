"""A GGUF model in several files, as llama.cpp's ``llama-gguf-split`` leaves them: fetched as a folder and loaded."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from gguf import GGUFReader, GGUFValueType, GGUFWriter

from serve.models import local_path
from serve.settings.model import ModelSettings
from tests.llamacpp import CAPITAL, chat, events_of, loaded, text


def split(gguf: Path, folder: Path) -> list[Path]:
    """The same model in files of at most 100 tensors."""
    folder.mkdir()
    reader = GGUFReader(gguf)
    architecture = str(reader.fields["general.architecture"].contents())
    writer = GGUFWriter(folder / "model.gguf", architecture, split_max_tensors=100)
    for field in reader.fields.values():
        if field.name != "general.architecture" and not field.name.startswith("GGUF."):
            inner = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=inner)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sorted(folder.iterdir())


@pytest.fixture
def pieces(smollm2_settings: ModelSettings, tmp_path: Path) -> list[Path]:
    """SmolLM2 in three files."""
    assert smollm2_settings.weights is not None
    return split(local_path(smollm2_settings.id, smollm2_settings.weights), tmp_path / "pieces")


@pytest.mark.parametrize("kind", ["path", "uri"])
async def test_a_model_in_several_files_answers(
    smollm2_settings: ModelSettings,
    pieces: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    assert [piece.name for piece in pieces] == [f"model-{number:05}-of-00003.gguf" for number in (1, 2, 3)]
    monkeypatch.setenv("GROUPQWEN_MODELS_DIR", str(tmp_path / "models"))
    folder = str(pieces[0].parent)
    weights = {
        "folder": "pieces",
        "entry": pieces[0].name,
        "files": [
            {
                "file": piece.name,
                "bytes": piece.stat().st_size,
                "sha256": hashlib.sha256(piece.read_bytes()).hexdigest(),
            }
            for piece in pieces
        ],
        "sources": [{"path": folder} if kind == "path" else {"uri": f"file://{folder}"}],
    }
    settings = ModelSettings.model_validate({"id": "split", "handler": "llamacpp", "weights": weights})
    async with loaded(settings, context=512, slots=1) as handler:
        assert "Paris" in text(await events_of(handler, chat(CAPITAL)))
