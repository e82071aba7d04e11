"""The training side: a checkpoint with its adapter in the libraries that trained it, to score and to answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train.dataset.formats import IGNORED, Chat, Encoded
from train.memory import LOGITS_BYTES, TOKENS_AT_ONCE
from train.worker.weights import WeightKind, load_to_ask

Progress = Callable[[int], None]

#: Of how many tokens the logits become logprobs at once, in float32.
_PLACES_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Scored:
    """The learned tokens of a sequence.

    Attributes:
        logprobs: of each of them, in nats, in order.
    """

    logprobs: list[float]


@dataclass(frozen=True, slots=True)
class Written:
    """An answer that a model has written.

    Attributes:
        prompt: the tokens that it was given.
        ids: those that it wrote; the last one is the end of the answer where the model ended it, and none is where
            the answer was cut off.
        ended: whether the model ended it.
    """

    prompt: list[int]
    ids: list[int]
    text: str
    ended: bool

    @property
    def said(self) -> list[int]:
        """The tokens of the text."""
        return self.ids[:-1] if self.ended else self.ids

    @property
    def scored(self) -> Encoded:
        """To be scored on exactly what the model wrote."""
        learned = [False] * len(self.prompt) + [True] * len(self.ids)
        return Encoded(self.text, self.prompt + self.ids, learned, 1)


class Stack:
    """A base with an adapter over it, which is switched off for the base's own numbers.

    Args:
        base: the folder of a checkpoint in Hugging Face's layout.
        adapter: a PEFT folder.
        chat: the tokenizer and template of the base.
        batch_size: sequences at once, at most.
        kind: how the base is held: as in training, where this machine can.

    Raises:
        SettingsError, OSError, ValueError: the libraries cannot load them.
    """

    def __init__(self, base: Path, adapter: Path, chat: Chat, batch_size: int, kind: WeightKind) -> None:
        # Heavy, and needed by nothing else of the evaluation.
        import torch
        from peft import PeftModel

        self.chat = chat
        self._batch = batch_size
        model = load_to_ask(base, kind)
        self._device = model.device
        logits = model.config.get_text_config().vocab_size * getattr(torch, kind.dtype).itemsize
        self._scored_at_once = min(TOKENS_AT_ONCE, LOGITS_BYTES // logits)
        # PEFT puts the adapter where the weights are that it changes.
        self._model: Any = PeftModel.from_pretrained(model, str(adapter)).eval()

    def score(
        self, sequences: Sequence[Encoded], *, tuned: bool, progress: Progress = lambda count: None
    ) -> list[Scored]:
        """The logprobs of what is learned in each sequence, in their order."""
        # Of like length, so that little is padding.
        order = sorted(range(len(sequences)), key=lambda number: len(sequences[number].input_ids))
        found: dict[int, Scored] = {}
        with self._as(tuned):
            lengths = [len(one.input_ids) for one in sequences]
            for numbers in batches(order, lengths, self._batch, self._scored_at_once):
                batch = [sequences[number] for number in numbers]
                found.update(zip(numbers, self._scored(batch), strict=True))
                progress(len(batch))
        return [found[number] for number in range(len(sequences))]

    def answer(
        self,
        prompts: Sequence[str],
        max_tokens: int,
        *,
        tuned: bool,
        progress: Progress = lambda count: None,
    ) -> list[str]:
        """The likeliest answer to each prompt, which is text that the template made."""
        return [one.text for one in self.write(prompts, max_tokens, tuned=tuned, progress=progress)]

    def write(
        self,
        prompts: Sequence[str],
        max_tokens: int,
        *,
        tuned: bool,
        progress: Progress = lambda count: None,
    ) -> list[Written]:
        """The likeliest answer to each prompt, with its tokens."""
        encoded = [self.chat.tokens(prompt).ids for prompt in prompts]
        lengths = [len(one) + max_tokens for one in encoded]
        order = sorted(range(len(prompts)), key=lengths.__getitem__)
        found: dict[int, Written] = {}
        with self._as(tuned):
            for numbers in batches(order, lengths, self._batch, TOKENS_AT_ONCE):
                answers = self._answers([encoded[number] for number in numbers], max_tokens)
                found.update(zip(numbers, answers, strict=True))
                progress(len(numbers))
        return [found[number] for number in range(len(prompts))]

    @contextmanager
    def _as(self, tuned: bool) -> Iterator[None]:
        import torch

        with torch.inference_mode(), nullcontext() if tuned else self._model.disable_adapter():
            yield

    def _scored(self, batch: Sequence[Encoded]) -> list[Scored]:
        import torch

        longest = max(len(one.input_ids) for one in batch)
        # After the tokens: what stands there is seen by none of them.
        ids = torch.tensor([one.input_ids + [0] * (longest - len(one.input_ids)) for one in batch])
        labels = torch.tensor([one.labels + [IGNORED] * (longest - len(one.labels)) for one in batch])
        mask = torch.tensor([[1] * len(one.input_ids) + [0] * (longest - len(one.input_ids)) for one in batch])
        logits = self._model(input_ids=ids.to(self._device), attention_mask=mask.to(self._device)).logits
        found = []
        for row, wanted in zip(logits, labels, strict=True):
            places = (wanted[1:] != IGNORED).nonzero().flatten()
            logprobs: list[float] = []
            for some in places.split(_PLACES_AT_ONCE):
                spread = torch.log_softmax(row[some.to(row.device)].float(), dim=-1)
                said = wanted[1:][some].to(row.device)
                logprobs += spread.gather(1, said[:, None]).flatten().tolist()
            found.append(Scored(logprobs))
        return found

    def _answers(self, encoded: Sequence[list[int]], max_tokens: int) -> list[Written]:
        import torch

        longest = max(map(len, encoded))
        # Before the tokens: generation goes on at the end of each row.
        ids = torch.tensor([[0] * (longest - len(one)) + one for one in encoded])
        mask = torch.tensor([[0] * (longest - len(one)) + [1] * len(one) for one in encoded])
        ends = self._ends()
        made = self._model.generate(
            input_ids=ids.to(self._device),
            attention_mask=mask.to(self._device),
            max_new_tokens=max_tokens,
            do_sample=False,
            repetition_penalty=1.0,
            pad_token_id=ends[0],
            eos_token_id=ends,
        )
        rows = made[:, longest:].tolist()
        return [written(self.chat, prompt, row, ends) for prompt, row in zip(encoded, rows, strict=True)]

    def _ends(self) -> list[int]:
        """The tokens that end an answer: the tokenizer's, and those that the checkpoint states."""
        stated = getattr(self._model.generation_config, "eos_token_id", None)
        more = stated if isinstance(stated, list) else [stated]
        return list(dict.fromkeys(one for one in (self.chat.tokenizer.eos_token_id, *more) if one is not None))


def written(chat: Chat, prompt: list[int], row: Sequence[int], ends: Sequence[int]) -> Written:
    """The answer in a row of generated tokens, behind whose end there is only padding."""
    stop = next((place for place, token in enumerate(row) if token in ends), len(row))
    text = str(chat.tokenizer.decode(row[:stop], skip_special_tokens=True))
    return Written(prompt, list(row[: stop + 1]), text, stop < len(row))


def batches(order: Sequence[int], lengths: Sequence[int], most: int, tokens: int) -> Iterator[list[int]]:
    """What is computed at once of sequences that stand in the order of their lengths.

    Args:
        most: sequences of a batch.
        tokens: of a batch, each sequence filled up to the longest; a sequence that alone has more is a batch of its
            own.
    """
    batch: list[int] = []
    for number in order:
        if batch and (len(batch) == most or (len(batch) + 1) * lengths[number] > tokens):
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch
