"""Shingles, sketches, bands, groups."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.train.dataset.duplicates.samples import edited, prose
from train.dataset.duplicates.candidates import neighbours, unpacked
from train.dataset.duplicates.components import Groups
from train.dataset.duplicates.exact import repeats
from train.dataset.duplicates.settings import DuplicateSettings
from train.dataset.duplicates.sketches import band_width, jaccard, similarity, sketch
from train.dataset.duplicates.text import ngrams, word_hashes

PAIRS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=60)


def test_punctuation_and_case_make_no_other_words() -> None:
    assert word_hashes("Hello, WORLD!").tolist() == word_hashes("hello world").tolist()
    assert word_hashes("naïve Café").tolist() == word_hashes("NAÏVE café").tolist()
    assert len(word_hashes("我爱 you รัก")) == 2 + 1 + 3


@given(st.text())
def test_any_text_has_at_least_one_word(text: str) -> None:
    assert len(word_hashes(text)) >= 1


def test_estimates_are_near_the_true_similarity() -> None:
    given_settings = DuplicateSettings(permutations=256)
    text = prose(1, 300)
    sets = [ngrams(word_hashes(edited(text, edits)), 3) for edits in range(0, 60, 2)]
    codes = sketch(sets, given_settings)
    estimates = similarity(np.repeat(codes[:1], len(codes), axis=0), codes)
    errors = estimates - [jaccard(sets[0], one) for one in sets]
    assert np.abs(errors).max() < 0.12
    assert abs(errors.mean()) < 0.04


def test_a_sketch_does_not_depend_on_what_is_sketched_with_it() -> None:
    sets = [ngrams(word_hashes(prose(seed)), 3) for seed in range(5)]
    together = sketch(sets, DuplicateSettings())
    assert all(
        (sketch([one], DuplicateSettings())[0] == codes).all() for one, codes in zip(sets, together, strict=True)
    )


@pytest.mark.parametrize(("threshold", "permutations", "width"), [(0.7, 128, 5), (0.8, 128, 7), (0.9, 256, 15)])
def test_bands_are_as_wide_as_recall_allows(threshold: float, permutations: int, width: int) -> None:
    given_settings = DuplicateSettings(threshold=threshold, permutations=permutations)
    assert band_width(given_settings) == width
    bands = permutations // width
    assert 1 - (1 - threshold**width) ** bands >= 0.97


@given(st.lists(st.integers(0, 5), max_size=40))
def test_repeats_are_all_but_the_first_of_a_key(keys: list[int]) -> None:
    rows = np.arange(100, 100 + len(keys))
    both = np.array([[key, key % 2] for key in keys], dtype=np.uint64).reshape(-1, 2)
    expected = {(100 + keys.index(key), 100 + place) for place, key in enumerate(keys) if keys.index(key) != place}
    assert {tuple(pair) for pair in repeats(both, rows).tolist()} == expected


@given(st.lists(st.integers(0, 3), max_size=16))
def test_in_a_band_that_is_not_crowded_every_pair_is_a_candidate(keys: list[int]) -> None:
    both = np.array([[key << 32, key] for key in keys], dtype=np.uint64).reshape(-1, 2)
    found = unpacked(neighbours(both, np.arange(len(keys)), 5)).tolist()
    places = range(len(keys))
    assert found == [[one, other] for one in places for other in places if one < other and keys[one] == keys[other]]


@given(PAIRS)
@settings(deadline=None)
def test_groups_are_the_connected_components_in_whatever_order_pairs_come(pairs: list[tuple[int, int]]) -> None:
    table = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    groups = Groups(table)
    again = Groups(np.random.default_rng(1).permutation(table)[:, ::-1])
    assert groups.rows.tolist() == again.rows.tolist()
    assert groups.roots.tolist() == again.roots.tolist()
    of = {row: {row} for row in groups.rows.tolist()}
    for one, other in pairs:
        merged = of[one] | of[other]
        for row in merged:
            of[row] = merged
    assert [int(groups.rows[root]) for root in groups.roots] == [min(of[row]) for row in groups.rows.tolist()]
