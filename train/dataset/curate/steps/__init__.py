"""The steps that look at one row at a time."""
