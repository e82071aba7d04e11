"""Bring a model's verified weights to this node: from disk if they are there, else from the first source that has
them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from serve.models.checkpoint import make_checkpoint, require_libraries
from serve.models.errors import ModelSourceError, SourceFailed, WrongContent, no_source
from serve.models.local import discard
from serve.models.manifest import FileRecord, checked, ready_path, record_of, write_manifest
from serve.models.partial import PartialFile
from serve.models.place import Place, files_in, locked, remove_any, user_path
from serve.models.progress import BarReporter, LogReporter, Reporter, size_text
from serve.models.sources import Download, download_of
from serve.models.sources.hub import HubDownload
from serve.models.space import bytes_here, require_space, require_space_for
from serve.models.wanted import WantedFile, listed, pin_of
from serve.settings.weights import FolderSettings, FolderSource, GgufSource, Source, Weights


def local_path(model_id: str, weights: Weights, *, root: Path | None = None) -> Path:
    """Where the verified weights lie; fetched, with log lines only, when they are not there yet.

    Raises:
        ModelSourceError: no source gave them, or they cannot be kept here.
    """
    return fetch(model_id, weights, progress=False, root=root)


def fetch(model_id: str, weights: Weights, *, progress: bool, root: Path | None = None) -> Path:
    """Where the verified weights lie; fetched when they are not there yet, with a progress bar or quietly.

    Weights whose manifest fits are taken without hashing them again. One process fetches at a time; others wait and
    take what it got. An interrupted fetch is taken up again by the next one.

    Args:
        model_id: the model's id, also the name of its folder.
        weights: the file or the folder, its hashes and its sources.
        progress: write progress to stderr instead of to the log.
        root: folder of all models; the environment's by default.

    Returns:
        The file, the folder, or the folder's ``entry`` where the settings name one.

    Raises:
        ModelSourceError: no source gave them, or they cannot be kept here.
    """
    place = Place.of(model_id, weights.name, root)
    reporter: Reporter = BarReporter(model_id) if progress else LogReporter()
    try:
        path = ready_path(place, weights)
        if path is None:
            with locked(place, lambda: reporter.note(f"another process is fetching {model_id}; waiting")):
                path = ready_path(place, weights) or _Fetch(model_id, weights, place, reporter).run()
    except OSError as failure:
        reason = failure.strerror or str(failure)
        raise ModelSourceError(f"{model_id}: cannot keep files in {place.folder}: {reason}") from failure
    return entry_of(model_id, weights, path)


def fetch_all(
    models: Mapping[str, Weights], *, progress: bool, root: Path | None = None
) -> Iterator[tuple[str, Path | ModelSourceError]]:
    """Fetch several models, one after the other; gives each one's id with where it lies, or with why it failed.

    Raises:
        ModelSourceError: before anything is fetched, when they do not all fit on the disk.
    """
    require_space_for(models, root=root)
    for model_id, weights in models.items():
        try:
            yield model_id, fetch(model_id, weights, progress=progress, root=root)
        except ModelSourceError as failure:
            yield model_id, failure


def ready_entry(model_id: str, weights: Weights, *, root: Path | None = None) -> Path | None:
    """What an engine is to load, when it is here and its manifest fits; none when it is still to be fetched.

    Raises:
        ModelSourceError: the entry is not in the folder.
    """
    path = ready_path(Place.of(model_id, weights.name, root), weights)
    return None if path is None else entry_of(model_id, weights, path)


def entry_of(model_id: str, weights: Weights, path: Path) -> Path:
    """What an engine is to load of the weights at ``path``.

    Raises:
        ModelSourceError: the entry is not in the folder.
    """
    if not isinstance(weights, FolderSettings) or weights.entry is None:
        return path
    if not (path / weights.entry).is_file():
        raise ModelSourceError(f"{model_id}: the entry {weights.entry!r} is not in {path}")
    return path / weights.entry


class _Fetch:
    """One fetch; ``run`` is called with the lock held."""

    def __init__(self, model_id: str, weights: Weights, place: Place, reporter: Reporter) -> None:
        self._model_id = model_id
        self._weights = weights
        self._place = place
        self._reporter = reporter
        self._right: dict[WantedFile, FileRecord] = {}

    def run(self) -> Path:
        """The weights: as they lie on disk if they are right, else from the first source that has them."""
        wanted = listed(self._weights)
        if wanted is not None and (found := self._found(wanted)) is not None:
            return found
        failures: list[tuple[str, str]] = []
        sources: Sequence[Source | FolderSource] = self._weights.sources
        for number, source in enumerate(sources, 1):
            label, take = self._way(source, wanted)
            try:
                return take()
            except SourceFailed as failure:
                failures.append((label, str(failure)))
                if number < len(sources):
                    self._warn(f"{label}: {failure}; trying the next source")
        what = "folder" if isinstance(self._weights, FolderSettings) else "file"
        raise no_source(self._model_id, what, failures)

    def _way(self, source: Source | FolderSource, wanted: list[WantedFile] | None) -> tuple[str, Callable[[], Path]]:
        """A source's name, and what takes the weights from it."""
        if source.path is not None:
            assert wanted is not None, "the settings demand files with a path"
            path = user_path(source.path)
            return str(path), partial(self._in_place, path, wanted)
        if isinstance(source, FolderSource) and source.gguf is not None:
            return source.gguf.file, partial(self._from_gguf, source.gguf, pin_of(source))
        download = download_of(source, self._place)
        if wanted is not None:
            return download.label, partial(self._download_all, download, wanted, None)
        assert isinstance(download, HubDownload) and isinstance(source, FolderSource), "only a hub knows its files"
        return download.label, partial(self._download_listed, download, pin_of(source))

    def _found(self, wanted: Sequence[WantedFile], pin: str | None = None) -> Path | None:
        """The weights, if the right files lie in their place, manifest or not; wrong ones are removed."""
        place = self._place
        if isinstance(self._weights, FolderSettings) and place.path.is_symlink():
            # A folder of the user's, which is not ours to change.
            try:
                return self._in_place(place.path, wanted)
            except SourceFailed as failure:
                self._warn(f"the link {place.path} is removed: {failure}")
                place.path.unlink()
        for file in wanted:
            self._take_from_disk(file)
        return self._keep(wanted, "found on disk", pin) if all(file in self._right for file in wanted) else None

    def _take_from_disk(self, file: WantedFile) -> None:
        path = self._place.file(file)
        for above in reversed(path.relative_to(self._place.folder).parents[:-1]):
            folder = self._place.folder / above
            if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
                self._warn(f"{folder} is removed: it is no folder")
                remove_any(folder)
        if file in self._right or not path.exists():
            return
        self._note(f"checking {path}")
        try:
            self._right[file] = checked(path, file)
        except (WrongContent, IsADirectoryError) as failure:
            self._warn(f"{path} is removed: {failure}")
            remove_any(path)

    def _in_place(self, path: Path, wanted: Sequence[WantedFile]) -> Path:
        """The user's own file or folder, where it lies; it is never changed."""
        records = []
        for file in wanted:
            own = path / file.name
            if not own.is_file():
                raise SourceFailed(f"{_of(file)}there is no such file")
            self._note(f"checking {own}")
            try:
                records.append(checked(own, file))
            except OSError as failure:
                raise SourceFailed(f"{_of(file)}it cannot be read: {failure.strerror}") from failure
            except WrongContent as failure:
                raise WrongContent(f"{_of(file)}{failure}") from failure
        write_manifest(self._place, path, records, f"path {path}")
        return path

    def _from_gguf(self, gguf: GgufSource, pin: str | None) -> Path:
        """A checkpoint, made here from a GGUF file."""
        require_libraries()
        progress = isinstance(self._reporter, BarReporter)
        own = Place(self._place.folder, gguf.name)
        put_there = own.path.exists()
        try:
            file = fetch(self._model_id, gguf, progress=progress, root=self._place.folder.parent)
        except ModelSourceError as failure:
            raise SourceFailed(str(failure).removeprefix(f"{self._model_id}: ")) from failure
        self._note(f"making a {gguf.dtype} checkpoint of {file}")
        records, made_with = make_checkpoint(file, self._place, gguf.dtype, progress=progress)
        source = f"made from {gguf.file} as {gguf.dtype}"
        write_manifest(self._place, self._place.path, records, source, pin=pin, made_with=made_with)
        self._place.discard_download()
        if not put_there:
            with locked(own, lambda: None):
                discard(own)  # It was fetched for this alone.
        return self._place.path

    def _download_listed(self, download: HubDownload, pin: str | None) -> Path:
        """The files that the hub lists."""
        return self._download_all(download, download.listing(self._note), pin)

    def _download_all(self, download: Download, wanted: Sequence[WantedFile], pin: str | None) -> Path:
        """Download and check each file that is not here, and only then say that the weights are."""
        if pin is not None and (found := self._found(wanted, pin)) is not None:
            return found
        for path in (self._place.parts, self._place.origins):
            if path.is_dir() != isinstance(self._weights, FolderSettings):
                remove_any(path)  # From when the weights of this name had the other form.
        missing = [file for file in wanted if file not in self._right]
        total = sum(file.bytes for file in wanted)
        done = total - sum(file.bytes for file in missing)
        here = done + sum(bytes_here(self._place, file) for file in missing)
        extra = download.extra_space(sum(file.bytes for file in missing))
        require_space(self._place.folder, total - here + extra)
        if here < total:
            left = f", {size_text(here)} are here already" if here else ""
            self._note(f"fetching {size_text(total)} from {download.label}{left}")
        self._reporter.begin(here, total)
        try:
            for file in missing:
                source = self._download(download, file, partial(self._moved, done))
                done += file.bytes
        finally:
            self._reporter.end()
        self._note(f"{size_text(total)} fetched and verified")
        return self._keep(wanted, source if len(wanted) == 1 else download.address, pin)

    def _download(self, download: Download, file: WantedFile, moved: Callable[[int], None]) -> str:
        """Download one file, check it, and only then give it its name; gives where it came from."""
        try:
            source = self._complete_part(download, file, moved)
        except WrongContent as failure:
            self._place.discard_part(file)
            raise WrongContent(f"{_of(file)}{failure}") from failure
        except SourceFailed as failure:
            raise SourceFailed(f"{_of(file)}{failure}") from failure
        path = self._place.file(file)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._place.part(file).replace(path)
        self._place.origin(file).unlink(missing_ok=True)
        self._right[file] = record_of(file, path.stat())
        return source

    def _complete_part(self, download: Download, file: WantedFile, moved: Callable[[int], None]) -> str:
        """Bring a part to its full, verified length; gives where it came from."""
        with PartialFile(self._place, file, moved) as part:
            try:
                self._fill(part, download)
            except WrongContent as failure:
                if not part.resumed:
                    raise
                # The bytes of an earlier try may be the wrong ones; this source gets a chance of its own.
                self._warn(f"{_of(file)}the resumed download is not right ({failure}); starting over")
                part.restart()
                self._fill(part, download)
            origin = part.origin()
        return origin.source if origin else download.address

    def _fill(self, part: PartialFile, download: Download) -> None:
        if part.size < part.wanted.bytes:
            download.fill(part, self._note)
        part.finish()

    def _keep(self, wanted: Sequence[WantedFile], source: str, pin: str | None = None) -> Path:
        """Write the manifest of files that are all in their place, once nothing else is."""
        place = self._place
        names = {place.file(file) for file in wanted}
        for path in files_in(place.path):
            if path not in names:
                self._warn(f"{path} is removed: it is not one of the model's files")
                path.unlink()
        write_manifest(place, place.path, [self._right[file] for file in wanted], source, pin=pin)
        place.discard_download()
        return place.path

    def _moved(self, done: int, size: int) -> None:
        self._reporter.at(done + size)

    def _note(self, line: str) -> None:
        self._reporter.note(f"{self._model_id}: {line}")

    def _warn(self, line: str) -> None:
        self._reporter.warn(f"{self._model_id}: {line}")


def _of(file: WantedFile) -> str:
    """The file's name as the beginning of a sentence; nothing where there is only one."""
    return f"{file.name}: " if file.name else ""
