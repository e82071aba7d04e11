"""How the engine measures its own speed."""

from __future__ import annotations

from serve.handlers.rate import WINDOW, Rate, Speed


def test_a_rate_is_the_average_over_the_window() -> None:
    rate = Rate()
    for second in range(WINDOW):
        rate.add(20, second)
    assert rate.per_second(WINDOW - 1) == 20


def test_a_rate_forgets_what_is_older_than_the_window() -> None:
    rate = Rate()
    rate.add(1000, 0)
    assert rate.per_second(WINDOW + 1) == 0


def test_the_first_measurement_is_the_speed() -> None:
    speed = Speed()
    speed.add(100, 0.5)
    assert speed.per_second == 200


def test_later_measurements_move_the_speed_a_little() -> None:
    speed = Speed()
    speed.add(100, 0.5)
    speed.add(100, 0.25)
    assert 200 < speed.per_second < 240


def test_a_slower_step_moves_the_speed_more_than_a_quicker_one_moves_it_back() -> None:
    speed = Speed()
    speed.add(100, 0.1)
    speed.add(100, 0.4)
    assert speed.per_second == 400
    speed.add(100, 0.1)
    assert speed.per_second < 500


def test_steps_with_hardly_any_prompt_say_nothing_about_the_speed() -> None:
    speed = Speed()
    speed.add(1, 0.5)
    speed.add(0, 0.5)
    assert speed.per_second == 0
