"""Samples, mixtures and caps: how many of each, and always the same ones."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.train.dataset.curate.samples import job, many, row, rows_in, write_recipe, write_rows
from train.dataset.curate import curate
from train.dataset.curate.selection import Cap, Mix, Sample, bounds_of
from train.dataset.rows import Row

TOPICS = [{"name": "code", "keywords": ["python"]}, {"name": "sea", "keywords": ["tide", "潮"]}]


def chosen(tmp_path: Path, rows: list[Row], *steps: dict[str, Any], **fields: Any) -> list[Row]:
    """The rows that steps leave."""
    path = write_rows(tmp_path / "rows.jsonl", rows)
    curate(job([path], write_recipe(tmp_path / "recipe.yaml", *steps, **fields), tmp_path / "out"))
    return rows_in(tmp_path / "out")


def test_a_sample_has_the_size_that_is_asked_for(tmp_path: Path) -> None:
    assert len(chosen(tmp_path, many(200), {"step": "sample", "rows": 50})) == 50
    assert len(chosen(tmp_path, many(200), {"step": "sample", "share": 0.1})) == 20
    assert len(chosen(tmp_path, many(20), {"step": "sample", "rows": 50})) == 20


def test_a_sample_depends_on_the_seed_and_not_on_the_order(tmp_path: Path) -> None:
    step = {"step": "sample", "rows": 30}
    first = {one.id for one in chosen(tmp_path, many(100), step)}
    assert {one.id for one in chosen(tmp_path, many(100)[::-1], step)} == first
    assert {one.id for one in chosen(tmp_path, many(100), step, seed=2)} != first


def test_a_smaller_sample_is_part_of_a_larger_one(tmp_path: Path) -> None:
    large = {one.id for one in chosen(tmp_path, many(100), {"step": "sample", "rows": 40})}
    assert {one.id for one in chosen(tmp_path, many(100), {"step": "sample", "rows": 10})} < large


def test_a_mixture_has_the_shares_of_its_weights(tmp_path: Path) -> None:
    rows = many(100) + many(30, "claude") + many(20, "chatgpt")
    left = chosen(tmp_path, rows, {"step": "mix", "by": "source", "weights": {"openai": 3, "claude": 1}})
    assert Counter(one.source for one in left) == {"openai": 90, "claude": 30}


def test_a_cap_by_topic_leaves_the_other_topics_alone(tmp_path: Path) -> None:
    code = [row(f"Explain Python {n}?", f"Python has {n} of them.", id=f"c{n}") for n in range(9)]
    sea = [row(f"tide {n}?", f"The water {n}.", id=f"s{n}") for n in range(5)]
    rest = [row(f"bread {n}?", f"Flour {n}.", id=f"b{n}") for n in range(7)]
    left = chosen(tmp_path, code + sea + rest, {"step": "cap", "groups": {"code": 2, "sea": 3}}, topics=TOPICS)
    assert Counter(one.id[0] for one in left) == {"c": 2, "s": 3, "b": 7}


def test_several_choices_one_after_the_other_add_up(tmp_path: Path) -> None:
    rows = many(60) + many(60, "claude")
    steps: list[dict[str, Any]] = [
        {"step": "cap", "by": "source", "most": 40},
        {"step": "sample", "rows": 10},
        {"step": "branch"},
    ]
    assert len(chosen(tmp_path, rows, *steps)) == 10


def test_a_group_that_is_not_weighted_is_dropped_or_has_the_other_weight() -> None:
    assert Mix(weights={"a": 1}).targets({"a": 5, "b": 9}) == {"a": 5, "b": 0}
    assert Mix(weights={"a": 1}, other=1).targets({"a": 5, "b": 9}) == {"a": 5, "b": 5}
    assert Mix(weights={"x": 1}).targets({"a": 5}) == {"a": 0}


def test_a_group_whose_share_is_next_to_nothing_is_dropped() -> None:
    assert Mix(weights={"a": 1e12, "b": 5e-324}).targets({"a": 5, "b": 9}) == {"a": 5, "b": 0}


groups = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 500), min_size=1)


@given(groups, st.dictionaries(st.sampled_from("abcdef"), st.floats(0.01, 100), min_size=1), st.integers(0, 900))
def test_a_mixture_never_takes_more_than_there_is_and_meets_its_shares(
    available: dict[str, int], weights: dict[str, float], rows: int
) -> None:
    targets = Mix(weights=weights, rows=rows).targets(available)
    assert all(0 <= targets[name] <= count for name, count in available.items())
    total, size = sum(weights.get(name, 0) for name in available), sum(targets.values())
    assert size <= rows
    for name in available:
        assert abs(targets[name] - size * weights.get(name, 0) / (total or 1)) <= 1 + 1e-6


@given(groups, st.integers(0, 400))
def test_a_cap_and_a_sample_take_what_they_say(available: dict[str, int], most: int) -> None:
    assert Cap(by="source", most=most).targets(available) == {name: min(n, most) for name, n in available.items()}
    assert Sample(rows=most).targets({"all": 100}) == {"all": min(100, most)}


@settings(deadline=None)
@given(
    st.lists(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2**64 - 1)), max_size=30), max_size=4),
    st.data(),
)
def test_bounds_are_the_numbers_that_sorting_would_find(
    tmp_path_factory: pytest.TempPathFactory, shards: list[list[tuple[str, int]]], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("bounds")
    surveys = []
    for number, shard in enumerate(shards):
        names = {name: code for code, name in enumerate(dict.fromkeys(name for name, _ in shard))}
        np.save(folder / f"{number:06d}.codes.npy", np.array([names[name] for name, _ in shard], dtype=np.uint32))
        np.save(folder / f"{number:06d}.numbers.npy", np.array([key for _, key in shard], dtype=np.uint64))
        surveys.append({"number": number, "groups": dict.fromkeys(names, 1)})
    by_group = {name: sorted(key for shard in shards for own, key in shard if own == name) for name in "abc"}
    targets = {name: data.draw(st.integers(0, len(keys))) for name, keys in by_group.items()}
    expected = {name: by_group[name][target - 1] for name, target in targets.items() if target}
    assert bounds_of(folder, surveys, targets) == expected
