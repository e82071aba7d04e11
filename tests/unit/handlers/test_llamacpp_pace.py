"""How many prompt tokens may join a step."""

from __future__ import annotations

from serve.handlers.llamacpp.pace import SMALLEST_CHUNK, TILE, Pace


def paced(tiled: float = 0, small: float = 0) -> Pace:
    """After a step with a tile of rows and one with less, at so many tokens a second."""
    pace = Pace()
    if small:
        pace.add(32, 32, 32 / small)
    if tiled:
        pace.add(128, 128, 128 / tiled)
    return pace


def test_prompts_take_as_many_tokens_as_fit_into_the_pause() -> None:
    assert paced(800).limit(256, pause=0.2) == 160


def test_prompts_never_take_more_than_the_largest_chunk() -> None:
    assert paced(100_000).limit(256, pause=0.2) == 256
    assert paced(100_000, 100_000).limit(32, pause=0.2) == 32
    assert paced(200, 20).limit(32, pause=0.2) == 32


def test_prompts_get_on_however_slow_the_machine_is() -> None:
    assert paced(5).limit(256, pause=0.001) == SMALLEST_CHUNK
    assert paced(5, 5).limit(256, pause=0.001) == SMALLEST_CHUNK


def test_before_the_speed_of_a_tile_is_known_prompts_take_a_tile() -> None:
    assert Pace().limit(256, pause=0.2) == TILE
    assert Pace().limit(32, pause=0.2) == 32


def test_what_few_rows_did_says_nothing_about_a_tile() -> None:
    assert paced(small=500).limit(256, pause=0.2) == TILE
    assert paced(small=5).limit(256, pause=0.2) == TILE


def test_a_tile_is_taken_where_fewer_rows_would_take_as_long() -> None:
    # A tile takes 0.32 s, and 16 rows by themselves 0.4 s.
    assert paced(200, 40).limit(256, pause=0.2) == TILE


def test_fewer_rows_are_taken_where_a_tile_takes_longer() -> None:
    # A tile takes 0.64 s, and 16 rows 0.2 s.
    assert paced(100, 80).limit(256, pause=0.2) == SMALLEST_CHUNK
    # 40 fit into the pause, and a tile does not.
    assert paced(300, 200).limit(256, pause=0.2) == 40


def test_all_steps_count_for_the_speed_that_is_told() -> None:
    pace = paced(400, 100)
    assert 100 < pace.per_second < 400
    assert Pace().per_second == 0
    # Too few tokens to say anything about it.
    pace = Pace()
    pace.add(4, 68, 1.0)
    assert pace.per_second == 0
