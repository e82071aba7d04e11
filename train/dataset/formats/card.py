"""The card of a data set: a README.md as model hubs read it, with plots beside it.

Keys of the front matter: https://huggingface.co/docs/hub/datasets-cards and
https://huggingface.co/docs/hub/datasets-manual-configuration
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from train.dataset.formats.columns import row_features
from train.dataset.formats.lengths import Lengths
from train.dataset.formats.plots import draw_bars, draw_lengths
from train.dataset.formats.split import SplitName

PLOTS = "plots"

#: What a hub takes for the code of a language (ISO 639-1, or 639-3).
_LANGUAGE = re.compile(r"[a-z]{2,3}")
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_LARGER = ((10_000_000, "1M<n<10M"), (100_000_000, "10M<n<100M"), (1_000_000_000, "100M<n<1B"))


@dataclass(frozen=True, slots=True)
class StepFacts:
    """What one step of the making did.

    Attributes:
        dropped: how many rows it left out, by reason.
    """

    name: str
    kept: int
    changed: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SplitFacts:
    """What is in one split.

    Attributes:
        path: its files, relative to the folder; a pattern where there are several.
        rows: lines of JSONL, or rows of Parquet.
        characters: of what was said, by conversation.
        tokens: by sequence, where it is made of tokens; ``learned`` of them are answers.
    """

    path: str
    rows: int
    characters: Lengths = field(default_factory=Lengths)
    tokens: Lengths | None = None
    learned: int = 0


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What a card tells; nothing of what was said is in it.

    Attributes:
        title: one line.
        splits: by name, in the order in which they are told.
        sources: rows by where they come from.
        languages: rows by language; codes of two or three letters become tags.
        steps: in their order.
        settings: what made it, as JSON knows it.
        fingerprint: of contents and settings.
        notes: sentences on what a reader should know.
        license: its identifier at the hub, where there is one.
        features: the columns (``columns.features_of``); by default those of rows.
    """

    title: str
    splits: Mapping[SplitName, SplitFacts]
    fingerprint: str
    sources: Mapping[str, int] = field(default_factory=dict)
    languages: Mapping[str, int] = field(default_factory=dict)
    steps: Sequence[StepFacts] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    license: str | None = None
    features: Sequence[Mapping[str, Any]] = field(default_factory=row_features)

    @property
    def rows(self) -> int:
        """Of all splits."""
        return sum(split.rows for split in self.splits.values())


def write_card(folder: Path, facts: CardFacts) -> list[Path]:
    """Write ``README.md`` and the plots that it shows into ``folder``; gives what was written.

    The same facts give the same bytes.
    """
    plots = _draw(folder / PLOTS, facts)
    shown = "\n".join(f"![{alt}]({PLOTS}/{path.name})\n" for path, alt in plots)
    parts = [
        f"---\n{_front(facts)}---\n",
        f"# {_line(facts.title)}\n",
        *(f"{_line(note)}\n" for note in facts.notes),
        f"{facts.rows:,} rows. Fingerprint of contents and settings: `{facts.fingerprint}`.\n",
        "## Splits\n",
        _splits(facts.splits),
        _counts("Sources", "source", facts.sources),
        _counts("Languages", "language", facts.languages),
        _steps(facts.steps),
        f"## Plots\n\n{shown}" if plots else "",
        _settings(facts.settings),
    ]
    card = folder / "README.md"
    card.write_text("\n".join(part for part in parts if part), encoding="utf-8")
    return [card, *(path for path, _ in plots)]


def _front(facts: CardFacts) -> str:
    limits = [*_SIZES, *_LARGER]
    size = next((name for limit, name in limits if facts.rows < limit), "n>1B")
    files = [{"split": name, "path": split.path} for name, split in facts.splits.items()]
    front: dict[str, Any] = {
        "license": facts.license,
        "language": sorted(code for code in facts.languages if _LANGUAGE.fullmatch(code)) or None,
        "task_categories": ["text-generation"],
        "size_categories": [size],
        "configs": [{"config_name": "default", "data_files": files}],
        "dataset_info": {"features": [dict(feature) for feature in facts.features]},
    }
    kept = {name: value for name, value in front.items() if value is not None}
    return yaml.dump(kept, Dumper=_Plain, sort_keys=False, allow_unicode=True)


