"""``python -m serve.devices.llama_probe``: says as JSON what the installed llama-cpp-python was built with, after a
tiny model has answered through it on the processor.

A build for another processor, or by a faulty compiler, may load and end the process at its first product only.
"""

from __future__ import annotations

import ctypes
import json
import sys
import tempfile
from pathlib import Path

import gguf
import llama_cpp
import llama_cpp.llama_cpp as C
import numpy as np
from gguf import GGMLQuantizationType as Kind

_WIDTH = 256
_WORDS = 64
_BATCH = 32

#: Types of weights that models come with; llama.cpp has kernels of its own for each.
_TYPES = {
    "attn_q": Kind.Q4_0,
    "attn_k": Kind.Q4_1,
    "attn_v": Kind.Q8_0,
    "attn_output": Kind.F16,
    "ffn_up": Kind.Q4_K,
    "ffn_gate": Kind.BF16,
    "ffn_down": Kind.Q6_K,
}
#: Of types that the gguf package does not make: bytes of a block of 256 weights, and where its scales are, of two
#: bytes each (ggml-common.h).
_BLOCKS = {Kind.Q4_K: (144, (0, 2)), Kind.Q6_K: (210, (208,))}

# llama.cpp keeps the pointer, so the object has to live as long as the process.
_QUIET = C.llama_log_callback(lambda *_: None)


class Refused(Exception):
    """llama.cpp does not do what it was asked for."""


def main() -> int:
    """Run the tiny model and print what there is; the exit code is 1, with a line, where it does not answer."""
    C.llama_log_set(_QUIET, None)
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "tiny.gguf"
            write_model(path)
            model = load(path)
        # The file is gone before anything can end the process. A prompt and one token take different kernels.
        finite = run(model, (_BATCH, 1))
    except Refused as reason:
        sys.stderr.write(f"{reason}\n")
        return 1
    if not finite:
        sys.stderr.write("its logits are not numbers\n")
        return 1
    found = {
        "version": llama_cpp.__version__,
        "gpu_offload": bool(C.llama_supports_gpu_offload()),
        "system_info": C.llama_print_system_info().decode(errors="replace").strip(" |"),
    }
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


def write_model(path: Path) -> None:
    """A llama of one layer with random weights and no words."""
    numbers = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(2 * _BATCH)
    writer.add_embedding_length(_WIDTH)
    writer.add_feed_forward_length(_WIDTH)
    writer.add_head_count(4)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(_WORDS)
    writer.add_tokenizer_model("no_vocab")
    writer.add_tensor("token_embd.weight", numbers.normal(size=(_WORDS, _WIDTH)).astype(np.float32))
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(_WIDTH, np.float32))
    for name, kind in _TYPES.items():
        if kind in _BLOCKS:
            size, scales = _BLOCKS[kind]
            weights = numbers.integers(0, 256, (_WIDTH, size), np.uint8)
            for at in scales:
                weights[:, at : at + 2] = np.array([1e-4], np.float16).view(np.uint8)
        else:
            weights = gguf.quantize(numbers.normal(scale=0.05, size=(_WIDTH, _WIDTH)).astype(np.float32), kind)
        writer.add_tensor(f"blk.0.{name}.weight", weights, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def load(path: Path) -> C.llama_model_p:
    """The model in the processor's memory, without its file.

    Raises:
        Refused: llama.cpp cannot load it.
    """
    settings = C.llama_model_default_params()
    nothing = (ctypes.c_void_p * 1)(None)
    settings.devices = ctypes.cast(nothing, ctypes.c_void_p)
    settings.load_mode = C.LLAMA_LOAD_MODE_NONE
    model = C.llama_model_load_from_file(str(path).encode(), settings)
    if not model:
        raise Refused("a tiny model cannot be loaded")
    return model


def run(model: C.llama_model_p, batches: tuple[int, ...]) -> bool:
    """Decode batches of so many tokens and free the model; whether all logits are numbers.

    Raises:
        Refused: llama.cpp cannot decode.
    """
    wanted = C.llama_context_default_params()
    wanted.n_ctx = 2 * _BATCH
    wanted.op_offload = wanted.offload_kqv = False
    context = C.llama_init_from_model(model, wanted)
    try:
        if not context:
            raise Refused("there is no memory for a tiny context")
        return all(_decode(context, count) for count in batches)
    finally:
        if context:
            C.llama_free(context)
        C.llama_model_free(model)


def _decode(context: C.llama_context_p, count: int) -> bool:
    tokens = (C.llama_token * count)(*range(count))
    if (code := C.llama_decode(context, C.llama_batch_get_one(tokens, count))) != 0:
        raise Refused(f"a tiny model cannot be run: llama.cpp's code {code}")
    logits = np.ctypeslib.as_array(C.llama_get_logits_ith(context, -1), (_WORDS,))
    return bool(np.isfinite(logits).all())


if __name__ == "__main__":
    sys.exit(main())
