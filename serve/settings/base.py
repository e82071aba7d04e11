"""The base of every settings object: frozen, and strict about keys it does not know."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """A typed, immutable piece of configuration; an unknown key or a wrong type is a ``ValidationError``."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)
