"""The memory of a GGUF model in llama.cpp, from the file's header and the engine's settings.

Every sequence's cache is in one pool of ``context`` x ``slots`` tokens that llama.cpp fills with zeros at the
start, so all of it is resident from then on; what idle slots hold beside it comes with use. Layers with a sliding
window hold as much as others, because the engine keeps whole windows to cut sequences at any token (``swa_full``,
llama.cpp's default).
"""

from __future__ import annotations

from pathlib import Path

from serve.handlers.llamacpp.order import reorders_weights
from serve.models.gguf import GgufHeader, read_header
from serve.residency.need import Need, weights_bytes
from serve.settings.engines import LlamaCppEngine
from serve.settings.model import ModelSettings

#: Keys and values are 16-bit floats; states of recurrent layers are 32-bit.
_CACHE_BYTES = 2
_STATE_BYTES = 4
#: llama.cpp rounds its pool up to a multiple of this.
_POOL_STEP = 256
#: Most tokens of one pass through the graph; ``serve.handlers.llamacpp.context`` sets it.
_GRAPH_TOKENS = 512
#: What llama.cpp's tables hold for one token of the vocabulary; seen for 49,152 and for 151,936 tokens.
_VOCABULARY_BYTES = 300
#: Pictures that are kept encoded (``serve.handlers.llamacpp.sight.KEPT_BYTES``).
_KEPT_PICTURES = 128 * 1024 * 1024
#: Tokens of the largest picture where the settings do not say it, and patches that become one.
_PICTURE_TOKENS, _PATCHES = 4096, 4


def estimate(settings: ModelSettings, file: Path | None) -> Need:
    """What a replica needs in the memory of its node; what goes to a GPU is left out."""
    assert settings.weights is not None and isinstance(settings.engine, LlamaCppEngine)
    if file is None:
        return Need(weights=weights_bytes(settings, file), cache=None)
    header, engine = read_header(file), settings.engine
    layers = header.number("block_count")
    pool = -(-engine.context * engine.slots // _POOL_STEP) * _POOL_STEP
    per_token = sum(_bytes_per_token(header, layers))
    cache = pool * per_token + engine.slots * _state_bytes(header, layers)
    here = _share_here(engine.gpu_layers, layers)
    # States of recurrent layers are never kept, and saved windows cannot be cut at any token.
    stays = _recurrent(header, layers) or header.number("attention.sliding_window")
    aside = 0 if stays else engine.tokens_aside * per_token
    weights = weights_bytes(settings, file) + (_tied_bytes(header) if reorders_weights(engine) else 0)
    return Need(
        weights=round(weights * here),
        cache=round(cache * here) + aside,
        compute=_compute_bytes(header, engine, pool) + _sight_bytes(engine),
    )


def _tied_bytes(header: GgufHeader) -> int:
    """The embedding table where it is the output too: that has an order of its own, and the rows are used as they
    lie."""
    return 0 if "output.weight" in header.tensors else header.tensors.get("token_embd.weight", 0)


def _share_here(gpu_layers: int, layers: int) -> float:
    """How much of the layers stays in the node's own memory."""
    if gpu_layers < 0 or layers == 0:
        return 0.0 if gpu_layers else 1.0
    return max(0, layers - gpu_layers) / layers


def _bytes_per_token(header: GgufHeader, layers: int) -> list[int]:
    """What one token takes in the cache of each layer; nothing in recurrent ones."""
    width = header.number("embedding_length") // max(1, header.number("attention.head_count", 1))
    keys = header.number("attention.key_length", width)
    values = header.number("attention.value_length", width)
    if rank := header.number("attention.kv_lora_rank"):
        # Multi-head latent attention keeps one compressed vector and one rotary key a token.
        return [(rank + header.number("rope.dimension_count")) * _CACHE_BYTES] * layers
    heads = header.per_layer("attention.head_count_kv", layers, header.number("attention.head_count"))
    return [
        0 if layer in _recurrent(header, layers) else count * (keys + values) * _CACHE_BYTES
        for layer, count in enumerate(heads)
    ]


def _recurrent(header: GgufHeader, layers: int) -> set[int]:
    """Which layers keep a state in place of keys and values."""
    if header.own("ssm.inner_size") is None:
        return set()
    if every := header.number("full_attention_interval"):
        return {layer for layer in range(layers) if (layer + 1) % every}
    heads = header.per_layer("attention.head_count_kv", layers, 0)
    return {layer for layer, count in enumerate(heads) if count == 0}


def _state_bytes(header: GgufHeader, layers: int) -> int:
    """The state of one sequence in all recurrent layers (Mamba's convolution and its state)."""
    inner, state = header.number("ssm.inner_size"), header.number("ssm.state_size")
    groups = header.number("ssm.group_count")
    convolution = max(0, header.number("ssm.conv_kernel") - 1) * (inner + 2 * groups * state)
    return len(_recurrent(header, layers)) * (convolution + inner * state) * _STATE_BYTES


def _compute_bytes(header: GgufHeader, engine: LlamaCppEngine, pool: int) -> int:
    """The graph's buffers, the mask over the pool, logits and candidates of the slots, tables of the vocabulary."""
    rows = min(max(engine.batch, engine.slots), _GRAPH_TOKENS)
    wide = 2 * header.number("feed_forward_length") + 6 * header.number("embedding_length")
    vocabulary = header.number("vocab_size") or header.lengths.get("tokenizer.ggml.tokens", 0)
    return rows * (wide * 4 + pool * 2) + vocabulary * (engine.slots * 4 + 16 + _VOCABULARY_BYTES)


def _sight_bytes(engine: LlamaCppEngine) -> int:
    """What seeing takes beside the projector's file: encoded pictures, and the mask of the largest one's patches."""
    if engine.projector is None:
        return 0
    patches = _PATCHES * (engine.image_max_tokens or _PICTURE_TOKENS)
    return _KEPT_PICTURES + patches * patches * 4
