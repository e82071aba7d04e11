"""API keys from the command line.

    python -m serve.keys create NAME [--scopes inference,conversations] [--requests-per-minute N]
                                     [--tokens-per-minute N] [--expires 30d] [--database URL]
    python -m serve.keys list [--database URL]
    python -m serve.keys revoke ID [--database URL]

``create`` writes the secret alone to standard output, once; everything about the key goes to standard error.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta

from serve.errors import GroupQwenError
from serve.settings.environment import Environment
from serve.settings.errors import SettingsError
from serve.store import Key, Store
from serve.store.records import utc_now

_UNITS = {"h": "hours", "d": "days", "w": "weeks"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        asyncio.run(_run(options))
    except (GroupQwenError, SettingsError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


def expiry(text: str) -> datetime:
    """The time that is ``text`` from now: a number and ``h``, ``d`` or ``w``, such as ``30d``."""
    found = re.fullmatch(r"([1-9][0-9]{0,5})([hdw])", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of hours, days or weeks, such as 30d")
    try:
        return utc_now() + timedelta(**{_UNITS[found[2]]: int(found[1])})
    except OverflowError:
        raise argparse.ArgumentTypeError(f"{text!r} is beyond the calendar") from None


async def _run(options: argparse.Namespace) -> None:
    async with Store(options.database or Environment.read().database_url) as store:
        if options.command == "create":
            await _create(store, options)
        elif options.command == "list":
            for key in await store.keys.list():
                sys.stdout.write(f"{_line(key)}\n")
        else:
            revoked = await store.keys.revoke(options.id)
            sys.stdout.write(f"{_line(revoked)}\n")


async def _create(store: Store, options: argparse.Namespace) -> None:
    new = await store.keys.create(
        options.name,
        options.scopes.split(","),
        options.requests_per_minute,
        options.tokens_per_minute,
        options.expires,
    )
    sys.stderr.write(f"{_line(new.key)}\nThe secret is shown this once:\n")
    sys.stdout.write(f"{new.secret}\n")


def _line(key: Key) -> str:
    """A key's row of the list, parted by tabs."""
    if key.revoked_at is not None:
        state = f"revoked {key.revoked_at:%Y-%m-%d}"
    elif not key.valid(utc_now()):
        state = f"expired {key.expires_at:%Y-%m-%d}"
    else:
        state = "valid" if key.expires_at is None else f"valid until {key.expires_at:%Y-%m-%d %H:%M} UTC"
    limits = (
        f"{key.requests_per_minute or 'any'} requests/min",
        f"{key.tokens_per_minute or 'any'} tokens/min",
    )
    return "\t".join((key.id, f"{key.prefix}...", key.name, ",".join(sorted(key.scopes)), *limits, state))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m serve.keys", description="Make, list and revoke API keys.")
    commands = parser.add_subparsers(dest="command", required=True)
    create = commands.add_parser("create", help="make a key and print its secret, once")
    create.add_argument("name", help="whom or what it is for")
    create.add_argument("--scopes", default="inference,conversations", help="parted by commas")
    create.add_argument("--requests-per-minute", type=int, metavar="N")
    create.add_argument("--tokens-per-minute", type=int, metavar="N")
    create.add_argument("--expires", type=expiry, metavar="TIME", help="such as 12h, 30d or 8w")
    listing = commands.add_parser("list", help="show every key")
    revoke = commands.add_parser("revoke", help="make a key invalid for good")
    revoke.add_argument("id")
    for command in (create, listing, revoke):
        command.add_argument("--database", metavar="URL", help="by default the gateway's own")
    return parser


if __name__ == "__main__":
    sys.exit(main())
