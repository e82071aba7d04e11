"""How the next token of a sequence is chosen, in llama.cpp's own samplers."""

from __future__ import annotations

import math
import weakref
from array import array
from collections import deque

import numpy as np

from serve.handlers.llamacpp.context import Context
from serve.handlers.llamacpp.library import C, Pointer
from serve.handlers.llamacpp.model import Model
from serve.protocol.sampling import Sampling

#: Tokens back, prompt included, in which the penalties look for repetitions: llama.cpp's own default.
PENALTY_WINDOW = 64

#: Below this temperature logits would leave the range of floats; the likeliest token is taken.
COLDEST = 1e-5

#: llama.cpp takes this seed to mean a random one.
_RANDOM_SEED = 0xFFFFFFFF


class NoTokenFits(Exception):
    """The grammar allows no token of the vocabulary here."""


class GrammarError(ValueError):
    """llama.cpp does not accept a grammar's text."""


class Grammar:
    """A compiled GBNF grammar (https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md), rule ``root``.

    Args:
        trigger: a token before which the grammar is asleep; its text is the first that the grammar must match. Only a
            whole token can wake a grammar: were the trigger spread over several, text behind it in the last of them
            could break the grammar, and llama.cpp ends the process then.

    Raises:
        GrammarError: it does not compile.
    """

    def __init__(self, model: Model, text: str, *, trigger: int | None = None) -> None:
        if trigger is None:
            pointer = C.llama_sampler_init_grammar(model.vocab, text.encode(), b"root")
        else:
            tokens = (C.llama_token * 1)(trigger)
            pointer = C.llama_sampler_init_grammar_lazy_patterns(
                model.vocab, text.encode(), b"root", None, 0, tokens, 1
            )
        if not pointer:
            raise GrammarError("The grammar does not compile.")
        self._pointer = _owned(self, pointer)

    def new(self) -> Pointer:
        """A sampler that stands at the grammar's beginning; the caller frees it."""
        return C.llama_sampler_clone(self._pointer)


class Sampler:
    """The chain of one sequence, in llama.cpp's order: bias, penalties, top_k, top_p, min_p, temperature, choice.

    Args:
        seed: any integer; the same one gives the same choices.
        history: tokens so far, for the penalties.
        grammar: what the output must match. It is asked about the chosen token only, which is cheap; where it says
            no, the whole vocabulary is filtered through it and the choice is made anew, as in llama.cpp's server.
    """

    def __init__(
        self, model: Model, sampling: Sampling, seed: int, history: array[int], grammar: Grammar | None
    ) -> None:
        self._model = model
        self._chain = _owned(self, C.llama_sampler_chain_init(C.llama_sampler_chain_default_params()))
        for part in _parts(model, sampling, seed):
            C.llama_sampler_chain_add(self._chain, part)
        self._greedy = _is_greedy(sampling)
        self._biased = tuple(sampling.logit_bias or ())
        self._window: deque[int] = deque(maxlen=PENALTY_WINDOW if _has_penalties(sampling) else 0)
        for token in history[-PENALTY_WINDOW:] if self._window.maxlen else ():
            self._accept(token)
        self._grammar = _owned(self, grammar.new()) if grammar else None
        self._one = (C.llama_token_data * 1)()
        self._one_list = C.llama_token_data_array(self._one, 1, -1, False)

    def sample(self, context: Context, row: int) -> int:
        """Choose the token that follows the one in ``row`` of the decoded batch.

        Raises:
            NoTokenFits: the grammar allows none.
        """
        if self._grammar is None and not self._greedy:
            chosen: int = C.llama_sampler_sample(self._chain, context.pointer, row)
            return chosen
        token = self._likeliest(context, row) if self._greedy else self._choose(context.candidates(row))
        if self._grammar is not None:
            if not self._fits(token):
                candidates = context.candidates(row)
                C.llama_sampler_apply(self._grammar, candidates)
                token = self._choose(candidates)
                # llama.cpp ends the process when a grammar is made to accept what it does not allow.
                if not self._fits(token):
                    raise NoTokenFits
            if not self._model.ends(token):
                C.llama_sampler_accept(self._grammar, token)
        self._accept(token)
        return token

    def _likeliest(self, context: Context, row: int) -> int:
        """The choice that leaves nothing to chance: one of the tokens that the chain may change, or the likeliest
        of the others. The chain's passes over a whole vocabulary would take 0.1 to 0.5 ms."""
        logits = context.logits(row)
        changed = {*self._window, *self._biased}
        if not changed:
            return int(logits.argmax())
        places = np.fromiter(changed, np.int32, len(changed))
        kept = logits[places]
        logits[places] = -np.inf
        changed.add(int(logits.argmax()))
        logits[places] = kept
        # In the vocabulary's order, as in the whole list: of equals, the first is taken.
        return self._choose(context.candidates(row, np.array(sorted(changed), np.int32)))

    def _choose(self, candidates: Pointer) -> int:
        C.llama_sampler_apply(self._chain, candidates)
        token: int = candidates.data[candidates.selected].id
        return token

    def _accept(self, token: int) -> None:
        C.llama_sampler_accept(self._chain, token)
        self._window.append(token)

    def _fits(self, token: int) -> bool:
        self._one[0] = (token, 1.0, 0.0)
        self._one_list.size = 1
        C.llama_sampler_apply(self._grammar, self._one_list)
        return not math.isinf(self._one[0].logit)


def _owned(owner: object, pointer: Pointer) -> Pointer:
    """``pointer``, freed when ``owner`` is gone."""
    weakref.finalize(owner, C.llama_sampler_free, pointer).atexit = False
    return pointer


def _has_penalties(sampling: Sampling) -> bool:
    return sampling.repetition_penalty != 1.0 or sampling.frequency_penalty != 0.0 or sampling.presence_penalty != 0.0


def _is_greedy(sampling: Sampling) -> bool:
    return sampling.temperature < COLDEST


def _parts(model: Model, sampling: Sampling, seed: int) -> list[Pointer]:
    """The samplers of a chain; what would change nothing is left out."""
    parts = []
    if sampling.logit_bias:
        pairs = [C.llama_logit_bias(token, bias) for token, bias in sampling.logit_bias.items()]
        biases = (C.llama_logit_bias * len(pairs))(*pairs)
        parts.append(C.llama_sampler_init_logit_bias(model.vocabulary, len(pairs), biases))
    if _has_penalties(sampling):
        parts.append(
            C.llama_sampler_init_penalties(
                model.vocabulary,
                PENALTY_WINDOW,
                sampling.repetition_penalty,
                sampling.frequency_penalty,
                sampling.presence_penalty,
            )
        )
    if _is_greedy(sampling):
        return [*parts, C.llama_sampler_init_greedy()]
    if sampling.top_k > 0:
        parts.append(C.llama_sampler_init_top_k(sampling.top_k))
    if sampling.top_p < 1:
        parts.append(C.llama_sampler_init_top_p(sampling.top_p, 1))
    if sampling.min_p > 0:
        parts.append(C.llama_sampler_init_min_p(sampling.min_p, 1))
    if sampling.temperature != 1:
        parts.append(C.llama_sampler_init_temp(sampling.temperature))
    return [*parts, C.llama_sampler_init_dist(seed % _RANDOM_SEED)]
