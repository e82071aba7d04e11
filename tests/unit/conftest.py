"""What the unit tests share."""

from hypothesis import settings

# The time that an example takes is never asserted: tests run beside others.
settings.register_profile("unit", deadline=None)
settings.load_profile("unit")
