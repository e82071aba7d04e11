#!/usr/bin/env python
"""Curates chats into a set to learn from: ``scripts/curate_dataset.py INPUT... --out DIR``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from train.dataset.curate.command import main

if __name__ == "__main__":
    sys.exit(main())
