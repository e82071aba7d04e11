"""One llama.cpp context that holds many sequences, and the batch that feeds it. For one thread at a time."""

from __future__ import annotations

import ctypes
from array import array
from contextlib import nullcontext
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from serve.devices.processor import usable_cores
from serve.handlers.llamacpp.adapters import Adapter
from serve.handlers.llamacpp.library import C, Pointer, recent_errors
from serve.handlers.llamacpp.model import Model
from serve.settings.engines import LlamaCppEngine

if TYPE_CHECKING:
    from serve.handlers.llamacpp.sight import PromptPicture

#: What ``llama_decode`` answers when the cache has no room for the batch; nothing has changed then.
NO_ROOM = 1

#: Most tokens of one pass through the graph; more only costs memory.
_GRAPH_TOKENS = 512

#: llama.cpp's own candidate list: token, logit, probability.
_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


def default_threads() -> int:
    """Threads for decoding where the settings name none: half of the cores that this process may use, or both of two.

    SmolLM2-135M Q4_1 on 2 cores, tokens/s with 1 and with 2 threads: one sequence 83 and 120, eight 113 and 190.
    Larger nodes keep half for other models, the gateway and the rest of Ray.
    """
    cores = usable_cores()
    return cores if cores <= 2 else cores // 2


class Batch:
    """Tokens for one decode call, in buffers that llama.cpp reads in place."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.size = 0
        self._tokens = np.zeros(capacity, np.int32)
        self._positions = np.zeros(capacity, np.int32)
        self._sequences = np.zeros(capacity, np.int32)
        self._outputs = np.zeros(capacity, np.int8)
        self._ones = np.ones(capacity, np.int32)
        # Every token is of one sequence, so its list of sequences is one place in the array above.
        places = self._sequences.ctypes.data + self._sequences.itemsize * np.arange(capacity)
        self._places = places.astype(np.uintp)
        fields: dict[str, NDArray[np.generic]] = {
            "token": self._tokens,
            "pos": self._positions,
            "n_seq_id": self._ones,
            "seq_id": self._places,
            "logits": self._outputs,
        }
        self.raw = C.llama_batch()
        _point(self.raw, fields)

    @property
    def room(self) -> int:
        """How many tokens still fit."""
        return self.capacity - self.size

    def clear(self) -> None:
        """Forget every token."""
        self.size = 0

    def add(
        self, sequence: int, tokens: array[int], start: int, count: int, *, output: bool, position: int | None = None
    ) -> int:
        """Add ``tokens[start:start + count]``.

        Args:
            output: whether logits are wanted after the last of them.
            position: of the first of them; ``start`` where it is left out.

        Returns:
            The row of the last token, by which its logits are found after decoding.
        """
        here = slice(self.size, self.size + count)
        self._tokens[here] = np.frombuffer(tokens, np.int32, count, start * tokens.itemsize)
        first = start if position is None else position
        self._positions[here] = np.arange(first, first + count)
        self._sequences[here] = sequence
        self._outputs[here] = 0
        self.size += count
        self._outputs[self.size - 1] = output
        return self.size - 1


class Context:
    """The cache and the graph of one model, for ``settings.slots`` sequences of ``settings.context`` tokens.

    The cache is one pool that all sequences share (``kv_unified``), so a prefix that two of them have in common is
    held once, and any of them can be decoded together. Separate caches are quicker with long sequences, whose cells
    the others need not pass over, but llama.cpp decodes together only those that are neighbours there.

    Attributes:
        batch: what the next ``decode`` works on.
        memory_bytes: bytes of the cache. token_bytes: of one token in it.
    """

    def __init__(self, model: Model, settings: LlamaCppEngine) -> None:
        self._model = model
        threads = settings.threads or default_threads()
        capacity = max(settings.batch, settings.slots)
        params = C.llama_context_default_params()
        params.n_ctx = settings.context * settings.slots
        params.n_batch = capacity
        params.n_ubatch = min(capacity, _GRAPH_TOKENS)
        params.n_seq_max = settings.slots
        # Without this, room for the logits of a whole batch is set aside: 300 MB for a vocabulary of 150,000.
        params.n_outputs_max = settings.slots
        params.n_threads = threads
        params.n_threads_batch = threads
        params.kv_unified = True
        params.no_perf = True
        recent_errors.clear()
        self.pointer = C.llama_init_from_model(model.pointer, params)
        if not self.pointer:
            reason = "; ".join(recent_errors) or "no reason given"
            raise RuntimeError(f"llama.cpp cannot make a context of {params.n_ctx} tokens: {reason}")
        self._memory = C.llama_get_memory(self.pointer)
        if not self._memory:
            self.close()
            raise RuntimeError("The model keeps no cache: it is not one that generates.")
        self.batch = Batch(capacity)
        self._candidates = np.zeros(model.vocabulary, _CANDIDATE)
        self._row = ctypes.c_float * model.vocabulary
        self._ids = np.arange(model.vocabulary, dtype=np.int32)
        self._list = C.llama_token_data_array()
        self._adapter: Adapter | None = None
        self._lays_out = False
        self.token_bytes = self._bytes_per_token()
        self.memory_bytes = self.token_bytes * C.llama_n_ctx(self.pointer)

    def use(self, adapter: Adapter | None) -> None:
        """Decode with ``adapter`` from now on, or with the model alone. A change makes the next decode lay out the
        graph and its memory anew."""
        if adapter is self._adapter:
            return
        pointers = [adapter.pointer] if adapter else []
        kind, count = C.llama_adapter_lora_p_ctypes, len(pointers)
        scales = (ctypes.c_float * count)(*[1.0] * count)
        C.llama_set_adapters_lora(self.pointer, (kind * count)(*pointers), count, scales)
        self._adapter, self._lays_out = adapter, True

    def decode(self) -> int:
        """Run the batch through the model: 0 when done, ``NO_ROOM``, or llama.cpp's code of a failure."""
        self.batch.raw.n_tokens = self.batch.size
        return self._decoded(self.batch.raw)

    def _decoded(self, raw: Pointer) -> int:
        # llama.cpp goes through its list of the model's adapters when it lays out the graph.
        with self._model.adapters if self._lays_out else nullcontext():
            code: int = C.llama_decode(self.pointer, raw)
        self._lays_out = False
        return code

    def look(self, sequence: int, picture: PromptPicture, first: int, count: int, position: int) -> int:
        """Run a part of a picture through the model; codes as ``decode``'s.

        Args:
            first: the first of its tokens that is wanted. count: how many.
            position: at which the picture starts.
        """
        embeddings = picture.embeddings[first : first + count]
        positions = np.ascontiguousarray(picture.offsets[:, first : first + count] + np.int32(position))
        ones, outputs = np.ones(count, np.int32), np.zeros(count, np.int8)
        own = np.full(1, sequence, np.int32)
        places = np.full(count, own.ctypes.data, np.uintp)
        fields: dict[str, NDArray[np.generic]] = {
            "embd": embeddings,
            "pos": positions,
            "n_seq_id": ones,
            "seq_id": places,
            "logits": outputs,
        }
        raw = C.llama_batch()
        raw.n_tokens = count
        _point(raw, fields)
        return self._decoded(raw)

    def logits(self, row: int) -> NDArray[np.float32]:
        """The logits after the token in ``row``, shape (vocabulary,); valid until the next ``decode``."""
        found = C.llama_get_logits_ith(self.pointer, row)
        values = self._row.from_address(ctypes.addressof(found.contents))
        return np.frombuffer(memoryview(values), np.float32)

    def candidates(self, row: int, tokens: NDArray[np.int32] | None = None) -> Pointer:
        """``tokens``, or all there are, with their logits after the token in ``row``, as the list that samplers work
        on; one list for all calls."""
        logits = self.logits(row)
        count = len(logits) if tokens is None else len(tokens)
        rows = self._candidates[:count]
        rows["id"] = self._ids if tokens is None else tokens
        rows["logit"] = logits if tokens is None else logits[tokens]
        self._list.data = ctypes.cast(self._candidates.ctypes.data, C.llama_token_data_p)
        self._list.size = count
        self._list.selected = -1
        self._list.sorted = False
        return self._list

    def cut(self, sequence: int, length: int) -> bool:
        """Keep only the first ``length`` tokens of a sequence; False when the model's cache cannot be cut there."""
        return bool(C.llama_memory_seq_rm(self._memory, sequence, length, -1))

    def share(self, source: int, target: int, length: int) -> None:
        """Let ``target``, which is empty, begin with the first ``length`` tokens of ``source``."""
        C.llama_memory_seq_cp(self._memory, source, target, 0, length)

    def save(self, sequence: int) -> NDArray[np.uint8] | None:
        """What the cache holds of a sequence, for ``restore``; none where llama.cpp cannot give it. Of layers with a
        window only the last one is saved."""
        state = np.empty(C.llama_state_seq_get_size(self.pointer, sequence), np.uint8)
        written = C.llama_state_seq_get_data(self.pointer, _bytes_of(state), state.size, sequence)
        return state if written == state.size else None

    def restore(self, sequence: int, state: NDArray[np.uint8]) -> bool:
        """Let a sequence hold what one held when it was saved; False, and nothing of it, where there is no room."""
        read = C.llama_state_seq_set_data(self.pointer, _bytes_of(state), state.size, sequence)
        if not read:
            self.cut(sequence, 0)  # A cache of two parts may have got one of them.
        return bool(read)

    def clear(self) -> None:
        """Forget every sequence."""
        C.llama_memory_clear(self._memory, False)

    def close(self) -> None:
        """Free the cache and the graph; no other call may follow."""
        C.llama_free(self.pointer)
        self.pointer = None

    def _bytes_per_token(self) -> int:
        """What one token takes in the cache, by the size of a sequence's state with one and with two tokens. The two
        decodes also bring the weights into memory before the first request."""
        sizes = []
        tokens = array("i", [self._model.bos or 0, self._model.bos or 0])
        for position in range(2):
            self.batch.clear()
            self.batch.add(0, tokens, position, 1, output=True)
            if code := self.decode():
                self.close()
                raise RuntimeError(f"llama.cpp cannot run the model: code {code}; {'; '.join(recent_errors)}")
            sizes.append(C.llama_state_seq_get_size(self.pointer, 0))
        self.clear()
        return int(sizes[1] - sizes[0])


def _bytes_of(state: NDArray[np.uint8]) -> Pointer:
    return ctypes.cast(state.ctypes.data, ctypes.POINTER(ctypes.c_uint8))


def _point(batch: Pointer, fields: dict[str, NDArray[np.generic]]) -> None:
    """Let the fields of a ``llama_batch`` point to arrays, which must outlive its use."""
    types = dict(C.llama_batch._fields_)
    for name, values in fields.items():
        setattr(batch, name, ctypes.cast(values.ctypes.data, types[name]))
