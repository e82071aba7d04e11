"""``python -m serve.settings CONFIG``: check a config file; one line for each fault, and exit code 1."""

from __future__ import annotations

import argparse
import sys

from serve.settings.config import load
from serve.settings.errors import SettingsError


def main(argv: list[str] | None = None) -> int:
    """Check the files named on the command line; 0 when all are right."""
    parser = argparse.ArgumentParser(prog="python -m serve.settings", description="Check Serve config files.")
    parser.add_argument("config", nargs="+", help="a Serve config file, such as configs/local.yaml")
    code = 0
    for path in parser.parse_args(argv).config:
        try:
            group = load(path)
        except SettingsError as error:
            sys.stderr.write(f"{error}\n")
            code = 1
        else:
            models = ", ".join(model.id for model in group.models) or "no model"
            sys.stdout.write(f"{path}: right; {models}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
