"""The last of a prepared folder: its card, and its manifest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from train.dataset.disk import digest_of
from train.dataset.formats.card import CardFacts, SplitFacts, StepFacts, write_card
from train.dataset.formats.chat import Chat
from train.dataset.formats.columns import FormName, features_of, schema_of
from train.dataset.formats.prepared import VERSION, write_manifest
from train.dataset.formats.split import SplitName
from train.dataset.formats.work import PrepareSettings, Tally

Json = dict[str, Any]

UNENDED = "The template ends no answer with a token of its own: who is trained on this does not learn where to stop."
_NOTES: dict[tuple[FormName, bool], str] = {
    ("tokens", False): (
        "Each row is one or several sequences of tokens (`input_ids`, `seq_lengths`) with what is learned from"
        " (`labels`, -100 elsewhere); attention and positions begin anew with each sequence."
    ),
    ("tokens", True): "Each row is a prompt in tokens with a better and a worse answer.",
    ("text", False): "Each row is a conversation in the text that the model's own template makes of it.",
    ("text", True): "Each row is a prompt in the model's own text with a better and a worse answer.",
    ("chat", False): "Each row is a conversation as messages in OpenAI's form; `tools` is JSON text.",
    ("chat", True): "Each row is a conversation with a better and a worse last answer; `tools` is JSON text.",
}


def finish(
    folder: Path,
    tally: Tally,
    written: Mapping[SplitName, tuple[str, int]],
    settings: PrepareSettings,
    model: str | None,
    chat: Chat | None,
) -> None:
    """Write the card, and last the manifest.

    Args:
        written: by split, the name of its file and its rows.
        model: how the tokenizer was named; ``chat`` is the tokenizer.
    """
    said = settings.model_dump(mode="json")
    if chat is not None and model is not None:
        # A path says where things lie on one machine; what lies there is in the digest.
        said["tokenizer"] = {"name": Path(model).name if Path(model).exists() else model, "digest": chat.digest}
    fingerprint = tally.fingerprint.value(said)
    write_card(
        folder,
        CardFacts(
            title="Conversations to train on",
            splits={split: _split(tally, split, *file) for split, file in written.items()},
            fingerprint=fingerprint,
            sources=tally.sources,
            steps=[StepFacts("prepare", sum(split.rows for split in tally.splits.values()), 0, tally.dropped)],
            settings=said,
            notes=_notes(tally, settings, chat),
            features=features_of(schema_of(settings.form, settings.pairs)),
        ),
    )
    write_manifest(
        folder,
        {
            "version": VERSION,
            "settings": said,
            "fingerprint": fingerprint,
            "read": tally.read,
            "dropped": dict(sorted(tally.dropped.items())),
            "splits": {split: _entry(folder, tally, split, *file) for split, file in written.items()},
        },
    )


def _split(tally: Tally, split: SplitName, name: str, rows: int) -> SplitFacts:
    found = tally.splits[split]
    return SplitFacts(name, rows, found.characters, found.tokens if found.tokens.count else None, found.learned)


def _notes(tally: Tally, settings: PrepareSettings, chat: Chat | None) -> list[str]:
    notes = [_NOTES[settings.form, settings.pairs]]
    if chat is not None and not chat.ends_answers:
        notes.append(UNENDED)
    if made := sum(tally.augmented.values()):
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(tally.augmented.items()))
        notes.append(
            f"A model wrote {made} of the conversations out of others ({kinds}); all of them are in `train`."
        )
    return notes


def _entry(folder: Path, tally: Tally, split: SplitName, name: str, rows: int) -> Json:
    found = tally.splits[split]
    return {
        "file": name,
        "bytes": (folder / name).stat().st_size,
        "sha256": digest_of(folder / name),
        "rows": rows,
        "conversations": found.rows,
        "answers": found.answers,
        "learned_tokens": found.learned,
        "tokens": found.tokens.body(),
        "characters": found.characters.body(),
    }
