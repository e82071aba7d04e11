"""How models are asked to translate, by their family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from serve.handlers.translation.languages import Language
from serve.handlers.translation.scripts import script_counts, scripts_of
from serve.protocol.requests import split_model
from serve.protocol.translation import Pair
from serve.settings.translation import Family, TranslationUserConfig

Json = dict[str, Any]

#: Scripts of which one letter says what takes others several.
_SAY_MUCH = frozenset({"Han", "Kana", "Hangul"})
#: Scripts of which a tokenizer takes several letters together.
_WELL_KNOWN = frozenset({"Latin", "Cyrillic", "Arabic"})
#: Hosted models refuse requests for more.
_MOST_TOKENS = 8192


@dataclass(frozen=True, slots=True)
class Task:
    """What a model is asked to do with one piece of text.

    Attributes:
        text: with marks for what is kept.
        marks: those.
        before, after: what stands around it, for the model to know and not to translate.
        terms, examples: those that bear on this piece.
        wrong: what was wrong with the answer before, in words; none at the first time.
        room: how many times as much as is usual the answer may take.
    """

    text: str
    source: Language
    target: Language
    marks: tuple[str, ...] = ()
    before: str = ""
    after: str = ""
    terms: tuple[Pair, ...] = ()
    examples: tuple[Pair, ...] = ()
    domains: str | None = None
    wrong: tuple[str, ...] = ()
    room: int = 1


def family_of(model: str, behaviour: TranslationUserConfig) -> Family:
    """The family of a model: what the settings say, else what its id tells."""
    id, _ = split_model(model)
    if id in behaviour.families:
        return behaviour.families[id]
    name = id.lower()
    return "qwen-mt" if "qwen-mt" in name else "qwen" if "qwen" in name else "chat"


def request(family: Family, model: str, task: Task) -> Json:
    """The body of the chat completion that asks for ``task``."""
    if family == "qwen-mt":
        return {"model": model, "messages": [_user(task.text)], "translation_options": _options(task)}
    return {
        "model": model,
        "messages": _messages(task, examples_as_turns=family == "qwen"),
        "temperature": 0,
        "max_tokens": token_limit(task),
        "reasoning_effort": "none",
    }


def prompt_text(task: Task) -> str:
    """Everything that a model is told and asked, in whichever form its family wants it."""
    return "\n".join(message["content"] for message in _messages(task, examples_as_turns=False))


def token_limit(task: Task) -> int:
    """Tokens that a translation may take: scripts that a tokenizer hardly knows take three for a letter, and what a
    letter of Chinese says takes most scripts several letters."""
    scripts = scripts_of(task.target.code)
    counts = script_counts(task.text)
    dense = 0 if _SAY_MUCH & scripts else sum(counts[script] for script in _SAY_MUCH)
    usual = 64 + 3 * len(task.text)
    wanted = 64 + (1 if scripts <= _WELL_KNOWN else 3) * (len(task.text) + 4 * dense)
    return max(usual, min(_MOST_TOKENS, task.room * max(usual, wanted)))


def _messages(task: Task, *, examples_as_turns: bool) -> list[Json]:
    """What is wished in a system message, and the bare text: small models translate whatever stands beside it."""
    source, target = task.source.name, task.target.name
    lines = [f"Translate the following text from {source} to {target}. Reply with the translation only."]
    if task.domains:
        lines.append(f"About the text: {task.domains}")
    if task.marks:
        lines.append(f"Keep {', '.join(task.marks)} exactly as written, each once, where it belongs.")
    if task.terms:
        pairs = "; ".join(f'"{term.source}" is "{term.target}"' for term in task.terms)
        lines.append(f"Use these words: {pairs}.")
    if task.wrong:
        lines.append("An earlier translation was wrong: " + " ".join(task.wrong))
    if task.before:
        lines.append(f'Before it stands, not to be translated: "{task.before}"')
    if task.after:
        lines.append(f'After it stands, not to be translated: "{task.after}"')
    if task.examples and not examples_as_turns:
        shown = "\n".join(f"{pair.source} => {pair.target}" for pair in task.examples)
        lines.append(f"Earlier translations of like sentences:\n{shown}")
    turns: list[Json] = []
    for pair in task.examples if examples_as_turns else ():
        turns += [_user(pair.source), {"role": "assistant", "content": pair.target}]
    return [{"role": "system", "content": "\n".join(lines)}, *turns, _user(task.text)]


def _options(task: Task) -> Json:
    """``translation_options`` as Qwen-MT has them."""
    options: Json = {"source_lang": task.source.name, "target_lang": task.target.name}
    if task.terms:
        options["terms"] = [pair.model_dump() for pair in task.terms]
    if task.examples:
        options["tm_list"] = [pair.model_dump() for pair in task.examples]
    if task.domains:
        options["domains"] = task.domains
    return options


def _user(text: str) -> Json:
    return {"role": "user", "content": text}
