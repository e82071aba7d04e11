"""llama.cpp's C API, started once in a process, with its log sent to Python's."""

from __future__ import annotations

import ctypes
import logging
import sys
from collections import deque
from typing import Any, TypeAlias

import llama_cpp.llama_cpp as C
from llama_cpp._ggml import libggml as ggml

__all__ = ["C", "Pointer", "callback", "ggml", "recent_errors"]

logger = logging.getLogger(__name__)

#: A pointer into llama.cpp, whose bindings have no types.
Pointer: TypeAlias = Any

#: ``GGML_LOG_LEVEL_ERROR`` of ggml.h.
_ERROR = 4
#: glibc's options for the number of heaps, and for the size from which memory comes from the system and goes back to
#: it at once (mallopt(3)).
_M_ARENA_MAX, _M_MMAP_THRESHOLD = -8, -3
_LARGE = 4 * 1024 * 1024

#: llama.cpp's last error lines: its calls only say that they failed, its log says why.
recent_errors: deque[str] = deque(maxlen=4)


def _to_logger(level: int, text: bytes, _user_data: object) -> None:
    line = text.decode(errors="replace").rstrip()
    if level == _ERROR and line:
        recent_errors.append(line)
    logger.debug("%s", line)


# llama.cpp keeps the pointer, so the object has to live as long as the process.
callback = C.llama_log_callback(_to_logger)
C.llama_log_set(callback, None)
C.llama_backend_init()

if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
    # Threads that load and run a model come and go; with a heap for each, what they free would stay with the process.
    mallopt(_M_ARENA_MAX, 2)
    # glibc would raise this to what was freed, up to 32 MiB, and keep the next buffers of that size.
    mallopt(_M_MMAP_THRESHOLD, _LARGE)
