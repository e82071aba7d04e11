"""Migrations by hand: ``python -m serve.store upgrade|downgrade|current|revision --url URL``."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from alembic.util import CommandError
from sqlalchemy.exc import OperationalError

from serve.store import engine as engines
from serve.store import migrate


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        url = engines.parse(options.url)
        if options.command == "upgrade":
            migrate.upgrade(url, options.revision)
        elif options.command == "downgrade":
            migrate.downgrade(url, options.revision)
        elif options.command == "current":
            sys.stdout.write(f"{migrate.current(url) or 'base'}\n")
        else:
            migrate.draft(url, options.message)
    except (ValueError, CommandError, OperationalError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m serve.store", description="Migrate the database.")
    commands = parser.add_subparsers(dest="command", required=True)
    upgrade = commands.add_parser("upgrade", help="bring the schema up to date")
    upgrade.add_argument("revision", nargs="?", default="head")
    downgrade = commands.add_parser("downgrade", help="take the schema back; what newer tables hold is lost")
    downgrade.add_argument("revision", help="such as 0001, or base for an empty database")
    current = commands.add_parser("current", help="print the schema's revision")
    revision = commands.add_parser("revision", help="draft a migration from the tables in the code")
    revision.add_argument("message", help="what it does, in a few words")
    for command in (upgrade, downgrade, current, revision):
        command.add_argument("--url", required=True, help="the database")
    return parser


if __name__ == "__main__":
    sys.exit(main())
