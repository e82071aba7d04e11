"""How models are asked to translate, by their family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from serve.handlers.translation.languages import AUTO, Language
from serve.protocol.requests import split_model
from serve.protocol.translation import Pair
from serve.settings.translation import Family, TranslationUserConfig

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Task:
    """What a model is asked to do with one piece of text.

    Attributes:
        text: with marks for what is kept.
        marks: those.
        context: what stands before it, already said or not to be translated.
        terms, examples: those that bear on this piece.
        wrong: what was wrong with the answer before, in words; none at the first time.
    """

    text: str
    source: Language
    target: Language
    marks: tuple[str, ...] = ()
    context: str = ""
    terms: tuple[Pair, ...] = ()
    examples: tuple[Pair, ...] = ()
    domains: str | None = None
    wrong: tuple[str, ...] = ()


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
        "max_tokens": token_limit(task.text),
        "reasoning_effort": "none",
    }


def token_limit(text: str) -> int:
    """Tokens that a translation may take; scripts that a tokenizer hardly knows take three for a letter."""
    return 64 + 3 * len(text)


def _messages(task: Task, *, examples_as_turns: bool) -> list[Json]:
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
    if task.context:
        lines.append(f'Before it stands, not to be translated: "{task.context}"')
    instruction = "\n".join(lines)
    turns: list[Json] = []
    if examples_as_turns:
        plain = f"Translate the following text from {source} to {target}. Reply with the translation only."
        for pair in task.examples:
            turns += [_user(f"{plain}\n\n{pair.source}"), {"role": "assistant", "content": pair.target}]
    elif task.examples:
        shown = "\n".join(f"{pair.source} => {pair.target}" for pair in task.examples)
        instruction += f"\nEarlier translations of like sentences:\n{shown}"
    return [*turns, _user(f"{instruction}\n\n{task.text}")]


def _options(task: Task) -> Json:
    """``translation_options`` as Qwen-MT has them."""
    source = "auto" if task.source.code == AUTO else task.source.name
    options: Json = {"source_lang": source, "target_lang": task.target.name}
    if task.terms:
        options["terms"] = [pair.model_dump() for pair in task.terms]
    if task.examples:
        options["tm_list"] = [pair.model_dump() for pair in task.examples]
    if task.domains:
        options["domains"] = task.domains
    return options


def _user(text: str) -> Json:
    return {"role": "user", "content": text}
