"""From a PEFT adapter to a GGUF adapter: tensors renamed, rows of q and k reordered, held to the base's shapes.

The form is that of llama.cpp's ``convert_lora_to_gguf.py``. Everything is checked here, because what llama.cpp does
not expect of an adapter it may answer by ending the process.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Iterator
from collections.abc import Sequence as Items
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from serve.adapters.errors import BadAdapter
from serve.adapters.peft import Floats, LoraModule
from serve.handlers.llamacpp.library import C, ggml
from serve.handlers.llamacpp.model import Model

#: Part of the name of every file made here; another one makes them anew.
FORM = 1

#: Architecture -> whether its q and k rows are reordered: llama.cpp rotates neighbouring pairs there, Hugging Face
#: the two halves of a head. Only architectures whose adapters were held to PEFT's own logits are listed.
REORDERED: dict[str, bool] = {"llama": True, "qwen2": False, "qwen3": False}


@dataclass(frozen=True)
class BaseModel:
    """What of a GGUF model matters to its adapters.

    Attributes:
        path: its file, or the first of them.
        architecture: as llama.cpp names it.
        heads: of attention queries. kv_heads: of keys and values.
    """

    path: Path
    architecture: str
    blocks: int
    heads: int
    kv_heads: int

    @staticmethod
    def of(model: Model, path: Path) -> BaseModel:
        """What ``model``, loaded from ``path``, says of itself."""
        return BaseModel(
            path=path,
            architecture=model.metadata("general.architecture") or "",
            blocks=C.llama_model_n_layer(model.pointer),
            heads=C.llama_model_n_head(model.pointer),
            kv_heads=C.llama_model_n_head_kv(model.pointer),
        )

    @cached_property
    def shapes(self) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of every matrix, by its name. Read with llama.cpp's own reader, which takes milliseconds
        where the package ``gguf`` takes seconds."""
        return {name: shape for path in parts(self.path) for name, shape in _shapes_in(path)}


def parts(path: Path) -> list[Path]:
    """Every file of a model whose first one is ``path``, by llama.cpp's names for the parts of a split model."""
    found = re.fullmatch(r"(.+)-00001-of-(\d{5})\.gguf", path.name)
    if not found:
        return [path]
    count = int(found[2])
    return [path.with_name(f"{found[1]}-{number:05d}-of-{count:05d}.gguf") for number in range(1, count + 1)]


def convert(modules: Items[LoraModule], base: BaseModel) -> dict[str, Floats]:
    """The tensors of a GGUF adapter for ``base``: ``<tensor>.lora_a`` and ``.lora_b`` for each module.

    The scale of each module is multiplied into its B, so that modules may have ranks and alphas of their own.

    Raises:
        BadAdapter: a module does not fit the base; names it.
    """
    import gguf

    if base.architecture not in REORDERED:
        raise BadAdapter(
            f"adapters of the architecture {base.architecture!r} cannot be converted; known: {', '.join(REORDERED)}"
        )
    architecture = next(arch for arch, name in gguf.MODEL_ARCH_NAMES.items() if name == base.architecture)
    names = gguf.get_tensor_name_map(architecture, base.blocks)
    tensors: dict[str, Floats] = {}
    for module in modules:
        name = names.get_name(f"{module.name}.weight", try_suffixes=(".weight",))
        if name is None or name not in base.shapes:
            raise BadAdapter(
                f"the model has no module {module.name!r} that could be changed; is it for another base?"
            )
        if f"{name}.lora_a" in tensors:
            raise BadAdapter(f"the module {module.name!r} is there twice")
        _check(module, name, base)
        with np.errstate(over="ignore"):
            a, b = module.a, module.b * np.float32(module.scale)
        if not np.isfinite(b).all():
            raise BadAdapter(f"the numbers of {module.name!r} leave the range of floats when they are scaled")
        if REORDERED[base.architecture]:
            if name.endswith("attn_q.weight"):
                b = reordered(b, base.heads)
            elif name.endswith("attn_k.weight"):
                b = reordered(b, base.kv_heads)
        # Rows of A are looked up by token in an embedding, as those of its table are.
        tensors[f"{name}.lora_a"] = np.ascontiguousarray(a.T) if module.embedding else a
        tensors[f"{name}.lora_b"] = b
    return tensors


def reordered(rows: Floats, heads: int) -> Floats:
    """The rows of a q or k matrix in llama.cpp's order: head by head, those that rotate together side by side."""
    size = rows.shape[0] // heads // 2
    return np.ascontiguousarray(rows.reshape(heads, 2, size, -1).swapaxes(1, 2)).reshape(rows.shape)


def write(path: Path, tensors: dict[str, Floats], base: BaseModel) -> None:
    """Write a GGUF adapter such that the file is there whole or not at all."""
    import gguf

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    writer = gguf.GGUFWriter(temporary, base.architecture)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    # To llama.cpp, no alpha means that B is scaled already.
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, 0.0)
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _shapes_in(path: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    context = ggml.gguf_init_from_file(os.fsencode(path), _GgufParams(no_alloc=True, context=None))
    if not context:
        raise RuntimeError(f"llama.cpp cannot read {path}")
    try:
        for number in range(ggml.gguf_get_n_tensors(context)):
            sizes = ggml.gguf_get_tensor_ne(context, number)
            if sizes[1] > 1 and sizes[2] == 1:
                yield ggml.gguf_get_tensor_name(context, number).decode(), (sizes[0], sizes[1])
    finally:
        ggml.gguf_free(context)


def _check(module: LoraModule, name: str, base: BaseModel) -> None:
    inputs, outputs = base.shapes[name]
    if module.embedding != (name == "token_embd.weight"):
        raise BadAdapter(f"the module {module.name!r} is adapted as what it is not")
    if module.embedding:
        if "output.weight" not in base.shapes:
            # llama.cpp would take the adapter's matrices, the wrong way round, for those of the output.
            raise BadAdapter(f"{module.name!r} is also the model's output here; train without it")
        inputs, outputs = outputs, inputs
    if (module.a.shape[1], module.b.shape[0]) != (inputs, outputs):
        raise BadAdapter(
            f"{module.name!r} goes from {module.a.shape[1]} to {module.b.shape[0]} numbers, the model's from {inputs}"
            f" to {outputs}; is it for another base?"
        )


class _GgufParams(ctypes.Structure):
    """``gguf_init_params`` of gguf.h."""

    _fields_ = [("no_alloc", ctypes.c_bool), ("context", ctypes.c_void_p)]


for _name, _arguments, _result in (
    ("gguf_init_from_file", [ctypes.c_char_p, _GgufParams], ctypes.c_void_p),
    ("gguf_free", [ctypes.c_void_p], None),
    ("gguf_get_n_tensors", [ctypes.c_void_p], ctypes.c_int64),
    ("gguf_get_tensor_name", [ctypes.c_void_p, ctypes.c_int64], ctypes.c_char_p),
    ("gguf_get_tensor_ne", [ctypes.c_void_p, ctypes.c_int64], ctypes.POINTER(ctypes.c_int64)),
):
    _function = getattr(ggml, _name)
    _function.argtypes, _function.restype = _arguments, _result
