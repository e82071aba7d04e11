"""What is looked for, and what takes its place."""

from __future__ import annotations

from typing import Annotated, Literal, Self, get_args

import phonenumbers
from pydantic import Field, SecretStr, field_validator, model_validator

from serve.settings.base import Settings

Kind = Literal["secret", "credentials", "email", "iban", "card", "national_id", "ip", "phone", "name"]

#: Every kind but names, which need a library that is not installed by default and have a setting of their own.
KINDS: tuple[Kind, ...] = tuple(kind for kind in get_args(Kind) if kind != "name")

#: Where a phone number without a country code may come from.
REGIONS = ("US", "GB", "DE", "FR", "IT", "ES", "IN", "BR", "CN", "JP")

_LEAST_SALT = 16


class PersonalDataSettings(Settings):
    """How personal data is found and replaced.

    Attributes:
        kinds: what is looked for, names apart.
        names: whether people's names are looked for: ``off``, ``auto`` (when Presidio and the model are installed),
            or ``required`` (an error when they are not).
        name_model: the spaCy model that finds names, by its package.
        name_language: the language that the model is for.
        name_score: how sure it must be.
        phone_regions: ISO codes of countries whose numbers are found without a country code.
        placeholder: ``numbered`` counts within a conversation (``[EMAIL_1]``); ``keyed`` gives the same value the
            same placeholder in every conversation (``[EMAIL_kbdmfhcaeo]``), so that who knows the salt can test a
            guess.
        salt: the key of ``keyed``, at least 16 characters, to be kept as a password is.
    """

    kinds: list[Kind] = list(KINDS)
    names: Literal["off", "auto", "required"] = "auto"
    name_model: str = "en_core_web_lg"
    name_language: str = "en"
    name_score: Annotated[float, Field(ge=0, le=1)] = 0.6
    phone_regions: list[str] = list(REGIONS)
    placeholder: Literal["numbered", "keyed"] = "numbered"
    salt: SecretStr | None = None

    @field_validator("kinds")
    @classmethod
    def _no_names(cls, kinds: list[Kind]) -> list[Kind]:
        if "name" in kinds:
            raise ValueError("names have a setting of their own: names: auto or required")
        return kinds

    @field_validator("phone_regions")
    @classmethod
    def _known_regions(cls, regions: list[str]) -> list[str]:
        unknown = sorted(set(regions) - phonenumbers.SUPPORTED_REGIONS)
        if unknown:
            raise ValueError(f"no such region: {', '.join(unknown)}; regions are two capitals, such as DE")
        return regions

    @model_validator(mode="after")
    def _salted(self) -> Self:
        if self.placeholder == "keyed" and len(self.salt.get_secret_value() if self.salt else "") < _LEAST_SALT:
            raise ValueError(f"placeholder: keyed needs a salt of at least {_LEAST_SALT} characters")
        return self
