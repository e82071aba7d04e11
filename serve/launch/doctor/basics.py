"""What there must be before any package is installed. Imports nothing but Python's own library."""

from __future__ import annotations

import platform
import re
import shutil
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from serve.launch.doctor.check import Check

PROJECT = Path(__file__).resolve().parents[3] / "pyproject.toml"

_NAME = re.compile(r"[A-Za-z0-9._-]+")
_SYSTEM = re.compile(r"platform_system == '(\w+)'")


def basics() -> list[Check]:
    """Python, compiler, packages."""
    missing = missing_packages(PROJECT)
    return [python(sys.version_info[:3]), compiler(llama_missing="llama-cpp-python" in missing), packages(missing)]


def python(found: tuple[int, int, int]) -> Check:
    """Whether this Python is one that the group runs on."""
    text = f"{'.'.join(map(str, found))}, {sys.executable}"
    if (3, 11) <= found[:2] < (3, 14):
        return Check("Python", "ok", text)
    return Check(
        "Python",
        "fix",
        f"{text}; 3.11, 3.12 or 3.13 is needed",
        "rm -r .venv, and name a Python: PYTHON=/usr/bin/python3.12 scripts/start.sh",
    )


def compiler(*, llama_missing: bool) -> Check:
    """Whether llama.cpp can be built; it is built once, when packages are installed."""
    absent = [name for name in ("cc", "c++") if shutil.which(name) is None]
    if not absent:
        return Check("compiler", "ok", f"{shutil.which('cc')}, {shutil.which('c++')}")
    return Check(
        "compiler",
        "fix" if llama_missing else "warn",
        f"no {' and no '.join(absent)}, which building llama.cpp needs",
        "Debian: apt-get install build-essential; macOS: xcode-select --install",
    )


def packages(missing: list[str]) -> Check:
    """Whether everything is installed."""
    if not missing:
        return Check("packages", "ok", "installed")
    return Check(
        "packages", "fix", f"not installed: {', '.join(missing)}", "scripts/setup.sh installs them into .venv"
    )


def missing_packages(project: Path) -> list[str]:
    """The dependencies in a ``pyproject.toml`` that are not installed for this Python."""
    return [name for name in map(_name_here, _needed(project)) if name is not None and not _installed(name)]


def _needed(project: Path) -> list[str]:
    needed: list[str] = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["dependencies"]
    return needed


def _name_here(requirement: str) -> str | None:
    """The package's name; none where it is for another system."""
    system = _SYSTEM.search(requirement)
    name = _NAME.match(requirement)
    assert name is not None, requirement
    return name[0] if system is None or system[1] == platform.system() else None


def _installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True
