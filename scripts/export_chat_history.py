#!/usr/bin/env python
"""Turns chat exports into rows to learn from: ``scripts/export_chat_history.py INPUT... --out FILE.jsonl``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from train.dataset.exports.command import main

if __name__ == "__main__":
    sys.exit(main())
