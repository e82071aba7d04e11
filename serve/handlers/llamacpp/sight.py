"""Pictures in prompts: llama.cpp's libmtmd, which turns a picture into embeddings that stand where tokens would."""

from __future__ import annotations

import ctypes
import hashlib
import secrets
import threading
import weakref
from array import array
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import llama_cpp.mtmd_cpp as M
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from serve.errors import ContextLengthExceeded, InvalidRequest
from serve.handlers.llamacpp.context import default_threads
from serve.handlers.llamacpp.library import C, callback, recent_errors
from serve.handlers.llamacpp.model import Model
from serve.models.gguf import GgufHeader, read_header
from serve.settings.engines import LlamaCppEngine
from serve.settings.pictures import PictureGrid

#: Embeddings of so many bytes are kept, so that a conversation about a picture does not have it encoded each time.
KEPT_BYTES = 128 * 1024 * 1024

#: What ``mtmd_tokenize`` answers when there are more or fewer marks than pictures.
_MARKS_DIFFER = 1
#: llama.cpp's own bounds for models of Qwen's family, in tokens of a picture (clip.cpp, ``load_hparams``).
_LEAST_TOKENS, _MOST_TOKENS = 8, 4096
#: Projectors of Qwen's models, and in which numbers these point.
_COORDINATES: dict[str, Literal["pixels", "thousandths"]] = {
    "qwen2vl_merger": "thousandths",
    "qwen2.5vl_merger": "pixels",
    "qwen3vl_merger": "thousandths",
}

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class PromptPicture:
    """A picture's place in a prompt.

    Attributes:
        start: index of the first token that it stands for. length: how many there are.
        advance: positions that it takes of the text's; fewer than tokens where positions have two dimensions.
        offsets: shape (dimensions of a position, length), from the position at which it starts.
        embeddings: shape (length, numbers that the model takes for a token).
    """

    start: int
    length: int
    advance: int
    offsets: NDArray[np.int32]
    embeddings: Floats

    @property
    def end(self) -> int:
        """Index of the first token behind it."""
        return self.start + self.length


class NobodyWaits(Exception):
    """Whoever asked for pictures to be encoded has left."""


