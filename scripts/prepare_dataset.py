#!/usr/bin/env python
"""Turns rows into what a trainer eats: ``scripts/prepare_dataset.py INPUT... --model NAME --out DIR``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from train.dataset.formats.command import main

if __name__ == "__main__":
    sys.exit(main())
