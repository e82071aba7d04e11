"""One choice's way from token bytes to deltas."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from serve.handlers.llamacpp.output import Output, OutputForm
from serve.protocol.events import Delta, FinishReason, TokenLogprob

CALL = b'<tool_call>{"name": "f", "arguments": {}}</tool_call>'


def said(form: OutputForm, *pieces: bytes, end: FinishReason = "stop") -> list[Delta]:
    """The deltas of an output of these tokens, which ends with an end token if nothing ends it before."""
    output = Output(0, form)
    deltas = []
    for piece in pieces:
        deltas.append(output.feed(piece))
        if output.finished:
            break
    else:
        deltas.append(output.feed(b"", end=end))
    return [delta for delta in deltas if delta]


def text_of(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas)


def token(text: str) -> TokenLogprob:
    return TokenLogprob(text, -1.0, text.encode())


def test_the_last_delta_alone_has_the_reason() -> None:
    deltas = said(OutputForm(), b"one", b" two", end="length")
    assert [delta.finish_reason for delta in deltas] == [None, None, "length"]


def test_a_character_of_several_tokens_comes_whole() -> None:
    raw = "🙂é".encode()
    deltas = said(OutputForm(), *(raw[place : place + 1] for place in range(len(raw))))
    assert [delta.text for delta in deltas if delta.text] == ["🙂", "é"]


def test_a_character_that_is_cut_off_is_dropped() -> None:
    assert text_of(said(OutputForm(), b"ok", "é".encode()[:1], end="length")) == "ok"


def test_bytes_that_are_no_text_become_replacement_characters() -> None:
    assert text_of(said(OutputForm(), b"a\xff", b"b")) == "a\N{REPLACEMENT CHARACTER}b"


def test_a_stop_string_ends_the_output() -> None:
    deltas = said(OutputForm(stop=("\n\n",)), b"one\n", b"\ntwo", b"three", end="length")
    assert text_of(deltas) == "one"
    assert deltas[-1].finish_reason == "stop"


def test_the_beginning_of_a_stop_string_is_text_when_nothing_follows() -> None:
    assert text_of(said(OutputForm(stop=("\n\n",)), b"one\n")) == "one\n"


def test_reasoning_goes_its_own_way() -> None:
    deltas = said(OutputForm(reasoning="before"), b"<think>hm", b"</think>", b"\n\nyes")
    assert "".join(delta.reasoning for delta in deltas) == "hm"
    assert text_of(deltas) == "yes"


def test_a_call_changes_the_reason() -> None:
    deltas = said(OutputForm(tools={"f"}), b"well ", CALL)
    assert text_of(deltas) == "well"
    assert [call.name for delta in deltas for call in delta.tool_calls] == ["f"]
    assert deltas[-1].finish_reason == "tool_calls"


def test_a_call_and_then_the_limit_is_still_the_limit() -> None:
    assert said(OutputForm(tools={"f"}), CALL, end="length")[-1].finish_reason == "length"


def test_one_call_ends_the_output_when_one_is_wanted() -> None:
    deltas = said(OutputForm(tools={"f"}, one_call=True), b"a" + CALL + b"b", b"never", end="length")
    assert text_of(deltas) == "a"
    assert deltas[-1].finish_reason == "tool_calls"
    assert len(deltas) == 1


def test_calls_stay_text_where_there_are_no_tools() -> None:
    assert text_of(said(OutputForm(), CALL)) == CALL.decode()


def test_logprobs_come_with_the_text_of_their_tokens() -> None:
    output = Output(0, OutputForm(logprobs=True))
    first = output.feed(b"one", token("one"))
    assert first is not None
    assert first.logprobs == (token("one"),)


def test_logprobs_wait_for_a_whole_character() -> None:
    output = Output(0, OutputForm(logprobs=True))
    raw = "é".encode()
    assert output.feed(raw[:1], token("half")) is None
    whole = output.feed(raw[1:], token("rest"))
    assert whole is not None
    assert whole.logprobs == (token("half"), token("rest"))


def test_logprobs_of_a_stop_string_are_not_shown() -> None:
    output = Output(0, OutputForm(logprobs=True, stop=("END",)))
    shown = [output.feed(text.encode(), token(text)) for text in ("one", " E", "ND")]
    found = [entry.token for delta in shown if delta for entry in delta.logprobs or ()]
    assert found == ["one", " E"]  # " E" begins with a space that is shown


def test_every_logprob_is_shown_at_the_end() -> None:
    output = Output(0, OutputForm(logprobs=True, stop=("END",)))
    deltas = [output.feed(b"E", token("E")), output.feed(b"N", token("N"), end="length")]
    assert [delta.logprobs for delta in deltas if delta] == [(token("E"), token("N"))]


def test_without_logprobs_there_is_no_list() -> None:
    assert said(OutputForm(), b"one")[0].logprobs is None


@given(st.text(max_size=20), st.data())
def test_any_cutting_of_the_bytes_gives_the_same_text(text: str, data: st.DataObject) -> None:
    raw = text.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    pieces = [raw[start:end] for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    assert text_of(said(OutputForm(), *pieces)) == text
