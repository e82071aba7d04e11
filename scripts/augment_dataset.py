#!/usr/bin/env python
"""Makes more rows by a model: ``scripts/augment_dataset.py INPUT... --kind paraphrase --model NAME --out FILE``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from train.dataset.augment.command import main

if __name__ == "__main__":
    sys.exit(main())
