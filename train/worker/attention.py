"""Attention inside each sequence of a row of several, on processors, for which transformers has none.

``sdpa`` over such a row computes every pair of its tokens and masks most of them, and padding each sequence to the
longest computes tokens that nobody learns from. Kernels that do neither (``flash_attn_varlen``) are for GPUs.
"""

from __future__ import annotations

from typing import Any

#: The name by which transformers finds it.
APART = "groupqwen_apart"

#: Where it is checked that positions reach the attention, by which sequences are told apart.
_FAMILIES = frozenset({"llama", "qwen2", "qwen3"})


def keep_apart(model: Any) -> bool:
    """Let ``model`` compute attention for each sequence of a row by itself, from now on; whether it can.

    Such a model takes one row, in which positions begin anew with each sequence, without a mask. Its caches and masks
    for generating are gone: it is one that is trained.

    Args:
        model: of transformers, with PEFT around it or not.
    """
    import torch
    from transformers import AttentionInterface

    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    kinds = set(getattr(base.config, "layer_types", None) or ["full_attention"])
    if torch.cuda.is_available() or base.config.model_type not in _FAMILIES or kinds != {"full_attention"}:
        return False
    AttentionInterface.register(APART, _attend)
    # Where a model's attention cannot be set, this only warns.
    base.set_attn_implementation(APART)
    return bool(base.config._attn_implementation == APART)


def _attend(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: None,
    *,
    position_ids: Any,
    **settings: Any,
) -> tuple[Any, None]:
    """Attention as transformers calls it.

    Args:
        query: ``(1, heads, tokens, head_dim)``. key, value: ``(1, key_value_heads, tokens, head_dim)``.
        position_ids: ``(1, tokens)``; each 0 begins a sequence.

    Returns:
        ``(1, tokens, heads, head_dim)``, and no weights.
    """
    import torch
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    starts = (position_ids[0] == 0).nonzero()[:, 0]
    lengths = starts.diff(append=starts.new_tensor([query.shape[2]])).tolist()
    # Split, not cut out one by one: the gradient of a split is one joined tensor, of a cut one of the whole size.
    parts = zip(*(whole.split(lengths, dim=2) for whole in (query, key, value)), strict=True)
    outputs = [sdpa_attention_forward(module, *part, attention_mask, **settings)[0] for part in parts]
    return torch.cat(outputs, dim=1), None
