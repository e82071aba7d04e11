"""All checks in order, as far as what is installed allows."""

from __future__ import annotations

import sys
from pathlib import Path

from serve.launch.doctor.basics import basics
from serve.launch.doctor.check import Check, summary, table


def examine(config: Path, port: int | None = None) -> list[Check]:
    """Look at this node, and at the config with its HTTP port replaced where ``port`` is given."""
    checks = basics()
    if any(check.state == "fix" for check in checks if check.name in ("Python", "packages")):
        return checks
    # What follows needs installed packages.
    from serve.devices.node import node
    from serve.launch.doctor.group import group_checks
    from serve.launch.doctor.machine import machine
    from serve.launch.group import with_port
    from serve.settings.config import load
    from serve.settings.environment import Environment
    from serve.settings.errors import SettingsError

    group, environment = None, None
    try:
        environment = Environment.as_launched()
        load(config)
        group = with_port(config, port)[1]
        ids = ", ".join(model.id for model in group.models) or "no model"
        checks.append(Check("config", "ok", f"{config}: {ids}"))
    except SettingsError as error:
        what = "environment" if environment is None else "config"
        first, *more = str(error).splitlines()
        checks.append(
            Check(what, "fix", first, "\n".join([*more, "correct it; docs/configuration.md has every key"]))
        )
    checks += machine(node(), group)
    if group is not None and environment is not None:
        checks += group_checks(group, environment)
    return checks


def run(config: Path, port: int | None = None) -> int:
    """Print the table; 0 when nothing has to be fixed, else 1."""
    checks = examine(config, port)
    sys.stdout.write(f"{table(checks)}\n\n{summary(checks)}\n")
    if any(check.name == "packages" and check.state == "fix" for check in checks):
        sys.stdout.write("the rest is looked at once they are installed\n")
    return 1 if any(check.state == "fix" for check in checks) else 0
