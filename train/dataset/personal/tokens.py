"""Keys, tokens and passwords: by the marks that their makers give them, and by the names that they are given."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from train.dataset.personal.spans import Span

#: What must be in a text, and then the form of the key. Forms as their makers, and GitHub's and GitLab's lists of
#: secret patterns, document them.
_MARKED: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (mark, re.compile(form))
    for mark, form in (
        ("AKIA", r"AKIA[A-Z0-9]{16}(?![A-Za-z0-9])"),  # AWS
        ("ASIA", r"ASIA[A-Z0-9]{16}(?![A-Za-z0-9])"),
        ("gh", r"gh[opsur]_[A-Za-z0-9]{36,251}"),  # GitHub
        ("github_pat_", r"github_pat_[A-Za-z0-9_]{22,251}"),
        ("glpat-", r"glpat-[A-Za-z0-9_-]{20,64}"),  # GitLab
        (
            "sk-",
            r"(?<![A-Za-z0-9])sk-(?=[A-Za-z0-9_-]*[0-9])(?=[A-Za-z0-9_-]*[A-Z])[A-Za-z0-9_-]{20,200}",
        ),  # OpenAI and others
        ("sk-", r"(?<![A-Za-z0-9])sk-[a-f0-9]{32,64}(?![A-Za-z0-9])"),
        ("xox", r"xox[abeoprs]-[A-Za-z0-9-]{10,250}"),  # Slack
        ("xapp-", r"xapp-[A-Za-z0-9-]{10,250}"),
        ("hooks.slack.com", r"(?<=hooks\.slack\.com/)(?:services|workflows)/[A-Za-z0-9+/]{20,100}"),
        ("AIza", r"AIza[A-Za-z0-9_-]{35}"),  # Google
        ("ya29.", r"ya29\.[A-Za-z0-9_-]{20,250}"),
        ("k_live_", r"[srp]k_live_[A-Za-z0-9]{16,250}"),  # Stripe
        ("k_test_", r"[srp]k_test_[A-Za-z0-9]{16,250}"),
        ("hf_", r"(?<![A-Za-z0-9_])hf_[A-Za-z]{30,40}(?![A-Za-z0-9_])"),  # Hugging Face
        ("npm_", r"npm_[A-Za-z0-9]{36}(?![A-Za-z0-9_])"),
        ("pypi-AgE", r"pypi-AgE[A-Za-z0-9_-]{50,}"),
        ("SG.", r"SG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{16,64}"),  # SendGrid
        ("dop_v1_", r"dop_v1_[a-f0-9]{64}"),  # DigitalOcean
        (":AA", r"(?<![0-9])[0-9]{8,10}:AA[A-Za-z0-9_-]{33}(?![A-Za-z0-9_-])"),  # Telegram
        ("eyJ", r"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"),  # JSON Web Tokens, RFC 7519
        # PEM, RFC 7468; one that is cut off is as secret.
        (
            "PRIVATE KEY-----",
            r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----(?:(?!-----BEGIN )[\s\S]){0,20000}?"
            r"-----END (?:[A-Z0-9]+ )*PRIVATE KEY-----"
            r"|-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----[A-Za-z0-9+/=\s\\:,-]{0,20000}",
        ),
    )
)
#: The same by a character that is in the mark and not in every text; none has to be looked for more than once.
_BY_CHAR = {char: [one for one in _MARKED if next(filter(one[0].count, "_-"), "") == char] for char in ("_", "-", "")}
#: RFC 6750 and RFC 7617, in the headers of requests.
_BEARER = re.compile(r"\bbearer[ \t]+([A-Za-z0-9._~+/-]{16,4000}=*)", re.IGNORECASE)
_BASIC = re.compile(
    r"authorization[\"']?\s{0,3}[:=]\s{0,3}[\"']?basic[ \t]+([A-Za-z0-9+/]{8,1000}={0,2})", re.IGNORECASE
)

#: Words that name something secret; "key" only behind one of ``_KEY_OF``, since most keys open nothing.
_PASSWORDS = ("pass", "pwd", "contraseña", "пароль", "密码", "密碼", "パスワード", "비밀번호")
_KEYS = ("key", "secret", "token")
_KEY_OF = re.compile(
    r"(?:api|access|secret|private|auth|client|account|encryption|signing|license|shared|master)[_\-. ]?\Z"
)
_PASSWORD_GOES_ON = re.compile(r"word|wd|wort|phrase")
#: What may follow the word until the name ends, what stands between the name and the value, and the value.
_REST = r"(?:word|wd|wort|phrase|e)?s?(?:[_\-][\w\-]{1,24})?"
_GIVEN = r"[ \t]{0,3}(?P<quote>[\"'`]?)(?P<value>[^\s\"'`,;<>(){}\[\]。]{6,300})(?P=quote)"
_KEY_GIVEN = re.compile(rf"{_REST}[\"'`]?[ \t]{{0,3}}(?::=|=>|[:=]){_GIVEN}", re.IGNORECASE)
_PASSWORD_GIVEN = re.compile(rf"{_REST}[\"'`]?[ \t]{{0,3}}(?::=|=>|[:=]|\bis\b|是){_GIVEN}", re.IGNORECASE)
_NAME_ENDS = re.compile(rf"{_REST}\Z", re.IGNORECASE)
#: Marks of templates and examples.
_DUMMY = re.compile(
    r"your|example|xxx|\*\*\*|\.\.\.|change.?me|placeholder|dummy|redacted|environ|getenv|\$|%\(|\[[A-Z]+_",
    re.IGNORECASE,
)
_LETTER_AND_DIGIT = re.compile(r"[^\W\d_][0-9]|[0-9][^\W\d_]")
#: More than letters of one size, behind a first one of any: a digit, a mark, or a capital.
_MIXED = re.compile(r"[^\W_]*[0-9]|[^\w.-]|[a-z][A-Z]|[A-Z]{2}[a-z]")
#: Attributes, calls of modules, paths: ``os.environ``, ``a/b/c``.
_EXPRESSION = re.compile(r"[.:/=]\w+[.:/=]|\w\.\w+\.?\w*$")
_LEAST_KEY = 16
_LEAST_PASSWORD = 6
_LEAST_CHANGES = 3


def tokens(text: str) -> Iterator[Span]:
    """Everything of a text that is a key, a token or a password."""
    for char, forms in _BY_CHAR.items():
        for mark, form in forms if char in text else ():
            if mark in text:
                for found in form.finditer(text):
                    yield Span(*found.span(), "secret", found[0])
    lower = text.lower()
    if "bearer" in lower:
        yield from _headers(_BEARER, text)
    if "authorization" in lower:
        yield from _headers(_BASIC, text)
    yield from _named(text, lower)


def is_secret(name: str, value: str) -> bool:
    """Whether the value of a field of this name is a key or a password."""
    if any(char.isspace() for char in value):
        return False
    lower = name.lower()
    if any(_NAME_ENDS.match(lower, end) for _, end in _words(lower, _PASSWORDS)):
        return _is_password(value, quoted=True)
    return _is_key(value) and any(_NAME_ENDS.match(lower, end) for _, end in _words(lower, _KEYS))


def _headers(form: re.Pattern[str], text: str) -> Iterator[Span]:
    for found in form.finditer(text):
        if _changes(found[1]) and not _DUMMY.search(found[1]):
            yield Span(*found.span(1), "secret", found[1])


def _named(text: str, lower: str) -> Iterator[Span]:
    """Values of what is named a secret; ``lower`` is the text in small letters."""
    if len(lower) != len(text):
        lower = text  # Few letters change their length; the places would be off.
    for is_password, words, given in ((True, _PASSWORDS, _PASSWORD_GIVEN), (False, _KEYS, _KEY_GIVEN)):
        for _, end in _words(lower, words):
            found = given.match(text, end)
            if found is None:
                continue
            quoted = bool(found["quote"])
            value = found["value"] if quoted else found["value"].rstrip(".?:")
            if _is_password(value, quoted=quoted) if is_password else _is_key(value):
                start = found.start("value")
                yield Span(start, start + len(value), "secret", value)


def _words(lower: str, words: Iterable[str]) -> Iterator[tuple[int, int]]:
    """Where the words are."""
    for word in words:
        start = lower.find(word)
        while start >= 0:
            end = start + len(word)
            if _stands_for_itself(lower, word, start, end):
                yield start, end
            start = lower.find(word, end)


def _stands_for_itself(lower: str, word: str, start: int, end: int) -> bool:
    """Whether the word is none that is only part of another: a key of a table, a compass."""
    if word == "key":
        return _KEY_OF.search(lower, max(start - 12, 0), start) is not None
    if word == "pass":
        return not lower[max(start - 1, 0) : start].isalpha() or _PASSWORD_GOES_ON.match(lower, end) is not None
    return True


def _is_key(value: str) -> bool:
    """Whether it is long and mixes letters and digits as only what is random does."""
    return len(value) >= _LEAST_KEY and _changes(value) >= _LEAST_CHANGES and not _DUMMY.search(value)


def _is_password(value: str, *, quoted: bool) -> bool:
    """Whether it may be one: no path, no expression, and more than a word."""
    if len(value) < _LEAST_PASSWORD or _DUMMY.search(value):
        return False
    if quoted:
        return _MIXED.search(value) is not None
    return value[0] not in "/~." and _changes(value) > 0 and _EXPRESSION.search(value) is None


def _changes(value: str) -> int:
    """How often a letter stands beside a digit."""
    return len(_LETTER_AND_DIGIT.findall(value))
