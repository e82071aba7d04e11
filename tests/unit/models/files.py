"""The file that the tests fetch, and settings that describe it."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any

from serve.settings.weights import WeightsSettings

CONTENT = random.Random(7).randbytes(1_000_000)
OTHER = random.Random(8).randbytes(1_000_000)


def weights_of(*sources: dict[str, Any], content: bytes = CONTENT) -> WeightsSettings:
    """Settings of a file with this content and these sources."""
    return WeightsSettings.model_validate(
        {
            "file": "model.gguf",
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "sources": list(sources),
        }
    )


def names_in(folder: Path) -> set[str]:
    """What lies in a folder, but for the lock."""
    return {path.name for path in folder.iterdir() if path.suffix != ".lock"}


def manifest_of(folder: Path) -> dict[str, Any]:
    """The manifest in a model's folder."""
    found: dict[str, Any] = json.loads((folder / "model.gguf.json").read_text())
    return found


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
