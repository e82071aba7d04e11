"""What can go wrong in a benchmark."""


class BenchmarkError(Exception):
    """A benchmark cannot go on; the message says why and what to do."""
