"""Numbers by which states know people, by their form and check digits.

A form with letters or groups that hardly anything else has is taken as it is; plain digits, one in ten of which would
pass their check by chance, only after a word that says what they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from stdnum.be import nn
from stdnum.br import cpf
from stdnum.ca import sin
from stdnum.ch import ssn as ahv
from stdnum.cn import ric
from stdnum.de import idnr
from stdnum.es import dni, nie
from stdnum.fi import hetu
from stdnum.fr import nir
from stdnum.in_ import aadhaar
from stdnum.it import codicefiscale
from stdnum.kr import rrn
from stdnum.nl import bsn
from stdnum.pl import pesel
from stdnum.se import personnummer
from stdnum.us import ssn

from train.dataset.personal.spans import Span, stands_alone, whole_number

_BEFORE = 48


@dataclass(frozen=True, slots=True)
class NationalId:
    """One state's number.

    Attributes:
        form: what it looks like; on its own where it has a form that nothing else has.
        valid: whether its parts and check digits are right.
        bare: its digits without a form; none where there is no other way to write it.
        words: what must stand before the bare digits.
    """

    form: re.Pattern[str] | None
    valid: Callable[[str], bool]
    bare: re.Pattern[str] | None = None
    words: re.Pattern[str] | None = None


def _nino(number: str) -> bool:
    """The letters that a British number may have: HMRC's National Insurance Manual, NIM39110."""
    prefix = number[:2]
    if prefix[0] in "DFIQUV" or prefix[1] in "DFIOQUV":
        return False
    return prefix not in ("BG", "GB", "KN", "NK", "NT", "TN", "ZZ")


def _ric(number: str) -> bool:
    try:
        return ric.is_valid(number)
    except KeyError:  # stdnum 2.2 fails on regions that its table has no counties of.
        return False


def _words(words: str) -> re.Pattern[str]:
    return re.compile(words, re.IGNORECASE)


_NINE, _TEN, _ELEVEN, _TWELVE = (re.compile(f"[0-9]{{{count}}}") for count in (9, 10, 11, 12))

IDS: dict[str, NationalId] = {
    "US": NationalId(
        re.compile(r"[0-9]{3}-[0-9]{2}-[0-9]{4}"),
        ssn.is_valid,
        re.compile(r"[0-9]{3} ?[0-9]{2} ?[0-9]{4}"),
        _words(r"\bssn|social security"),
    ),
    "GB": NationalId(re.compile(r"[A-Z]{2} ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-D]"), _nino),
    "DE": NationalId(
        re.compile(r"[1-9][0-9] [0-9]{3} [0-9]{3} [0-9]{3}"),
        idnr.is_valid,
        _ELEVEN,
        _words(r"steuer.?id|identifikationsnummer|\bidnr|\btin\b|tax id"),
    ),
    "FR": NationalId(
        re.compile(r"[12] ?[0-9]{2} ?[0-9]{2} ?[0-9][0-9AB] ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}"), nir.is_valid
    ),
    "ES": NationalId(re.compile(r"[0-9]{8}-?[A-Z]"), dni.is_valid),
    "ES, foreigners": NationalId(re.compile(r"[XYZ]-?[0-9]{7}-?[A-Z]"), nie.is_valid),
    "NL": NationalId(None, bsn.is_valid, _NINE, _words(r"\bbsn|burgerservice|sofi.?n")),
    "PL": NationalId(None, pesel.is_valid, _ELEVEN, _words(r"pesel")),
    "BR": NationalId(
        re.compile(r"[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}"),
        cpf.is_valid,
        _ELEVEN,
        _words(r"\bcpf|cadastro de pessoa"),
    ),
    "IN": NationalId(
        re.compile(r"[2-9][0-9]{3}([ -])[0-9]{4}\1[0-9]{4}"),
        aadhaar.is_valid,
        _TWELVE,
        _words(r"aa?dh?aa?r|आधार|\buid(?:ai)?\b"),
    ),
    "CN": NationalId(re.compile(r"[1-9][0-9]{16}[0-9Xx]"), _ric),
    "SE": NationalId(re.compile(r"(?:19|20)?[0-9]{6}[-+][0-9]{4}"), personnummer.is_valid),
    "FI": NationalId(re.compile(r"[0-9]{6}[-+A-FU-Y][0-9]{3}[0-9A-Y]"), hetu.is_valid),
    "KR": NationalId(re.compile(r"[0-9]{6}-[1-8][0-9]{6}"), rrn.is_valid),
    "BE": NationalId(
        re.compile(r"[0-9]{2}\.[0-9]{2}\.[0-9]{2}-[0-9]{3}[.-][0-9]{2}"),
        nn.is_valid,
        _ELEVEN,
        _words(r"rijksregister|registre national|numéro national|\bnrn\b|\binsz|\bniss"),
    ),
    "CH": NationalId(re.compile(r"756\.?[0-9]{4}\.?[0-9]{4}\.?[0-9]{2}"), ahv.is_valid),
    "CA": NationalId(
        None,
        sin.is_valid,
        re.compile(r"[0-9]{3}[ -]?[0-9]{3}[ -]?[0-9]{3}"),
        _words(r"\bsin\b|social insurance|assurance sociale|\bnas\b"),
    ),
}
#: Italy's number is more letters than digits, and so is looked for in the whole text.
_ITALIAN = re.compile(r"[A-Z]{6}[0-9LMNP-V]{2}[A-EHLMPR-T][0-9LMNP-V]{2}[A-Z][0-9LMNP-V]{3}[A-Z]")


def national_ids(text: str, start: int, end: int) -> Iterator[Span]:
    """National numbers of a part of the text, Italian ones apart."""
    for country, one in IDS.items():
        for pattern in (one.form, one.bare):
            if pattern is None:
                continue
            for found in pattern.finditer(text, start, end):
                first, last = found.span()
                if not whole_number(text, first, last) or not one.valid(found[0]):
                    continue
                if pattern is one.bare and one.words and not one.words.search(text, max(first - _BEFORE, 0), first):
                    continue
                yield Span(first, last, "national_id", f"{country} {re.sub('[^0-9A-Z]', '', found[0].upper())}")


def italian_ids(text: str) -> Iterator[Span]:
    """Italian tax codes (codice fiscale)."""
    for found in _ITALIAN.finditer(text):
        if stands_alone(text, *found.span()) and codicefiscale.is_valid(found[0]):
            yield Span(*found.span(), "national_id", f"IT {found[0]}")
