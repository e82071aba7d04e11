"""``python -m serve.launch up|down|doctor``: what ``scripts/start.sh`` and ``scripts/stop.sh`` run."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

DEFAULT_CONFIG = Path(__file__).resolve().parents[2] / "configs" / "local.yaml"


def main(argv: list[str] | None = None) -> int:
    """Run one command; gives the exit code."""
    options = _parser().parse_args(argv)
    # Each command imports its own: the doctor also works where no package is installed yet.
    if options.command == "doctor":
        from serve.launch.doctor.examine import run as examine

        return examine(options.config, options.port)
    from serve.launch.commands import run

    return run(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m serve.launch", description="Start or stop a group on this machine."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="fetch the models, start Ray, deploy, wait until every model answers")
    up.add_argument("--foreground", action="store_true", help="stay, and stop the group on Ctrl-C")
    doctor = commands.add_parser("doctor", help="look at this node and a config, and say what to fix; starts nothing")
    for command in (up, doctor):
        command.add_argument("config", nargs="?", type=Path, default=DEFAULT_CONFIG, help="a Serve config file")
        command.add_argument("--port", type=int, help="HTTP port, in place of the config's")
    commands.add_parser("down", help="stop the group and the Ray that was started for it")
    return parser


if __name__ == "__main__":
    sys.exit(main())
