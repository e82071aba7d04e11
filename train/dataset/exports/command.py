"""``scripts/export_chat_history.py``: chat exports, or this group's own store, to one file of rows.

Exit codes: 0 done, 1 failed and nothing written, 2 wrong usage, 3 written, but faults of the input were skipped,
130 interrupted and nothing written.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import orjson
from tqdm import tqdm

from serve.errors import GroupQwenError
from serve.settings.environment import Environment
from serve.settings.errors import SettingsError
from serve.store import engine
from train.dataset.commands import CommandFailed, UsageError, progress_bar, run_command
from train.dataset.disk import whole_file
from train.dataset.exports.files import STDIN, Event, Reading, files_of, read_file
from train.dataset.exports.group import Group
from train.dataset.exports.reader import ReadOptions
from train.dataset.exports.registry import READERS, Readers
from train.dataset.exports.report import Report
from train.dataset.exports.run import ExportStopped, RowFilter, write_rows
from train.dataset.exports.store import read_store

_DESCRIPTION = """Chat exports to one file of rows, one conversation a line, in OpenAI's chat form.

Reads ChatGPT, Claude, Perplexity, Open WebUI, ShareGPT, Alpaca, OpenAI's chat JSONL, and this group's own store.
What a file is, is told by its content. What cannot be read is reported with its place and skipped."""

FEEDBACK = ("good", "bad", "corrected", "any")

_EPILOG = """exit codes: 0 done; 1 failed, nothing written; 2 wrong usage; 3 written, but faults of the input were
skipped; 130 interrupted, nothing written"""


def main(argv: list[str] | None = None) -> int:
    """Run the command; gives the exit code."""
    return run_command(
        _parser(),
        argv,
        _work,
        failures=(GroupQwenError, SettingsError, ValueError),
        interrupted="interrupted; nothing was written",
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/export_chat_history.py",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("inputs", nargs="*", metavar="INPUT", help="export files, or folders of them; - reads stdin")
    parser.add_argument("--out", required=True, metavar="FILE", help="the file of rows; - is standard output")
    parser.add_argument("--strict", action="store_true", help="stop at the first fault and write nothing")
    parser.add_argument("--branches", choices=("last", "all"), default="last", help="what the user saw last, or all")
    parser.add_argument("--source", choices=sorted(READERS), help="read the inputs as this and nothing else")
    parser.add_argument("--since", type=_time, metavar="TIME", help="only what began then or later (ISO 8601, UTC)")
    parser.add_argument("--until", type=_time, metavar="TIME", help="only what began before then")
    parser.add_argument("--model", help="only what this model answered last")
    parser.add_argument(
        "--keep-hidden", action="store_true", help="keep custom instructions (ChatGPT) as system message"
    )
    parser.add_argument("--json", action="store_true", help="the report as JSON on standard output")
    store = parser.add_argument_group("this group's own store")
    store.add_argument("--from-store", action="store_true", help="read the database")
    store.add_argument("--database-url", metavar="URL", help="by default GROUPQWEN_DATABASE_URL, or the SQLite file")
    store.add_argument("--feedback", choices=FEEDBACK, help="only answers with this feedback")
    store.add_argument("--tenant", help="only this tenant's: a key's id, or local")
    return parser


def _time(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a time such as 2026-05-17 or 2026-05-17T12:30:00Z"
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _work(options: argparse.Namespace) -> int:
    _check(options)
    try:
        return _run(options)
    except ExportStopped as stopped:
        raise CommandFailed(f"{stopped}\nnothing was written, because of --strict") from None


def _check(options: argparse.Namespace) -> None:
    if not options.inputs and not options.from_store:
        raise UsageError("name an INPUT, or ask for --from-store")
    for name in ("database_url", "tenant"):
        if getattr(options, name) is not None and not options.from_store:
            raise UsageError(f"--{name.replace('_', '-')} needs --from-store")
    if options.json and options.out == "-":
        raise UsageError("--json and --out - both write to standard output")
    if options.since and options.until and options.since >= options.until:
        raise UsageError("--since is not before --until")
    if options.out != "-" and Path(options.out).is_dir():
        raise UsageError(f"--out {options.out} is a folder")
    for name in options.inputs:
        if name != STDIN and not Path(name).exists():
            raise UsageError(f"there is no file or folder {name}")
        if _same(name, options.out):
            raise UsageError(f"--out {options.out} is an input too, and would be lost")


def _same(name: str, out: str) -> bool:
    return "-" not in (name, out) and Path(out).exists() and Path(out).samefile(name)


def _run(options: argparse.Namespace) -> int:
    report = Report()
    # Listed before the output is begun, which may lie in a folder of inputs, as may that of an earlier run.
    files = [name for name in files_of(options.inputs) if not _same(name, options.out)]
    with _target(options.out) as out, _bar(files) as progress:
        write_rows(
            _events(options, files, report, progress),
            out,
            report,
            wanted=RowFilter(options.since, options.until, options.model),
            strict=options.strict,
            tell=lambda problem: tqdm.write(f"skipped: {problem}", file=sys.stderr),
        )
    sys.stderr.write(f"{report.text()}\n")
    if options.json:
        sys.stdout.write(orjson.dumps(report.body(), option=orjson.OPT_INDENT_2).decode() + "\n")
    return 3 if report.faults else 0


def _events(
    options: argparse.Namespace, files: list[str], report: Report, progress: Callable[[int], None]
) -> Iterator[Event]:
    reading = Reading(
        options=ReadOptions(every_branch=options.branches == "all", keep_hidden=options.keep_hidden),
        readers=Readers(options.source, Group(options.feedback)),
        progress=progress,
    )
    for name in files:
        report.files += 1
        yield from read_file(name, reading)
    if options.from_store:
        yield from read_store(
            _database(options.database_url),
            reading,
            tenant=options.tenant,
            model=options.model,
            since=options.since,
            until=options.until,
        )


def _database(given: str | None) -> str:
    """The URL of the database, which must be there: reading must not make one."""
    url = given or Environment.read().database_url
    file = engine.sqlite_file(engine.parse(url))
    if file is not None and not file.is_file():
        raise UsageError(f"there is no database {file}; name one with --database-url")
    return url


@contextmanager
def _target(name: str) -> Iterator[IO[bytes]]:
    """Where rows go: a file that appears when it is whole, or standard output when all is known to be well."""
    if name != "-":
        with whole_file(Path(name)) as file:
            yield file
        return
    with tempfile.TemporaryFile() as file:
        yield file
        file.seek(0)
        shutil.copyfileobj(file, sys.stdout.buffer)
        sys.stdout.buffer.flush()


def _bar(files: list[str]) -> AbstractContextManager[Callable[[int], None]]:
    """A progress bar: bytes of files, or conversations of the store."""
    sizes = [0 if name == STDIN else os.stat(name).st_size for name in files]
    return progress_bar("read", sum(sizes) or None, "B" if files else " conversations")
