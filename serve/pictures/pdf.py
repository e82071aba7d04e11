"""Pages of PDF files as pictures.

PDFium draws them in a process of its own (``draw_pages``) with limits on its time and memory, because a file can make
it work for hours or fall over.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from PIL import Image

from serve.pictures import draw_pages
from serve.pictures.decode import BadPicture
from serve.settings.pictures import PictureLimits

MAGIC = b"%PDF-"
#: Characters of what a drawing process says.
_MOST_WORDS = 1000


class PdfPages:
    """Pages of a PDF file that are to be drawn.

    Args:
        wanted: such as ``1-3,7``; all of them where it is left out.
        most: pages that may be taken.
    """

    def __init__(self, content: bytes, wanted: str | None, most: int, limits: PictureLimits) -> None:
        self._content = content
        self._wanted = wanted or ""
        self._most = most
        self._limits = limits
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped: str | None = None

    def draw(self) -> list[tuple[int, Image.Image]]:
        """The pages with their numbers, from 1. Takes time: for a thread.

        Raises:
            BadPicture: it cannot be read, has too many pages, or not those that are wanted, or takes more time or
                memory than it may.
        """
        if importlib.util.find_spec("pypdfium2") is None:
            raise BadPicture("PDF is not read here; install the extra 'pictures', or send pictures of its pages")
        limits = self._limits
        with self._lock:
            if self._stopped:
                raise BadPicture(self._stopped)
            process = self._process = self._start()
        late = f"it is a PDF that takes more than {limits.pdf_seconds:g} s to draw"
        timer = threading.Timer(limits.pdf_seconds, self.stop, (late,))
        timer.start()
        try:
            assert process.stdin is not None and process.stdout is not None
            _send(process.stdin, self._content)
            return list(self._read(process.stdout))
        except EOFError:
            process.kill()
            code = process.wait()
            if code == -signal.SIGXCPU:
                raise BadPicture(late) from None
            raise BadPicture(self._stopped or _broken(limits)) from None
        finally:
            timer.cancel()
            process.kill()
            process.wait()
            _close(process)

    def stop(self, why: str = "nobody waits for it") -> None:
        """End the drawing, from any thread; what waits for it gets a ``BadPicture`` that says why."""
        with self._lock:
            self._stopped = self._stopped or why
            if self._process is not None:
                self._process.kill()

    def _start(self) -> subprocess.Popen[bytes]:
        limits = self._limits
        # All pages together have no more pixels than one picture may.
        pixels = limits.pixels / self._most
        asked = (self._wanted, self._most, pixels, math.ceil(limits.pdf_seconds), limits.pdf_bytes)
        # A process of its own and no fork: this one has threads. It finds the libraries and no more of this one's
        # environment.
        return subprocess.Popen(
            [sys.executable, "-P", "-S", str(Path(draw_pages.__file__)), *map(str, asked)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )

    def _read(self, pipe: IO[bytes]) -> Iterator[tuple[int, Image.Image]]:
        left = 2 * self._limits.pixels
        for _ in range(self._most + 1):
            kind, number, width, height = draw_pages.HEAD.unpack(_exactly(pipe, draw_pages.HEAD.size))
            if kind == draw_pages.END:
                return
            if kind == draw_pages.REFUSAL:
                raise BadPicture(_exactly(pipe, min(width, _MOST_WORDS)).decode(errors="replace"))
            left -= width * height
            if left < 0:
                break
            yield number, Image.frombytes("RGB", (width, height), _exactly(pipe, 3 * width * height))
        raise EOFError  # It says more than it was asked for: PDFium was made to do what it should not.


def _send(pipe: IO[bytes], content: bytes) -> None:
    try:
        pipe.write(content)
        pipe.close()
    except BrokenPipeError:
        raise EOFError from None


def _close(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        with contextlib.suppress(BrokenPipeError):  # What it had not read yet is lost with it.
            pipe.close()


def _exactly(pipe: IO[bytes], count: int) -> bytes:
    found = pipe.read(count)
    if len(found) < count:
        raise EOFError
    return found


def _broken(limits: PictureLimits) -> str:
    return f"it is a PDF that cannot be drawn, or not with {limits.pdf_bytes // 2**20} MiB of memory"
