"""Log probabilities of one row of logits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serve.handlers.llamacpp.model import Model
from serve.protocol.events import TokenLogprob, TopLogprob


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """The natural logarithms of the probabilities that ``logits`` stand for, shape (vocabulary,)."""
    shifted = logits - logits.max()
    return np.asarray(shifted - np.log(np.exp(shifted, dtype=np.float64).sum()), np.float64)


def likeliest(logprobs: NDArray[np.float64], count: int) -> list[int]:
    """The ``count`` likeliest tokens, best first; of equal ones the lower number first."""
    count = min(count, len(logprobs))
    if count == 0:
        return []
    # Ties at the border would let argpartition pick any of them.
    border = np.partition(logprobs, -count)[-count]
    found = np.flatnonzero(logprobs >= border)
    return [int(token) for token in found[np.argsort(-logprobs[found], kind="stable")][:count]]


def describe(model: Model, token: int, logits: NDArray[np.float32], top: int) -> TokenLogprob:
    """``token`` with its log probability before any sampler changed it, and those of the ``top`` likeliest."""
    logprobs = log_softmax(logits)
    raw = model.label(token)
    return TokenLogprob(
        token=_text(raw),
        logprob=float(logprobs[token]),
        raw=raw,
        top=tuple(_top(model, other, float(logprobs[other])) for other in likeliest(logprobs, top)),
    )


def _top(model: Model, token: int, logprob: float) -> TopLogprob:
    raw = model.label(token)
    return TopLogprob(token=_text(raw), logprob=logprob, raw=raw)


def _text(raw: bytes) -> str:
    return raw.decode(errors="replace")
