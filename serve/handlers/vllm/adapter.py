"""Checks a PEFT adapter against the checkpoint that it is for, before the engine sees it.

vLLM looks at an adapter's shapes when a request first uses it, and the engine dies of a wrong one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open

from serve.errors import AdapterRefused

#: Name of a tensor -> its shape.
Shapes = Mapping[str, tuple[int, ...]]

_PREFIX = "base_model.model."
_A, _B = ".lora_A.weight", ".lora_B.weight"


def shapes_in(folder: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of every tensor in the ``*.safetensors`` of a folder; reads their heads only."""
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "numpy") as file:
            for name in file.keys():  # noqa: SIM118 - it is no mapping
                found[name] = tuple(file.get_slice(name).get_shape())
    return found


def check_adapter(folder: Path, base: Shapes, max_rank: int) -> None:
    """See that the adapter in ``folder`` fits the checkpoint whose tensors have the shapes ``base``.

    Raises:
        AdapterRefused: it cannot be read, its rank is over ``max_rank``, or a layer of it is not there or is of
            another size.
    """
    try:
        rank = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))["r"]
        weights = shapes_in(folder)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as failure:
        raise AdapterRefused(f"This is not an adapter as PEFT saves it: {failure!r}.") from failure
    if not isinstance(rank, int) or rank > max_rank:
        raise AdapterRefused(f"The adapter's rank is {rank}, and engine.max_lora_rank is {max_rank}.")
    if not weights:
        raise AdapterRefused("The adapter has no weights.")
    for name, shape in weights.items():
        _check(name, shape, base)


def _check(name: str, shape: tuple[int, ...], base: Shapes) -> None:
    layer = name.removeprefix(_PREFIX)
    end = next((end for end in (_A, _B) if layer.endswith(end)), None)
    if end is None:
        raise AdapterRefused(f"The adapter's {name!r} is no LoRA weight.")
    layer = layer.removesuffix(end)
    if f"{layer}.weight" in base:
        out, inner = base[f"{layer}.weight"]
        wanted, got = (inner, shape[1]) if end == _A else (out, shape[0])
        if wanted != got:
            raise AdapterRefused(
                f"The adapter's {name!r} is made for {got} numbers, and the model has {wanted} there."
            )
    elif not any(
        known.startswith(f"{layer}.") for known in base
    ):  # packed weights have names and shapes of their own
        raise AdapterRefused(f"The adapter changes {layer!r}, which the model does not have.")
