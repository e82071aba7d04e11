"""What is found in a text, and what survives."""

# ruff: noqa: RUF001

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from train.dataset.personal.finder import Finder
from train.dataset.personal.settings import Kind, PersonalDataSettings

FINDER = Finder(PersonalDataSettings(), None)
#: So that no file of this repository has the mark of a private key.
BEGIN, END = "-----BEGIN RSA PRIVATE " + "KEY-----", "-----END RSA PRIVATE " + "KEY-----"


def found(text: str, finder: Finder = FINDER) -> list[tuple[Kind, str]]:
    return [(span.kind, text[span.start : span.end]) for span in finder.find(text)]


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("email", "Write to jane.doe+list@mail.example.co.uk.", "jane.doe+list@mail.example.co.uk"),
        ("email", "<bob@müller.de>", "bob@müller.de"),
        ("email", "иван@почта.рф", "иван@почта.рф"),
        ("email", "email=a_b@x.io&y=1", "a_b@x.io"),
        ("email", "jane＠example.com", "jane＠example.com"),
        ("phone", "Ring +49 30 901820 after six.", "+49 30 901820"),
        ("phone", "Call me at 4155552671", "4155552671"),
        ("phone", "office: (212) 555-1234 or mail", "(212) 555-1234"),
        ("phone", "London 020 7946 0958", "020 7946 0958"),
        ("phone", "tel. 06 12 34 56 78", "06 12 34 56 78"),
        ("card", "paid with 4111 1111 1111 1111 123", "4111 1111 1111 1111"),
        ("card", "amex 378282246310005.", "378282246310005"),
        ("card", "5555-5555-5555-4444", "5555-5555-5555-4444"),
        ("iban", "to DE89 3704 0044 0532 0130 00 please", "DE89 3704 0044 0532 0130 00"),
        ("iban", "GB82WEST12345698765432", "GB82WEST12345698765432"),
        ("iban", "MT84 MALT 0110 0001 2345 MTLC AST0 01S", "MT84 MALT 0110 0001 2345 MTLC AST0 01S"),
        ("national_id", "SSN: 536-22-8726", "536-22-8726"),
        ("national_id", "my social security number is 536228726", "536228726"),
        ("national_id", "NINO AB 12 34 56 C", "AB 12 34 56 C"),
        ("national_id", "Steuer-ID 36574261809", "36574261809"),
        ("national_id", "2 95 10 99 126 111 93", "2 95 10 99 126 111 93"),
        ("national_id", "DNI 54362315K", "54362315K"),
        ("national_id", "NIE X2482300W", "X2482300W"),
        ("national_id", "CF: RCCMNL83S18D969H", "RCCMNL83S18D969H"),
        ("national_id", "BSN 111222333", "111222333"),
        ("national_id", "PESEL 44051401359", "44051401359"),
        ("national_id", "CPF 390.533.447-05", "390.533.447-05"),
        ("national_id", "2341 2341 2346", "2341 2341 2346"),
        ("national_id", "131052-308T", "131052-308T"),
        ("national_id", "880320-0016", "880320-0016"),
        ("ip", "from 81.2.69.142 at noon", "81.2.69.142"),
        ("ip", "http://203.0.113.7/x", "203.0.113.7"),
        ("ip", "host 2001:db8:0:1::7.", "2001:db8:0:1::7"),
        ("credentials", "postgres://app:s3cret@db.example.com/x", "app:s3cret"),
        ("secret", "id AKIAIOSFODNN7ABCDEFG", "AKIAIOSFODNN7ABCDEFG"),
        ("secret", "ghp_" + "a1B2" * 9, "ghp_" + "a1B2" * 9),
        ("secret", "key sk-proj-abcDEF12345678901234_x", "sk-proj-abcDEF12345678901234_x"),
        ("secret", "xoxb-1234567890-abcdef", "xoxb-1234567890-abcdef"),
        ("secret", "Authorization: Bearer abc123DEF456ghi789", "abc123DEF456ghi789"),
        ("secret", "-H 'Authorization: Basic dXNlcjpwYXNzd29yZDE='", "dXNlcjpwYXNzd29yZDE="),
        (
            "secret",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
        ),
        ("secret", 'API_KEY = "a8f5f167f44f4964e6c998dee827110c"', "a8f5f167f44f4964e6c998dee827110c"),
        ("secret", "the password is hunter2", "hunter2"),
        ("secret", "DB_PASSWORD=Tr0ub4dor", "Tr0ub4dor"),
        ("secret", f"{BEGIN}\nMIIB\nAAEC\n{END} ok", f"{BEGIN}\nMIIB\nAAEC\n{END}"),
        ("secret", f"{BEGIN}\nMIIBcut0ff", f"{BEGIN}\nMIIBcut0ff"),
    ],
)
def test_it_is_found(kind: Kind, text: str, value: str) -> None:
    assert found(text) == [(kind, value)]


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("电话13812345678谢谢", "phone", "13812345678"),
        ("我的邮箱是jane@example.com谢谢", "email", "jane@example.com"),
        ("身份证号11010519491231002X已登记", "national_id", "11010519491231002X"),
        ("カード番号は４１１１１１１１１１１１１１１１です", "card", "４１１１１１１１１１１１１１１１"),
        ("اتصل بي على هاتف +٩٦٦ ٥٠ ١٢٣ ٤٥٦٧ غدا", "phone", "+٩٦٦ ٥٠ ١٢٣ ٤٥٦٧"),
        ("הטלפון שלי 054-123-4567, תודה", "phone", "054-123-4567"),
        ("密码是abc12345。", "secret", "abc12345"),
    ],
)
def test_it_is_found_in_every_script(text: str, kind: Kind, value: str) -> None:
    finder = Finder(PersonalDataSettings(phone_regions=["CN", "SA", "IL"]), None)
    assert found(text, finder) == [(kind, value)]


@pytest.mark.parametrize(
    "text",
    [
        "git@github.com:owner/repo.git",
        "see image@2x.png and @types/node@18.2.1",
        "@app.get('/x') def x(): ...",
        "192.168.1.1, 10.0.0.1, 127.0.0.1, 0.0.0.0, 255.255.255.0, 8.8.8.8",
        "foo==1.2.3.4, v1.2.3.4, version 1.2.3.4, Chrome/120.0.0.0, 1.2.3.4.5, pkg@1.2.3.4",
        "std::vector<int> a::b fe80::1 ::1 12:30:45 aa:bb:cc:dd:ee:ff",
        "password=os.environ['X'] token = get_token(1) api_key=api_key pwd = /home/u1/x",
        "tokenizer = Qwen2.5-Coder-0.5B; max_tokens: 4096000; primary_key: customer_id_2024",
        'api_key = "your-api-key-here-123abc456"; password: ${DB_PASSWORD1}',
        'compass: north12abc; bypass=true12; passenger: 12ab34cd; "password": "string"',
        "Bearer authentication is described in RFC 6750",
        "2024-05-06 12:30:45, 06.05.2024, 12/31/2024, 20240506, 2024-05-06T12:30:45.123Z",
        "1,234,567,890 12 345 678 1 234 567 890 3.14159265358979 -1.5e-10 100-200-3000",
        "pages 123-456, 7890-1234; ISBN 978-3-16-148410-0; part 100.200.300",
        "0.4111111111111111 and 41111111111111112 and x4111111111111111",
        "order 1234567890, ticket 987654321, Unix time 1700000000 or 1700000000000",
        "sk-learn-is-a-library-for-machine-learning",
        "[EMAIL_1] and [PHONE_12] and [CARD_kbdmfhcaeo]",
    ],
)
def test_it_survives(text: str) -> None:
    assert found(text) == []


DATES = st.datetimes(datetime(1970, 1, 1), datetime(2037, 12, 31))
ORDINARY = st.one_of(
    st.integers(-(10**12), 10**12).map(str),
    st.integers(0, 10**12).map("{:,}".format),
    st.floats(allow_nan=False, allow_infinity=False).map(str),
    DATES.map(lambda when: when.strftime("%d.%m.%Y")),
    DATES.map(lambda when: when.strftime("%m/%d/%Y %H:%M")),
    DATES.map(lambda when: when.replace(tzinfo=UTC).isoformat()),
    st.uuids().map(str),
    st.binary(min_size=16, max_size=16).map(bytes.hex),
    st.binary(min_size=32, max_size=32).map(bytes.hex),
    st.tuples(*[st.integers(0, 99)] * 3).map(lambda parts: "v" + ".".join(map(str, parts))),
    st.tuples(*[st.integers(0, 255)] * 4).map(lambda parts: "version " + ".".join(map(str, parts))),
    st.tuples(st.integers(0, 99), st.sampled_from("+-*/<>=")).map(lambda parts: f"x[{parts[0]}] {parts[1]}= y"),
)


@given(st.lists(ORDINARY, min_size=1, max_size=4))
@settings(max_examples=400, deadline=None)
def test_ordinary_numbers_dates_hashes_and_versions_survive(parts: list[str]) -> None:
    assert found(f"The values were {', '.join(parts)} in this run.") == []


def test_several_numbers_beside_each_other_and_a_date_are_told_apart() -> None:
    text = "On 2024-05-06 call me at (212) 555-1234, 020 7946 0958 or +49 30 901820, card 4111 1111 1111 1111."
    assert found(text) == [
        ("phone", "(212) 555-1234"),
        ("phone", "020 7946 0958"),
        ("phone", "+49 30 901820"),
        ("card", "4111 1111 1111 1111"),
    ]


@given(st.text(max_size=300))
@settings(max_examples=300, deadline=None)
def test_any_text_can_be_searched_and_findings_lie_inside_and_apart(text: str) -> None:
    spans = FINDER.find(text)
    places = [place for span in spans for place in (span.start, span.end)]
    assert places == sorted(places)
    assert all(0 <= span.start < span.end <= len(text) for span in spans)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "text", ["1" * 200_000, "1 " * 100_000, "a@" * 50_000, ":" * 100_000, "password" * 20_000, "DE89 " * 20_000]
)
def test_hostile_texts_take_no_quadratic_time(text: str) -> None:
    FINDER.find(text)


def test_only_the_kinds_asked_for_are_found() -> None:
    finder = Finder(PersonalDataSettings(kinds=["ip"]), None)
    assert found("a@b.com 81.2.69.142 https://u:p@x.y", finder) == [("ip", "81.2.69.142")]
