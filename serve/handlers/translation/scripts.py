"""Writing systems: which one a text is in, and which languages are written in it."""

from __future__ import annotations

import re
from collections import Counter

#: Script -> ranges of its letters (https://www.unicode.org/Public/UNIDATA/Scripts.txt, the blocks in everyday use).
_RANGES = {
    "Latin": "A-Za-zªºÀ-ÖØ-öø-ʸḀ-ỿ",
    "Cyrillic": "\u0400-\u052f",
    "Greek": "\u0370-\u03ff\u1f00-\u1fff",
    "Armenian": "\u0530-\u058f",
    "Hebrew": "\u0590-\u05ff",
    "Arabic": "\u0600-\u06ff\u0750-\u077f\ufb50-\ufdff\ufe70-\ufeff",
    "Devanagari": "\u0900-\u097f",
    "Bengali": "\u0980-\u09ff",
    "Gujarati": "\u0a80-\u0aff",
    "Odia": "\u0b00-\u0b7f",
    "Tamil": "\u0b80-\u0bff",
    "Telugu": "\u0c00-\u0c7f",
    "Kannada": "\u0c80-\u0cff",
    "Sinhala": "\u0d80-\u0dff",
    "Thai": "\u0e00-\u0e7f",
    "Lao": "\u0e80-\u0eff",
    "Myanmar": "\u1000-\u109f",
    "Georgian": "\u10a0-\u10ff\u1c90-\u1cbf",
    "Hangul": "\u1100-\u11ff\u3130-\u318f\uac00-\ud7af",
    "Khmer": "\u1780-\u17ff",
    "Kana": "\u3040-\u30ff\u31f0-\u31ff",
    "Han": "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff",
}
_PATTERNS = {name: re.compile(f"[{ranges}]") for name, ranges in _RANGES.items()}

#: Scripts of one language.
ONLY = {
    "Greek": "el",
    "Armenian": "hy",
    "Hebrew": "he",
    "Gujarati": "gu",
    "Odia": "or",
    "Tamil": "ta",
    "Telugu": "te",
    "Kannada": "kn",
    "Sinhala": "si",
    "Thai": "th",
    "Lao": "lo",
    "Myanmar": "my",
    "Georgian": "ka",
    "Hangul": "ko",
    "Khmer": "km",
    "Kana": "ja",
}
ARABIC_DIALECTS = ("acm", "ary", "ars", "apc", "ajp", "acq", "aeb")
#: Scripts of several languages -> those; every language that is in none of these lists is written in Latin.
SEVERAL = {
    "Cyrillic": ("ru", "uk", "be", "bg", "mk", "sr", "kk"),
    "Arabic": ("ar", "arz", *ARABIC_DIALECTS, "fa", "ur", "sd"),
    "Devanagari": ("hi", "mr", "ne", "mai"),
    "Bengali": ("bn", "as"),
    "Han": ("zh", "zh_tw", "yue", "ja"),
}
#: Serbian is written in both.
_ALSO_LATIN = ("sr",)
#: Scripts that put no spaces between words, where one letter says more.
DENSE = frozenset({"Han", "Kana", "Hangul", "Thai", "Lao", "Khmer", "Myanmar"})


def script_counts(text: str) -> Counter[str]:
    """How many letters of each script ``text`` has."""
    if text.isascii():
        letters = sum(char.isalpha() for char in text)
        return Counter({"Latin": letters}) if letters else Counter()
    found = {name: len(pattern.findall(text)) for name, pattern in _PATTERNS.items()}
    return Counter({name: count for name, count in found.items() if count})


def main_script(text: str) -> str | None:
    """The script of most letters; Kana where there is much of it among Han, none where there are no letters."""
    counts = script_counts(text)
    if not counts:
        return None
    if counts["Kana"] and counts["Kana"] * 8 >= counts["Han"] and counts["Kana"] + counts["Han"] > counts["Latin"]:
        return "Kana"
    return counts.most_common(1)[0][0]


def scripts_of(code: str) -> frozenset[str]:
    """The scripts that a language is written in."""
    found = {name for name, only in ONLY.items() if only == code}
    found |= {name for name, codes in SEVERAL.items() if code in codes}
    return frozenset(found | {"Latin"} if not found or code in _ALSO_LATIN else found)
