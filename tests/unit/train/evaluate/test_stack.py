"""The training side: as many sequences at once as memory is meant for, and the same answers whatever that is."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.finetuning import tiny_checkpoint
from tests.peft import save, tensors
from train.dataset.formats import Chat, Encoded
from train.evaluate import stack as module
from train.evaluate.stack import Stack, batches
from train.worker.weights import WeightKind

QUERIES = {f"model.layers.{number}.self_attn.q_proj": (64, 64) for number in range(2)}
FLOATS = WeightKind("float32")
QUANTIZED = WeightKind("float32", quantized=True)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("made") / "a", tensors(QUERIES, size=0.5))


def made(base: Path, adapter: Path, kind: WeightKind = FLOATS) -> Stack:
    return Stack(base, adapter, Chat.load(str(base)), 4, kind)


def sequences(*lengths: int) -> list[Encoded]:
    return [
        Encoded(
            "", [(7 * place + number) % 200 for place in range(length)], [place > 0 for place in range(length)], 1
        )
        for number, length in enumerate(lengths)
    ]


@given(st.lists(st.integers(1, 50), max_size=40).map(sorted), st.integers(1, 8), st.integers(1, 120))
def test_a_batch_has_no_more_sequences_and_tokens_than_it_may_and_none_is_left_out(
    lengths: list[int], most: int, tokens: int
) -> None:
    found = list(batches(range(len(lengths)), lengths, most, tokens))
    assert [number for batch in found for number in batch] == list(range(len(lengths)))
    for batch in found:
        assert 1 <= len(batch) <= most
        assert len(batch) == 1 or len(batch) * max(lengths[number] for number in batch) <= tokens


def test_long_sequences_are_scored_fewer_at_once_and_as_before(
    base: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = sequences(5, 60, 9, 60, 3)
    together = made(base, adapter).score(asked, tuned=True)
    sizes: list[int] = []
    # Of the logits of 64 tokens there is room.
    monkeypatch.setattr(module, "LOGITS_BYTES", 64 * 4 * len(Chat.load(str(base)).tokenizer))
    monkeypatch.setattr(module, "_PLACES_AT_ONCE", 7)
    apart = made(base, adapter).score(asked, tuned=True, progress=sizes.append)
    assert sizes == [3, 1, 1]
    for one, other in zip(together, apart, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)
    assert [len(one.logprobs) for one in apart] == [4, 59, 8, 59, 2]


def test_without_the_adapter_it_is_the_base(base: Path, adapter: Path) -> None:
    stack, asked = made(base, adapter), sequences(12)
    [plain], [tuned] = stack.score(asked, tuned=False), stack.score(asked, tuned=True)
    assert plain.logprobs != pytest.approx(tuned.logprobs, abs=1e-3)
    nothing = save(adapter.parent / "nothing", tensors(QUERIES, size=0.0))
    [alone] = made(base, nothing).score(asked, tuned=True)
    assert plain.logprobs == pytest.approx(alone.logprobs, abs=1e-5)


def test_an_adapter_over_4_bits_is_scored_and_answers(base: Path, adapter: Path) -> None:
    pytest.importorskip("bitsandbytes")
    stack, asked = made(base, adapter, QUANTIZED), sequences(12, 20)
    floats = made(base, adapter)
    for tuned in (False, True):
        [one, _], [other, _] = stack.score(asked, tuned=tuned), floats.score(asked, tuned=tuned)
        # The weights are others, and nearly the same.
        assert one.logprobs != other.logprobs
        assert one.logprobs == pytest.approx(other.logprobs, abs=0.5)
    [plain], [changed] = stack.score(asked[:1], tuned=False), stack.score(asked[:1], tuned=True)
    assert plain.logprobs != pytest.approx(changed.logprobs, abs=1e-3)
    assert len(stack.write(["Hi"], 3, tuned=True)[0].ids) >= 1