class Sight:
    """A projector file beside its model. It may be asked from any thread, but from one at a time.

    Attributes:
        mark: stands in a prompt's text where a picture goes; no request can know it.
        size: bytes of the file.

    Raises:
        FileNotFoundError: there is no such file.
        RuntimeError: llama.cpp cannot load it, it is for another model or for no pictures.
    """

    def __init__(self, path: Path, model: Model, settings: LlamaCppEngine) -> None:
        if not path.is_file():
            raise FileNotFoundError(f"There is no projector file at {path}.")
        self._model = model
        self._settings = settings
        self._header = read_header(path)
        self.size = path.stat().st_size
        self.mark = f"<__picture_{secrets.token_hex(16)}__>"
        M.mtmd_helper_log_set(callback, None)
        params = M.mtmd_context_params_default()
        params.use_gpu = settings.gpu_layers != 0
        params.print_timings = False
        params.n_threads = settings.threads or default_threads()
        params.media_marker = self.mark.encode()
        params.warmup = False
        params.image_min_tokens = settings.image_min_tokens or -1
        params.image_max_tokens = settings.image_max_tokens or -1
        recent_errors.clear()
        self._pointer = M.mtmd_init_from_file(str(path).encode(), model.pointer, params)
        if not self._pointer:
            raise RuntimeError(f"llama.cpp cannot load {path}: {'; '.join(recent_errors) or 'no reason given'}")
        weakref.finalize(self, M.mtmd_free, self._pointer).atexit = False
        if not M.mtmd_support_vision(self._pointer):
            raise RuntimeError(f"{path} is no projector of pictures.")
        if M.mtmd_decode_use_non_causal(self._pointer, None):
            raise RuntimeError(f"{path} is of a kind whose pictures are decoded all at once, which is not done here.")
        self._dimensions = 4 if M.mtmd_decode_use_mrope(self._pointer) else 1
        self._width: int = C.llama_model_n_embd_inp(model.pointer)
        self._kept: OrderedDict[bytes, Floats] = OrderedDict()

    @cached_property
    def grid(self) -> PictureGrid | None:
        """How the model sees pictures; none for families other than Qwen's, whose ways are not known here."""
        return grid_of(self._header, self._settings)

    def prompt(
        self, text: str, pictures: Sequence[Image.Image], left: threading.Event
    ) -> tuple[array[int], tuple[PromptPicture, ...]]:
        """The tokens of ``text``, where each mark stands for the next of ``pictures``. Takes seconds for large ones.

        A picture's tokens are negative numbers made of its content: prompts that begin with the same picture begin
        with the same tokens. When ``left`` is set, no further picture is encoded.

        Raises:
            NobodyWaits: ``left`` was set.
            InvalidRequest: the template lost or doubled a picture, or one cannot be prepared.
            ContextLengthExceeded: the context has no room for them.
        """
        chunks = M.mtmd_input_chunks_init()
        try:
            self._cut(text, pictures, chunks)
            # Said before anything is encoded.
            count: int = M.mtmd_helper_get_n_tokens(chunks)
            if count + 1 > self._settings.context:
                raise ContextLengthExceeded(count, self._settings.context)
            return self._read(chunks, left)
        finally:
            M.mtmd_input_chunks_free(chunks)

    def _cut(self, text: str, pictures: Sequence[Image.Image], chunks: object) -> None:
        """Put words and prepared pictures into ``chunks``, which then hold all that is needed of them."""
        bitmaps: list[_Bitmap] = []
        try:
            for picture in pictures:
                bitmaps.append(_Bitmap(picture))
            raw = text.encode(errors="replace")
            told = M.mtmd_input_text(raw, len(raw), True, True)
            pointers = (M.mtmd_bitmap_p_ctypes * len(bitmaps))(*(one.pointer for one in bitmaps))
            code = M.mtmd_tokenize(self._pointer, chunks, ctypes.byref(told), pointers, len(bitmaps))
        finally:
            for one in bitmaps:
                one.free()
        if code == _MARKS_DIFFER:
            raise InvalidRequest("The model's chat template does not place these pictures.", param="messages")
        if code:
            raise InvalidRequest("A picture cannot be prepared for the model.", param="messages")

    def _read(self, chunks: object, left: threading.Event) -> tuple[array[int], tuple[PromptPicture, ...]]:
        tokens = array("i")
        found: list[PromptPicture] = []
        pieces: Counter[bytes] = Counter()
        for place in range(M.mtmd_input_chunks_size(chunks)):
            chunk = M.mtmd_input_chunks_get(chunks, place)
            if M.mtmd_input_chunk_get_type(chunk) == M.MTMD_INPUT_CHUNK_TYPE_TEXT:
                count = ctypes.c_size_t()
                words = M.mtmd_input_chunk_get_tokens_text(chunk, ctypes.byref(count))
                tokens.extend(words[: count.value])
            else:
                # Projectors that cut a picture into tiles make several chunks of it, all with the picture's id.
                whole: bytes = M.mtmd_input_chunk_get_id(chunk)
                digest = hashlib.sha256(b"%b %d" % (whole, pieces[whole])).digest()
                pieces[whole] += 1
                picture = self._place(chunk, digest, len(tokens), left)
                found.append(picture)
                tokens.extend(_stand_ins(digest, picture.length))
        return tokens, tuple(found)

    def _place(self, chunk: object, digest: bytes, start: int, left: threading.Event) -> PromptPicture:
        length: int = M.mtmd_input_chunk_get_n_tokens(chunk)
        places = (M.mtmd_decoder_pos * length)()
        M.mtmd_helper_image_get_decoder_pos(M.mtmd_input_chunk_get_tokens_image(chunk), 0, places)
        # llama.cpp's order of the dimensions is time, row, column; the fourth is not used.
        names = ("t", "y", "x", "z") if self._dimensions > 1 else ("t",)
        seen = np.frombuffer(places, np.dtype([(name, np.uint32) for name in ("t", "x", "y", "z")]))
        offsets = np.ascontiguousarray(np.stack([seen[name] for name in names]).astype(np.int32))
        if self._dimensions == 1:
            offsets[0] = np.arange(length)
        advance: int = M.mtmd_input_chunk_get_n_pos(chunk)
        return PromptPicture(start, length, advance, offsets, self._embeddings(chunk, digest, length, left))

    def _embeddings(self, chunk: object, digest: bytes, length: int, left: threading.Event) -> Floats:
        """What a piece of a picture looks like to the model, encoded once for each content."""
        key = digest + b"%d" % length
        if (kept := self._kept.get(key)) is not None:
            self._kept.move_to_end(key)
            return kept
        if left.is_set():
            raise NobodyWaits
        recent_errors.clear()
        if M.mtmd_encode_chunk(self._pointer, chunk):
            raise RuntimeError(f"llama.cpp cannot encode a picture: {'; '.join(recent_errors)}")
        seen = np.ctypeslib.as_array(M.mtmd_get_output_embd(self._pointer), (length, self._width)).copy()
        self._kept[key] = seen
        while len(self._kept) > 1 and sum(one.nbytes for one in self._kept.values()) > KEPT_BYTES:
            self._kept.popitem(last=False)
        return seen


def grid_of(header: GgufHeader, settings: LlamaCppEngine) -> PictureGrid | None:
    """How a model with the projector that has ``header`` sees pictures; none where that is not known."""
    kind = str(header.values.get("clip.projector_type") or header.values.get("clip.vision.projector_type"))
    if kind not in _COORDINATES:
        return None
    patch = int(header.values["clip.vision.patch_size"])
    merge = int(header.values.get("clip.vision.spatial_merge_size", 2))
    area = (patch * merge) ** 2
    return PictureGrid(
        patch=patch,
        merge=merge,
        min_pixels=(settings.image_min_tokens or _LEAST_TOKENS) * area,
        max_pixels=(settings.image_max_tokens or _MOST_TOKENS) * area,
        coordinates=_COORDINATES[kind],
    )


class _Bitmap:
    """A picture as libmtmd takes it.

    Attributes:
        id: made of its size and content.
    """

    def __init__(self, picture: Image.Image) -> None:
        raw = picture.tobytes()
        self.id = hashlib.sha256(b"%d %d " % picture.size + raw).hexdigest().encode()
        buffer = (ctypes.c_uint8 * len(raw)).from_buffer_copy(raw)
        self.pointer = M.mtmd_bitmap_init(*picture.size, buffer)
        M.mtmd_bitmap_set_id(self.pointer, self.id)

    def free(self) -> None:
        """Give its memory back."""
        M.mtmd_bitmap_free(self.pointer)


def _stand_ins(digest: bytes, length: int) -> NDArray[np.int32]:
    """``length`` negative numbers that repeat the 256 bits of a hash, but for the sign of each word."""
    words = np.frombuffer(digest, np.int32) | np.int32(-(2**31))
    return np.resize(words, length)
