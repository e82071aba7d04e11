"""What can go wrong between a config and a group that answers."""


class LaunchError(Exception):
    """The group could not be started or stopped; the message says why and what to do, in one line."""
