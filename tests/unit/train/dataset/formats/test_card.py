"""The card: what a hub reads, what a person reads, and the same bytes each time."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from tests.unit.train.dataset.formats.rows import answer, call, chat, result, row, user
from train.dataset.formats import CardFacts, Fingerprint, Lengths, SplitFacts, StepFacts, write_card


def lengths(*values: int) -> Lengths:
    found = Lengths()
    for value in values:
        found.add(value)
    return found


FACTS = CardFacts(
    title="Chats of two | tools",
    splits={
        "train": SplitFacts("data/train.parquet", 1200, lengths(80, 900), lengths(30, 200), 115),
        "test": SplitFacts("data/test.parquet", 3, lengths(70)),
    },
    fingerprint="f" * 64,
    sources={"chatgpt": 1000, "claude": 203},
    languages={"de": 203, "en": 1000, "unknown": 4},
    steps=(StepFacts("length", 1300, 2, {"too_short": 5, "too_long": 60}), StepFacts("near duplicates", 1203)),
    settings={"steps": [{"step": "length", "longest": 100}], "note": "a ``` fence"},
    notes=("Made from\nexports.",),
    license="apache-2.0",
)


def card(folder: Path, facts: CardFacts = FACTS) -> tuple[dict[str, Any], str]:
    """The front matter and the text."""
    write_card(folder, facts)
    _, front, text = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(front), text


def test_the_front_matter_is_what_a_hub_reads(tmp_path: Path) -> None:
    front, _ = card(tmp_path)
    columns = [column["name"] for column in front.pop("dataset_info")["features"]]
    assert columns == ["id", "source", "created_at", "model", "messages", "tools", "rejected", "provenance"]
    assert front == {
        "license": "apache-2.0",
        "language": ["de", "en"],
        "task_categories": ["text-generation"],
        "size_categories": ["1K<n<10K"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [
                    {"split": "train", "path": "data/train.parquet"},
                    {"split": "test", "path": "data/test.parquet"},
                ],
            }
        ],
    }


def test_the_text_tells_sources_steps_counts_settings_and_the_fingerprint(tmp_path: Path) -> None:
    _, text = card(tmp_path)
    for line in (
        "# Chats of two | tools",
        "Made from exports.",
        "| train | 1,200 | 490 | 80 | 900 | 900 |",
        "| train | 2 | 230 | 50.0 % | 115 | 30 | 200 | 200 |",
        "| chatgpt | 1,000 |",
        "| unknown | 4 |",
        "| length | 1,300 | 2 | 65 | too_long 60, too_short 5 |",
        "f" * 64,
        "````yaml",
    ):
        assert line in text


def test_every_plot_that_is_shown_is_a_whole_svg_and_every_svg_is_shown(tmp_path: Path) -> None:
    _, text = card(tmp_path)
    shown = re.findall(r"\]\((plots/\w+\.svg)\)", text)
    assert shown == [f"plots/{name}.svg" for name in ("lengths", "tokens", "languages", "drops")]
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == sorted(Path(name).name for name in shown)
    for name in shown:
        assert ElementTree.parse(tmp_path / name).getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_the_same_facts_give_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = write_card(tmp_path / "a", FACTS), write_card(tmp_path / "b", FACTS)
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert b"<dc:date>" not in first[1].read_bytes()


def test_a_set_without_numbers_has_a_card_without_plots(tmp_path: Path) -> None:
    bare = CardFacts("Empty", {"train": SplitFacts("data/train.jsonl", 0)}, "0" * 64)
    front, text = card(tmp_path, bare)
    assert front["size_categories"] == ["n<1K"]
    assert "language" not in front and "license" not in front
    assert "## Plots" not in text and "## Steps" not in text


@pytest.mark.parametrize(
    ("rows", "size"), [(999, "n<1K"), (1000, "1K<n<10K"), (2_000_000, "1M<n<10M"), (10**12, "n>1B")]
)
def test_the_size_is_the_hubs_name_for_it(tmp_path: Path, rows: int, size: str) -> None:
    facts = dataclasses.replace(FACTS, splits={"train": SplitFacts("data/train.jsonl", rows)})
    assert card(tmp_path, facts)[0]["size_categories"] == [size]


def test_files_of_rows_are_loaded_by_the_library_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    plain = chat().to_json()
    full = row(
        user("Weather?"),
        answer(tool_calls=[call("f")], reasoning_content="look"),
        result("sunny"),
        answer("Sunny."),
        tools=[{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
        rejected=[answer("Rain.")],
        provenance={"dropped": {"x": 1}},
    )
    (tmp_path / "data").mkdir()
    # More than the library looks at to guess the columns.
    (tmp_path / "data/train.jsonl").write_bytes(plain * (11 * 1024**2 // len(plain)) + full.to_json())
    write_card(tmp_path, CardFacts("Rows", {"train": SplitFacts("data/train.jsonl", 1)}, "0"))
    loaded = datasets.load_dataset(str(tmp_path), cache_dir=str(tmp_path / "cache"))["train"]
    assert loaded[0]["messages"][1]["content"] == "Paris."
    last = loaded[-1]
    assert last["messages"][1]["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}
    assert last["tools"][0]["function"]["parameters"] == {"type": "object"}
    assert last["provenance"] == {"dropped": {"x": 1}}


@pytest.mark.filterwarnings("error")
def test_names_that_a_font_or_a_formula_would_stumble_over_are_drawn(tmp_path: Path) -> None:
    names = {"日本語": 3, "$x^2$": 2, "a" * 500: 1, **{f"language {number}": 1 for number in range(60)}}
    _, text = card(tmp_path, dataclasses.replace(FACTS, languages=names))
    assert "| 日本語 | 3 |" in text
    assert ElementTree.parse(tmp_path / "plots" / "languages.svg")


def test_the_fingerprint_knows_contents_counts_and_settings_and_no_order() -> None:
    def of(*pieces: bytes, **settings: object) -> str:
        found = Fingerprint()
        for piece in pieces:
            found.add(piece)
        return found.value(settings)

    assert of(b"a", b"b", x=1, y=2) == of(b"b", b"a", y=2, x=1)
    assert len({of(), of(b"a"), of(b"a", b"a"), of(b"a", b"b"), of(b"ab"), of(b"a", x=1)}) == 6


def test_a_fingerprint_can_be_taken_in_parts() -> None:
    whole, left, right = Fingerprint(), Fingerprint(), Fingerprint()
    for number, piece in enumerate((b"a", b"b", b"c")):
        whole.add(piece)
        (left, right)[number % 2].add(piece)
    left.merge(right)
    assert left.value({}) == whole.value({})
