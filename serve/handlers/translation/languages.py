"""The 92 languages of Qwen-MT, found by name, code, BCP-47 tag or ISO 639-3 in any case.

Names and codes are those that Qwen-MT takes (https://help.aliyun.com/en/model-studio/machine-translation); ISO 639-3
codes and the labels of the detector are beside them in ``languages.tsv``.
"""

from __future__ import annotations

import csv
import unicodedata
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import resources
from typing import Any

from serve.errors import InvalidRequest

Json = dict[str, Any]

AUTO = "auto"
_NEAREST = 3


@dataclass(frozen=True, slots=True)
class Language:
    """A language that can be translated.

    Attributes:
        code: Qwen-MT's code. name: Qwen-MT's English name.
        iso3: its ISO 639-3 code; Traditional Chinese has a script after it.
        detected: labels of the detector (fastText's lid.176) that mean it.
        aliases: other names and tags, in lower case.
    """

    code: str
    name: str
    iso3: str
    detected: tuple[str, ...]
    aliases: tuple[str, ...]

    def body(self) -> Json:
        """As ``/v1/languages`` lists it."""
        return {
            "id": self.code,
            "object": "language",
            "name": self.name,
            "iso_639_3": self.iso3.partition("-")[0],
            "aliases": list(self.aliases),
        }


@cache
def languages() -> dict[str, Language]:
    """Every language, by code, in Qwen-MT's order."""
    text = resources.files(__package__).joinpath("languages.tsv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
    return {
        row["code"]: Language(row["code"], row["name"], row["iso3"], _split(row["detected"]), _split(row["aliases"]))
        for row in rows
    }


def find_language(given: str, param: str) -> Language:
    """The language called ``given``.

    A BCP-47 tag that is not known as a whole is cut from its end: ``de-AT`` is German, ``zh-Hant-HK`` Traditional
    Chinese.

    Raises:
        InvalidRequest: there is none; names the nearest ones.
    """
    wanted = _key(given)
    while wanted:
        if (found := _by_name().get(wanted)) is not None:
            return found
        wanted = wanted.rpartition("-")[0]
    close = get_close_matches(_key(given), list(_by_name()), n=8, cutoff=0.55)
    names = list(dict.fromkeys(f"{_by_name()[one].name} ({_by_name()[one].code})" for one in close))[:_NEAREST]
    hint = f"; the nearest are {', '.join(names)}" if names else ""
    raise InvalidRequest(
        f"{param}: unknown language {given[:64]!r}{hint}. GET /v1/languages lists all {len(languages())}.",
        param=param,
        code="unknown_language",
    )


@cache
def _by_name() -> dict[str, Language]:
    """Every name, code and alias as ``_key`` writes it; a code wins over an alias."""
    found: dict[str, Language] = {}
    for names in (
        lambda one: (one.code,),
        lambda one: (one.name, one.iso3),
        lambda one: one.aliases,
    ):
        for language in languages().values():
            for name in names(language):
                found.setdefault(_key(name), language)
    return found


def _key(name: str) -> str:
    """A name in one form: no case, no accents, ``-`` between the parts of a tag, one kind of apostrophe."""
    plain = unicodedata.normalize("NFKD", name.strip().casefold().replace("’", "'").replace("_", "-"))
    return " ".join("".join(char for char in plain if not unicodedata.combining(char)).split())


def _split(text: str) -> tuple[str, ...]:
    return tuple(part for part in text.split(",") if part)
