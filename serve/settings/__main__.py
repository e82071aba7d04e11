"""``python -m serve.settings CONFIG``: check a config file; one line for each fault, and exit code 1."""

from __future__ import annotations

import argparse
import sys

from serve.residency.group import group_memory
from serve.residency.limit import node_limit
from serve.settings.config import load
from serve.settings.environment import Environment
from serve.settings.errors import SettingsError


def main(argv: list[str] | None = None) -> int:
    """Check the files named on the command line; 0 when all are right."""
    options = _parser().parse_args(argv)
    code = 0
    for path in options.config:
        try:
            _check(path, memory=options.memory, elsewhere=options.elsewhere)
        except SettingsError as error:
            sys.stderr.write(f"{error}\n")
            code = 1
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m serve.settings", description="Check Serve config files.")
    parser.add_argument("config", nargs="+", help="a Serve config file, such as configs/local.yaml")
    parser.add_argument("--memory", action="store_true", help="print what each model needs of this node's memory")
    parser.add_argument(
        "--elsewhere", action="store_true", help="the group runs on other nodes: do not hold it to this one's memory"
    )
    return parser


def _check(path: str, *, memory: bool, elsewhere: bool) -> None:
    """Check one file and say what was found.

    Raises:
        SettingsError: it has faults, or the group does not fit here.
    """
    group = load(path)
    found = group_memory(group, node_limit(Environment.read()))
    short = not (found.fits or elsewhere)
    if memory or short:
        sys.stdout.write(f"{found.table()}\n")
    if short:
        try:
            found.require_fit()
        except SettingsError as error:
            raise SettingsError(f"{path}: {error}") from error
    members = ", ".join([*(one.id for one in group.models), *(one.id for one in group.tasks)]) or "no model"
    sys.stdout.write(f"{path}: right; {members}\n")


if __name__ == "__main__":
    sys.exit(main())
