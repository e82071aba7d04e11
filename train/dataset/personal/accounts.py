"""Payment cards and bank accounts, by their check digits."""

from __future__ import annotations

import re
from collections.abc import Iterator

from stdnum import iban, luhn

from train.dataset.personal.spans import Span, stands_alone, whole_number

#: Digits in the groups in which they are printed on cards, or without any: 4-4-4-4(-3), 4-6-5, 4-6-4.
_CARD = re.compile(
    r"[2-6][0-9]{3}([ -]?)(?:(?:[0-9]{4}\1){2}[0-9]{4}(?P<more>\1[0-9]{3})?|[0-9]{6}\1[0-9]{4,5})(?![0-9])"
)
#: First digits and lengths of Visa, Mastercard, American Express, Diners Club, Discover, JCB, UnionPay and Mir:
#: https://en.wikipedia.org/wiki/Payment_card_number#Issuer_identification_number_(IIN)
_ISSUERS = re.compile(
    r"4\d{15}|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}|3(?:0[0-5]|[689]\d)\d{11}"
    r"|6(?:011|5\d\d|4[4-9]\d)\d{12}|35(?:2[89]|[3-8]\d)\d{12}|62\d{14}(?:\d{3})?|220[0-4]\d{12}"
)
_IBAN = re.compile(r"[A-Za-z]{2}[0-9]{2}(?:[ -]?[A-Za-z0-9]){11,30}")


def cards(text: str, start: int, end: int) -> Iterator[Span]:
    """Card numbers: an issuer's first digits and length, and the check digit of ISO/IEC 7812 (Luhn)."""
    for found in _CARD.finditer(text, start, end):
        stops = [found.end()] if found["more"] is None else [found.end(), found.start("more")]
        for stop in stops:
            digits = re.sub("[ -]", "", text[found.start() : stop])
            if not whole_number(text, found.start(), stop):
                continue
            if _ISSUERS.fullmatch(digits) and luhn.is_valid(digits):
                yield Span(found.start(), stop, "card", digits)
                break


def ibans(text: str, start: int, end: int) -> Iterator[Span]:
    """International bank account numbers: the form of the country, and the check digits of ISO 13616 (mod 97)."""
    done = start
    while (found := _IBAN.search(text, done, end)) is not None:
        done = found.start() + 1
        # Words that follow look like more of it: the longest part that is valid is the number.
        for stop in range(found.end(), found.start() + 14, -1):
            if stands_alone(text, found.start(), stop) and iban.is_valid(text[found.start() : stop]):
                yield Span(found.start(), stop, "iban", iban.compact(text[found.start() : stop]))
                done = stop
                break
