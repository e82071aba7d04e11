"""The file that the tests fetch, and settings that describe it."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any

from serve.settings.weights import FolderSettings, WeightsSettings

CONTENT = random.Random(7).randbytes(1_000_000)
OTHER = random.Random(8).randbytes(1_000_000)
#: A checkpoint: two pieces of weights, small files, one in a folder of its own, one empty.
FILES = {
    "config.json": b'{"model_type": "tiny"}',
    "model-00001-of-00002.safetensors": CONTENT[:600_000],
    "model-00002-of-00002.safetensors": CONTENT[600_000:],
    "tokenizer/merges \u00e9.txt": b"a b\n",
    "added_tokens.txt": b"",
}


def weights_of(*sources: dict[str, Any], content: bytes = CONTENT) -> WeightsSettings:
    """Settings of a file with this content and these sources."""
    return WeightsSettings.model_validate(
        {
            "file": "model.gguf",
            "bytes": len(content),
            "sha256": sha256_of(content),
            "sources": list(sources),
        }
    )


def names_in(folder: Path) -> set[str]:
    """What lies in a folder, but for the lock."""
    return {path.name for path in folder.iterdir() if path.suffix != ".lock"}


def manifest_of(folder: Path, name: str = "model.gguf") -> dict[str, Any]:
    """A manifest in a model's folder."""
    found: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
    return found


def sha256_of(content: bytes) -> str:
    """The SHA-256 of some bytes."""
    return hashlib.sha256(content).hexdigest()


def folder_of(*sources: dict[str, Any], files: dict[str, bytes] | None = FILES, **more: Any) -> FolderSettings:
    """Settings of a folder with these files, or with none listed, and these sources."""
    raw: dict[str, Any] = {"folder": "checkpoint", "sources": list(sources), **more}
    if files is not None:
        raw["files"] = [
            {"file": name, "bytes": len(content), "sha256": sha256_of(content)} for name, content in files.items()
        ]
    return FolderSettings.model_validate(raw)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file in a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def lay_out(folder: Path, files: dict[str, bytes]) -> Path:
    """Write files into a folder."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def write_config(path: Path, **models: dict[str, Any] | None) -> Path:
    """A Serve config with a gateway and these models: those with weights on llama.cpp, those without on echo."""
    applications = [
        _application("gateway", "/", "serve.app:gateway", "Gateway", {}),
        *(
            _application(
                model,
                f"/m/{model}",
                "serve.app:model",
                "Model",
                {"id": model, "handler": "llamacpp", "weights": weights}
                if weights
                else {"id": model, "handler": "echo"},
            )
            for model, weights in models.items()
        ),
    ]
    path.write_text(json.dumps({"applications": applications}))  # JSON is YAML.
    return path


def _application(name: str, route: str, builder: str, deployment: str, args: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "route_prefix": route,
        "import_path": builder,
        "args": args,
        "deployments": [
            {
                "name": deployment,
                "num_replicas": 1,
                "max_ongoing_requests": 8,
                "max_queued_requests": 8,
                "backpressure_config": {"status_code": 429},
            }
        ],
    }
