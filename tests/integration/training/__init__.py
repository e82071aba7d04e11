"""Tests of training on a Ray of their own, which runs while they do, and no longer."""
