"""LoRA adapters that llama.cpp has loaded beside a model, and how they get there."""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import threading
from pathlib import Path

from serve.adapters.errors import BadAdapter
from serve.adapters.files import CONFIG, WEIGHTS, read_plain, remove_unused
from serve.adapters.peft import parse_config, parse_weights
from serve.handlers.llamacpp import lora
from serve.handlers.llamacpp.library import C, recent_errors
from serve.handlers.llamacpp.lora import BaseModel
from serve.handlers.llamacpp.model import Model

logger = logging.getLogger(__name__)

_UNUSED_DAYS = 30.0
_numbers = itertools.count(1)


class Adapter:
    """A GGUF adapter in memory. The engine's thread sets, unsets and frees it; nothing else may.

    Attributes:
        name: what requests call it.
        number: of this adapter and no other, ever, so that caches can tell adapters apart; 0 is the base's.
        size: bytes of its weights.
        retired: whether it waits to be freed.
    """

    def __init__(self, model: Model, path: Path, name: str) -> None:
        self.name = name
        self.number = next(_numbers)
        self.size = path.stat().st_size
        self.retired = False
        self._model = model
        recent_errors.clear()
        with model.adapters:
            self.pointer = C.llama_adapter_lora_init(model.pointer, os.fsencode(path))
        if not self.pointer:
            raise BadAdapter(f"llama.cpp cannot load it: {'; '.join(recent_errors) or 'no reason given'}")

    def free(self) -> None:
        """Give its memory back; no context may have it set. What is never freed goes with the model."""
        pointer, self.pointer = self.pointer, None
        if pointer:
            with self._model.adapters:
                C.llama_adapter_lora_free(pointer)


class AdapterFiles:
    """PEFT folders as GGUF files, each made once and kept in ``folder``.

    Args:
        base_sha256: of the base's own file.
    """

    def __init__(self, base: BaseModel, base_sha256: str, folder: Path) -> None:
        self._base = base
        self._base_sha256 = base_sha256
        self._folder = folder
        self._one_at_a_time = threading.Lock()

    def converted(self, source: Path) -> Path:
        """The GGUF file of the PEFT folder ``source``.

        Raises:
            BadAdapter: it does not fit the base, or cannot be converted.
            StorageFailed: it cannot be read.
            OSError: the file cannot be written.
        """
        with self._one_at_a_time:
            contents = {name: read_plain(source, name) for name in (CONFIG, WEIGHTS)}
            path = self._folder / f"{self._key(contents)}.gguf"
            if path.is_file():
                path.touch()
                return path
            remove_unused(self._folder, _UNUSED_DAYS)
            modules = parse_weights(contents[WEIGHTS], parse_config(contents[CONFIG]))
            lora.write(path, lora.convert(modules, self._base), self._base)
            return path

    def _key(self, contents: dict[str, bytes]) -> str:
        key = hashlib.sha256(f"{lora.FORM} {self._base_sha256}\n".encode())
        for name in sorted(contents):
            key.update(hashlib.sha256(contents[name]).digest())
        return key.hexdigest()[:32]
