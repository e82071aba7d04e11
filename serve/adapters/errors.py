"""Every way in which an adapter's files can be bad, and the registry's own failures.

RegistryError
├── AdapterMissing      nothing is published under that name
├── BadName             it cannot be the name of a model or of an adapter
├── NameTaken           another content has the name
├── NotEarned           it may not answer who asks for the model itself
├── StorageFailed       the files cannot be read or written
└── BadAdapter          what is there cannot be served
    ├── BadManifest     the manifest is no manifest, or one of another adapter
    ├── WrongFiles      the files are not those that the manifest describes
    ├── BadConfig       adapter_config.json is broken, or asks for what cannot be served
    └── BadWeights      adapter_model.safetensors is broken, or does not fit its config
"""

from __future__ import annotations


class RegistryError(Exception):
    """Something is wrong with an adapter or with the registry; the message is one line."""


class AdapterMissing(RegistryError):
    """Nothing is published under that name."""


class BadName(RegistryError):
    """A name that is not one of a model or of an adapter."""


class NameTaken(RegistryError):
    """Another content is published under the name, and it was not to be replaced."""


class NotEarned(RegistryError):
    """An adapter that may not answer requests for the model itself, without a reason that somebody states."""


class StorageFailed(RegistryError):
    """The storage cannot be read or written; trying again may help."""


class BadAdapter(RegistryError):
    """An adapter that cannot be served; trying again without a change does not help."""


class BadManifest(BadAdapter):
    """The manifest cannot be understood, or is one of another adapter."""


class WrongFiles(BadAdapter):
    """A file is missing, is no plain file, or is not the one that the manifest describes."""


class BadConfig(BadAdapter):
    """``adapter_config.json`` is broken, or asks for what cannot be served."""


class BadWeights(BadAdapter):
    """``adapter_model.safetensors`` is broken, or does not fit its config."""
