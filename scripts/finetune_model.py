#!/usr/bin/env python
"""Tunes a model by a recipe: ``scripts/finetune_model.py --config configs/train/NAME.yaml``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from train.finetune.command import main

if __name__ == "__main__":
    sys.exit(main())
