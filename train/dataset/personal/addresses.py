"""Email addresses, IP addresses, and logins in URLs."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from train.dataset.personal.spans import Span, stands_alone

# Letters of the alphabets that are written with spaces; with others, the words around an address would be taken in.
_LETTERS = r"A-Za-z0-9\u00c0-\u024f\u0370-\u03ff\u0400-\u04ff"
_LOCAL = re.compile(rf"[{_LETTERS}!#$%&'*+/=?^_`{{|}}~.-]{{1,64}}\Z")
_DOMAIN = re.compile(
    rf"(?:[{_LETTERS}](?:[{_LETTERS}-]{{0,61}}[{_LETTERS}])?\.){{1,8}}(?:xn--[A-Za-z0-9-]{{2,59}}|[A-Za-z]{{2,24}}|[\u0400-\u04ff]{{2,10}})"
)
_MOST_LOCAL = 64
#: What a file's name ends in and no address does: ``image@2x.png``.
_FILE_ENDING = re.compile(
    r"(?:\.(?:png|jpe?g|gif|svg|webp|ico|bmp|s?css|less|m?jsx?|tsx|html|json|ya?ml|xml|txt))+\Z", re.IGNORECASE
)

_LOGIN = re.compile(r"://([^\s/?#@:\"'<>{}$]{0,128}):([^\s/?#@\"'<>{}$]{1,256})@")

_V4 = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}")
_VERSION_BEFORE = re.compile(
    r"(?:\b(?:v|ver|version|versions|release|released|build|firmware|kernel|driver|revision|section|chapter|§)"
    r"[ .:=\"'-]{0,3}|[=<>~^]=? ?[\"']?|[A-Za-z][/@-])\Z",
    re.IGNORECASE,
)
_V6_PART = re.compile(r":[0-9A-Fa-f]{0,4}:")
_V6_CHARS = frozenset("0123456789abcdefABCDEF:.")
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
#: Public name servers: whoever writes them means the service, not a person.
_RESOLVERS = frozenset({"8.8.8.8", "8.8.4.4", "1.1.1.1", "1.0.0.1", "9.9.9.9", "208.67.222.222", "208.67.220.220"})
_LOCAL_NETS = tuple(map(ipaddress.IPv4Network, ("0.0.0.0/8", "10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16")))
_LOCAL_NETS += tuple(map(ipaddress.IPv4Network, ("172.16.0.0/12", "192.168.0.0/16", "224.0.0.0/3")))


def emails(text: str) -> Iterator[Span]:
    """Email addresses, international domains included."""
    at = text.find("@")
    while at >= 0:
        found = _email(text, at)
        if found is not None:
            yield found
        at = text.find("@", at + 1)


def _email(text: str, at: int) -> Span | None:
    domain = _DOMAIN.match(text, at + 1)
    local = _LOCAL.search(text, max(at - _MOST_LOCAL, 0), at)
    if domain is None or local is None:
        return None
    # Quotes, slashes and equal signs may stand in an address; nearly always they stand before one.
    name = re.split(r"[^\w.+%-]", local[0])[-1].lstrip(".-%+")
    host = _FILE_ENDING.sub("", domain[0])
    # An SSH remote, git@host:path, names a service.
    is_remote = name == "git" and text[domain.end() : domain.end() + 1] == ":"
    if not name or "." not in host or is_remote:
        return None
    return Span(at - len(name), at + 1 + len(host), "email", f"{name}@{host}".casefold())


def logins(text: str) -> Iterator[Span]:
    """The user and password of URLs that have them."""
    for found in _LOGIN.finditer(text):
        yield Span(found.start(1), found.end(2), "credentials", f"{found[1]}:{found[2]}")


def ips(text: str) -> Iterator[Span]:
    """IP addresses that may lead to a person: not private ones, nor those of public name servers."""
    if text.count(".") >= 3:
        yield from _v4(text)
    if text.count(":") >= 2:
        yield from _v6(text)


def _v4(text: str) -> Iterator[Span]:
    for found in _V4.finditer(text):
        start, end = found.span()
        more = text[end : end + 1] in (".", "-") and text[end + 1 : end + 2].isalnum()
        if more or not stands_alone(text, start, end) or text[max(start - 1, 0) : start] == ".":
            continue
        if _VERSION_BEFORE.search(text, max(start - 16, 0), start):
            continue
        try:
            address = ipaddress.IPv4Address(found[0])
        except ValueError:
            continue
        if found[0] not in _RESOLVERS and not any(address in net for net in _LOCAL_NETS):
            yield Span(start, end, "ip", found[0])


def _v6(text: str) -> Iterator[Span]:
    done = 0
    for found in _V6_PART.finditer(text):
        if found.start() < done:
            continue
        start, end = found.span()
        while start > done and text[start - 1] in _V6_CHARS:
            start -= 1
        while end < len(text) and text[end] in _V6_CHARS:
            end += 1
        done = end
        end = start + len(text[start:end].rstrip(".")) if text[end - 1] == "." else end
        if not stands_alone(text, start, end):
            continue
        try:
            address = ipaddress.IPv6Address(text[start:end])
        except ValueError:
            continue
        if address in _GLOBAL_UNICAST:
            yield Span(start, end, "ip", str(address))
