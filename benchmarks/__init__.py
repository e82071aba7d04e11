"""The group measured against its rivals, in one run on one machine; ``scripts/benchmark.py`` runs it."""
