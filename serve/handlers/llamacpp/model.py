"""The weights and the vocabulary of one GGUF file."""

from __future__ import annotations

import ctypes
import logging
import threading
import weakref
from array import array
from pathlib import Path

from serve.handlers.llamacpp.library import C, recent_errors
from serve.handlers.llamacpp.order import reorders_weights
from serve.settings.engines import LlamaCppEngine

logger = logging.getLogger(__name__)

#: Most bytes of one token's text before the buffer is made larger.
_PIECE_BYTES = 64


class Model:
    """A GGUF file in memory. Safe to use from many threads; freed with its last reference, so that no thread that
    still tokenizes meets freed memory.

    Attributes:
        vocabulary: how many tokens it knows.
        size: bytes of its weights.
        adapters: held while llama.cpp's list of this model's adapters is changed or read.
        shares_prefixes: whether the cache of a sequence can be cut and shared at any token. The state of recurrent
            and hybrid models cannot.
        windowed: whether some layers look back over a window only.

    Raises:
        FileNotFoundError: there is no such file.
        RuntimeError: llama.cpp cannot load it.
    """

    def __init__(self, path: Path, settings: LlamaCppEngine) -> None:
        if not path.is_file():
            raise FileNotFoundError(f"There is no model file at {path}.")
        if settings.gpu_layers and not C.llama_supports_gpu_offload():
            logger.warning("gpu_layers is set, but this build of llama-cpp-python has no GPU support")
        params = C.llama_model_default_params()
        params.n_gpu_layers = settings.gpu_layers
        mapped = not reorders_weights(settings) if settings.mmap is None else settings.mmap
        params.load_mode = C.LLAMA_LOAD_MODE_MMAP if mapped else C.LLAMA_LOAD_MODE_NONE
        recent_errors.clear()
        self.pointer = C.llama_model_load_from_file(str(path).encode(), params)
        if not self.pointer:
            raise RuntimeError(f"llama.cpp cannot load {path}: {'; '.join(recent_errors) or 'no reason given'}")
        weakref.finalize(self, C.llama_model_free, self.pointer).atexit = False
        if C.llama_model_has_encoder(self.pointer) or not C.llama_model_has_decoder(self.pointer):
            raise RuntimeError(f"{path} is no model that continues a text.")
        self.vocab = C.llama_model_get_vocab(self.pointer)
        self.vocabulary: int = C.llama_vocab_n_tokens(self.vocab)
        self.size: int = C.llama_model_size(self.pointer)
        self.trained_context: int = C.llama_model_n_ctx_train(self.pointer)
        self.shares_prefixes = not (C.llama_model_is_recurrent(self.pointer) or C.llama_model_is_hybrid(self.pointer))
        self.windowed: bool = C.llama_model_n_swa(self.pointer) > 0
        self.adapters = threading.Lock()
        self._pieces: dict[int, bytes] = {}
        self._ends: dict[int, bool] = {}

    @property
    def chat_template(self) -> str | None:
        """The Jinja template of its conversations, if the file has one."""
        template = C.llama_model_chat_template(self.pointer, None)
        return template.decode(errors="replace") if template else None

    @property
    def adds_bos(self) -> bool:
        """Whether every text begins with the BOS token."""
        return bool(C.llama_vocab_get_add_bos(self.vocab))

    @property
    def bos(self) -> int | None:
        """The token that begins a text, where the vocabulary has one."""
        token = C.llama_vocab_bos(self.vocab)
        return None if token == C.LLAMA_TOKEN_NULL else token

    @property
    def eos(self) -> int | None:
        """The token that ends a text, where the vocabulary has one."""
        token = C.llama_vocab_eos(self.vocab)
        return None if token == C.LLAMA_TOKEN_NULL else token

    def metadata(self, key: str) -> str | None:
        """A value of the file's metadata as text, if it has the key; cut off after 255 bytes."""
        buffer = ctypes.create_string_buffer(256)
        found = C.llama_model_meta_val_str(self.pointer, key.encode(), buffer, len(buffer))
        return buffer.value.decode(errors="replace") if found >= 0 else None

    def tokenize(self, text: str, *, add_special: bool = True) -> array[int]:
        """The tokens of ``text``, special tokens written in it included; ``add_special`` adds BOS where the model
        wants it."""
        # A lone surrogate has no UTF-8 form; it becomes a question mark.
        raw = text.encode(errors="replace")
        room = len(raw) + 2
        tokens = array("i", bytes(4 * room))
        buffer = (C.llama_token * room).from_buffer(tokens)
        count = C.llama_tokenize(self.vocab, raw, len(raw), buffer, room, add_special, True)
        if count < 0:
            raise RuntimeError(f"llama.cpp cannot tokenize {len(raw)} bytes (code {count})")
        return tokens[:count]

    def piece(self, token: int) -> bytes:
        """The bytes that ``token`` adds to a text; none for control tokens."""
        piece = self._pieces.get(token)
        if piece is None:
            piece = self._pieces[token] = self._to_piece(token, special=False)
        return piece

    def label(self, token: int) -> bytes:
        """The bytes of ``token`` with control tokens written out (``<|im_end|>``)."""
        return self._to_piece(token, special=True)

    def ends(self, token: int) -> bool:
        """Whether ``token`` ends the model's turn."""
        ends = self._ends.get(token)
        if ends is None:
            ends = self._ends[token] = bool(C.llama_vocab_is_eog(self.vocab, token))
        return ends

    def single_token(self, text: str) -> int | None:
        """The one token that ``text`` is, if it is one."""
        tokens = self.tokenize(text, add_special=False)
        return tokens[0] if len(tokens) == 1 else None

    def _to_piece(self, token: int, *, special: bool) -> bytes:
        buffer = ctypes.create_string_buffer(_PIECE_BYTES)
        count = C.llama_token_to_piece(self.vocab, token, buffer, len(buffer), 0, special)
        if count < 0:
            buffer = ctypes.create_string_buffer(-count)
            count = C.llama_token_to_piece(self.vocab, token, buffer, len(buffer), 0, special)
        return buffer.raw[:count]
