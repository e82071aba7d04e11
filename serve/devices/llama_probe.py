"""``python -m serve.devices.llama_probe``: says as JSON what the installed llama-cpp-python was built with, after a
tiny model has answered through it.

A build for another processor, or by a faulty compiler, may load and end the process at its first product only.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import gguf
import llama_cpp
import llama_cpp.llama_cpp as C
import numpy as np

_WIDTH = 256
_WORDS = 64
_BATCH = 32

#: The types of weights that models come with; llama.cpp has kernels of its own for each.
_TYPES = {
    "attn_q": gguf.GGMLQuantizationType.Q4_0,
    "attn_k": gguf.GGMLQuantizationType.Q4_1,
    "attn_v": gguf.GGMLQuantizationType.Q8_0,
    "attn_output": gguf.GGMLQuantizationType.F16,
    "ffn_up": gguf.GGMLQuantizationType.Q5_0,
    "ffn_gate": gguf.GGMLQuantizationType.BF16,
    "ffn_down": gguf.GGMLQuantizationType.Q4_0,
}


def main() -> int:
    """Run the tiny model and print what there is; the exit code is 1, with a line, where its numbers are none."""
    quiet = C.llama_log_callback(lambda *_: None)
    C.llama_log_set(quiet, None)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tiny.gguf"
        write_model(path)
        # A prompt and a single token take different kernels.
        finite = run(path, (_BATCH, 1))
    if not finite:
        sys.stderr.write("llama.cpp computes numbers that are none\n")
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
        weights = numbers.normal(scale=0.05, size=(_WIDTH, _WIDTH)).astype(np.float32)
        writer.add_tensor(f"blk.0.{name}.weight", gguf.quantize(weights, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def run(path: Path, batches: tuple[int, ...]) -> bool:
    """Decode batches of so many tokens on the processor; whether all logits are numbers.

    Raises:
        RuntimeError: llama.cpp refuses the model or a batch.
    """
    settings = C.llama_model_default_params()
    settings.n_gpu_layers = 0
    model = C.llama_model_load_from_file(str(path).encode(), settings)
    if not model:
        raise RuntimeError("llama.cpp cannot load a tiny model")
    wanted = C.llama_context_default_params()
    wanted.n_ctx = 2 * _BATCH
    context = C.llama_init_from_model(model, wanted)
    finite = True
    for count in batches:
        tokens = (C.llama_token * count)(*range(count))
        if (code := C.llama_decode(context, C.llama_batch_get_one(tokens, count))) != 0:
            raise RuntimeError(f"llama.cpp cannot decode: code {code}")
        logits = np.ctypeslib.as_array(C.llama_get_logits_ith(context, -1), (_WORDS,))
        finite = finite and bool(np.isfinite(logits).all())
    C.llama_free(context)
    C.llama_model_free(model)
    return finite


if __name__ == "__main__":
    sys.exit(main())
