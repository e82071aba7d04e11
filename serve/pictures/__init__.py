"""Pictures of requests: where they come from, and what makes them safe to decode.

``fetch`` gets them from https addresses without reaching into the group's own network, ``decode`` turns files into
upright RGB pictures, ``resize`` makes of these what a model sees, ``sources`` does it for whatever a request names a
picture by. ``room`` bounds what is held of all requests together.
"""

from serve.pictures.decode import BadPicture

__all__ = ["BadPicture"]
