"""What the llama.cpp benchmark runs, and which bars it holds the group to."""

from __future__ import annotations

from benchmarks.llamacpp import CONTEXT, CPP, DISTURBED, PYTHON, SLOTS, STREAMS, bar_rows, model_args
from benchmarks.rounds import GROUP, Point
from benchmarks.streams import StreamSample
from serve.settings.engines import LlamaCppEngine
from serve.settings.model import ModelSettings


def sample(tokens_per_second: float, first_token: float = 10.0) -> StreamSample:
    return StreamSample(1, tokens_per_second, first_token, 1.0, 2.0)


def test_the_model_has_a_slot_for_every_stream_and_room_for_the_long_prompt() -> None:
    engine = ModelSettings.model_validate(model_args()).engine
    assert isinstance(engine, LlamaCppEngine)
    assert (engine.slots, engine.context) == (SLOTS, CONTEXT)
    assert max(STREAMS) <= SLOTS and DISTURBED.long_prompt < CONTEXT


def test_each_rival_has_its_bar_and_the_disturbed_load_has_none() -> None:
    ours, theirs = [sample(95.0)], [sample(100.0)]
    rows = bar_rows(
        {
            Point(8): {GROUP: ours, CPP: theirs, PYTHON: [sample(20.0)]},
            DISTURBED: {GROUP: ours, CPP: theirs},
        }
    )
    assert [(row[0], row[-1]) for row in rows] == [
        (f"tokens/s over {CPP}, 8 streams", "met"),
        (f"first token over {CPP}, 8 streams", "met"),
        (f"tokens/s over {PYTHON}, 8 streams", "met"),
    ]


def test_the_group_alone_has_no_bars() -> None:
    assert bar_rows({Point(1): {GROUP: [sample(1.0)]}}) == []
