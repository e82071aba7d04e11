"""Tests on a real group that runs while they do, and no longer."""