class _Plain(yaml.SafeDumper):
    """Writes what comes twice twice, without references."""

    def ignore_aliases(self, data: object) -> bool:
        """No object is referred to."""
        return True


def _splits(splits: Mapping[SplitName, SplitFacts]) -> str:
    text = _table(
        ("split", "rows", "characters of a conversation: mean", "median", "95 %", "longest"),
        [
            (name, split.rows, round(split.characters.mean), *_percentiles(split.characters))
            for name, split in splits.items()
        ],
    )
    tokens = [(name, split.tokens, split.learned) for name, split in splits.items() if split.tokens is not None]
    if not tokens:
        return text
    rows = [
        (
            name,
            length.count,
            length.total,
            f"{_share(learned, length.total)} %",
            round(length.mean),
            *_percentiles(length),
        )
        for name, length, learned in tokens
    ]
    header = (
        "split",
        "sequences",
        "tokens",
        "learned from",
        "of a sequence: mean",
        "median",
        "95 %",
        "longest",
    )
    return f"{text}\n{_table(header, rows)}"


def _percentiles(lengths: Lengths) -> tuple[int, int, int]:
    return lengths.percentile(50), lengths.percentile(95), lengths.longest


def _share(part: int, whole: int) -> float:
    return round(100 * part / whole, 1) if whole else 0.0


def _counts(heading: str, name: str, counts: Mapping[str, int]) -> str:
    if not counts:
        return ""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return f"## {heading}\n\n{_table((name, 'rows'), ordered)}"


def _steps(steps: Sequence[StepFacts]) -> str:
    if not steps:
        return ""
    rows = [
        (step.name, step.kept, step.changed, sum(step.dropped.values()), _reasons(step.dropped)) for step in steps
    ]
    return f"## Steps\n\n{_table(('step', 'kept', 'changed', 'dropped', 'why'), rows)}"


def _reasons(dropped: Mapping[str, int]) -> str:
    ordered = sorted(dropped.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{reason} {count:,}" for reason, count in ordered if count)


def _settings(settings: Mapping[str, Any]) -> str:
    if not settings:
        return ""
    text = yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True, width=1000)
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"## Settings\n\n{fence}yaml\n{text}{fence}\n"


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *([_cell(value) for value in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else _line(str(value)).replace("|", "\\|")


def _line(text: str) -> str:
    return " ".join(text.split())


def _draw(folder: Path, facts: CardFacts) -> list[tuple[Path, str]]:
    """The plots that there are numbers for, each with what it shows."""
    characters, tokens = Lengths(), Lengths()
    for split in facts.splits.values():
        characters.merge(split.characters)
        tokens.merge(split.tokens or Lengths())
    drops = Counter[str]()
    for step in facts.steps:
        drops.update({f"{step.name}: {reason}": count for reason, count in step.dropped.items() if count})
    folder.mkdir(exist_ok=True)
    drawn = []
    for name, lengths, title, unit in (
        ("lengths", characters, "Length of a conversation", "characters"),
        ("tokens", tokens, "Length of a sequence", "tokens"),
    ):
        if lengths.count:
            drawn.append((folder / f"{name}.svg", title))
            draw_lengths(drawn[-1][0], title, lengths.doublings(), unit)
    for name, counts, title in (
        ("languages", facts.languages, "Languages"),
        ("drops", drops, "What was left out, and why"),
    ):
        if counts:
            drawn.append((folder / f"{name}.svg", title))
            draw_bars(drawn[-1][0], title, counts, "rows")
    return drawn
