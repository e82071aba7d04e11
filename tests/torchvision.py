"""torchvision for tests of pictures, where the package index has its CUDA build only.

That build cannot be imported beside a torch for processors: its compiled operators are missing, and it stops at the
first one that it wants to describe. Declared beforehand, they are described and never called: what prepares pictures
is made of torch's own operators. Each process that imports it needs this, so it is done where Python starts.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

#: torch -> the torchvision that belongs to it.
_FITS = {"2.13": "0.28.0"}

_SITE = r'''
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path


class Declares(MetaPathFinder):
    """Declares torchvision's operators when it is about to be imported."""

    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            declare()


def declare():
    import re

    import torch

    text = (Path(__file__).parent / "torchvision" / "_meta_registrations.py").read_text(encoding="utf-8")
    names = set(re.findall(r'register_meta\("(\w+)"', text)) | set(re.findall(r'"torchvision::(\w+)"', text))
    declare.library = torch.library.Library("torchvision", "FRAGMENT")
    for name in sorted(names):
        declare.library.define(f"{name}(Tensor x) -> Tensor")


sys.meta_path.insert(0, Declares())
'''


def make_importable(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Make torchvision importable in this process and in those that it starts; installs it into ``folder``."""
    if importlib.util.find_spec("torchvision") is not None:
        return
    wanted = _FITS[version("torch").rpartition(".")[0]]
    if not (folder / f"torchvision-{wanted}.dist-info").exists():
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder)]
        subprocess.run([*command, f"torchvision=={wanted}"], check=True, capture_output=True)
    (folder / "sitecustomize.py").write_text(_SITE.lstrip(), encoding="utf-8")
    patch.syspath_prepend(str(folder))
    patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
    spec = importlib.util.spec_from_file_location("torchvision_site", folder / "sitecustomize.py")
    assert spec is not None and spec.loader is not None
    # Kept, because torch forgets declarations when the object that made them is gone.
    sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[spec.name])
