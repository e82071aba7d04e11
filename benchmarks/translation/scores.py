"""What translations are worth: chrF++ and BLEU against references, and the share of form that is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sacrebleu.metrics import BLEU, CHRF

from benchmarks.report import table
from benchmarks.translation.sets import Case, Sentence

Translated = Sequence[tuple[Sentence, str]]
Kept = Sequence[tuple[Case, str]]

#: sacrebleu's tokenizers for BLEU of languages without spaces; the others take its default, 13a.
_TOKENIZERS = {"zh": "zh", "ja": "char"}


@dataclass
class Found:
    """Every translation of each side."""

    sentences: dict[str, Translated] = field(default_factory=dict)
    cases: dict[str, Kept] = field(default_factory=dict)

    def data(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "sentences": [
                {"side": side, "target": one.target, "source": one.text, "reference": one.reference, "text": text}
                for side, found in self.sentences.items()
                for one, text in found
            ],
            "cases": [
                {"side": side, "format": one.format, "source": one.text, "text": text, "lost": one.lost(text)}
                for side, found in self.cases.items()
                for one, text in found
            ],
        }


def chrf(found: Translated) -> float:
    """chrF++ of a set, 0 to 100."""
    return float(
        CHRF(word_order=2).corpus_score([text for _, text in found], [[one.reference for one, _ in found]]).score
    )


def bleu(found: Translated) -> float:
    """BLEU of a set in one language, 0 to 100."""
    tokenizer = _TOKENIZERS.get(found[0][0].target, "13a")
    scorer = BLEU(tokenize=tokenizer, effective_order=True)
    return float(scorer.corpus_score([text for _, text in found], [[one.reference for one, _ in found]]).score)


def kept_share(found: Kept) -> float:
    """The part of all things to be kept that are."""
    wanted = sum(len(case.kept) for case, _ in found)
    return 1 - sum(len(case.lost(text)) for case, text in found) / wanted


def intact(found: Kept) -> int:
    """Cases with everything in its place."""
    return sum(case.intact(text) for case, text in found)


def markdown(facts: Mapping[str, str], found: Found) -> str:
    """The report."""
    task, plain = found.sentences["task"], found.sentences["plain"]
    targets = list(dict.fromkeys(one.target for one, _ in task))
    rows = [_row(code, _of(task, code), _of(plain, code)) for code in targets]
    means = [sum(chrf(_of(side, code)) for code in targets) / len(targets) for side in (task, plain)]
    ours, its = found.cases["task"], found.cases["plain"]
    total = len(ours)
    bars = [
        [
            "chrF++, mean of the languages",
            f"{means[0]:.1f}",
            f"{means[1]:.1f}",
            "not lower",
            _met(means[0] >= means[1]),
        ],
        [
            "placeholders, tags and marks kept",
            f"{kept_share(ours):.1%}",
            f"{kept_share(its):.1%}",
            "100 %",
            _met(kept_share(ours) == 1),
        ],
        [f"texts intact, of {total}", str(intact(ours)), str(intact(its)), "all", _met(intact(ours) == total)],
    ]
    lines = [f"- {name}: {value}" for name, value in facts.items()]
    languages = table(["language", "chrF++ task", "plain", "BLEU task", "plain"], rows)
    summary = table(["what", "task", "plain", "bar", "verdict"], bars)
    return "\n".join(["## Translation", "", *lines, "", *summary, "", *languages, ""])


def _row(code: str, task: Translated, plain: Translated) -> list[str]:
    return [code, f"{chrf(task):.1f}", f"{chrf(plain):.1f}", f"{bleu(task):.1f}", f"{bleu(plain):.1f}"]


def _of(found: Translated, code: str) -> Translated:
    return [(one, text) for one, text in found if one.target == code]


def _met(holds: bool) -> str:
    return "met" if holds else "missed"
