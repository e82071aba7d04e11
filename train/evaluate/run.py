"""One evaluation from its settings to its report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from serve.settings.errors import SettingsError
from serve.settings.model import BASE
from train.dataset.formats import Chat, EncodeSettings
from train.evaluate.agreement import AgreementResult, compare
from train.evaluate.data import prompts_of, questions_of, rows_of
from train.evaluate.gate import Measured, checks
from train.evaluate.measures import (
    HeldOut,
    Retention,
    Sample,
    encoded,
    known_answers,
    loss_of,
    prompts_for,
    retention_of,
    with_system,
)
from train.evaluate.report import Report
from train.evaluate.served import Served
from train.evaluate.settings import EvaluationSettings
from train.evaluate.stack import Progress, Stack
from train.evaluate.tasks import TaskResult, run_task
from train.worker.weights import WeightKind

Json = dict[str, Any]

#: Shows how far one part is: its title and how many steps it has.
Bar = Callable[[str, int], AbstractContextManager[Progress]]


@dataclass(frozen=True, slots=True)
class Subject:
    """What is evaluated.

    Attributes:
        model: the id under which the base is served. adapter: its name in the registry, if it is published.
        base: the folder of the checkpoint. folder: the PEFT folder.
        version: of the content of the PEFT folder.
        weights: how the base is held on the training side.
    """

    model: str
    adapter: str
    base: Path
    folder: Path
    version: str
    weights: WeightKind


class Evaluation:
    """Runs one evaluation.

    Args:
        served: the group that serves the adapter; without it nothing is compared with it, and tasks are answered on
            the training side.

    Raises:
        SettingsError: a file has a fault, or a judge has nobody to ask.
        TokenizerError: the base has no tokenizer that can be used.
    """

    def __init__(self, subject: Subject, settings: EvaluationSettings, served: Served | None, bar: Bar) -> None:
        self._subject = subject
        self._settings = settings
        self._served = served
        self._bar = bar
        judges = [task.name for task in settings.tasks if task.judge is not None]
        if judges and served is None:
            raise SettingsError(f"the task {judges[0]!r} is judged by a model of the group; name it with --served")
        # Everything is read before the model is loaded.
        self._held_out = rows_of(settings.held_out, "validation", settings.most)
        self._trained = rows_of(settings.trained, "train")
        self._prompts = prompts_of(settings.general.prompts) if settings.general else []
        self._questions = {task.name: questions_of(task) for task in settings.tasks}
        self._chat = Chat.load(str(subject.base), settings.variables)
        self._encode = EncodeSettings(
            max_tokens=settings.max_length, system_prompt=settings.system_prompt, variables=settings.variables
        )

    def run(self) -> Report:
        """Measure everything that the settings ask for.

        Raises:
            ServedError: the group does not answer.
            SettingsError: the weights are to be quantized, and bitsandbytes is not there for it.
        """
        subject, gate = self._subject, self._settings.gate
        self._stack = Stack(subject.base, subject.folder, self._chat, self._settings.batch_size, subject.weights)
        measured = Measured(self._loss(), self._retention(), self._tasks(), self._agreement())
        found = checks(measured, self._settings)
        return Report(
            subject.model,
            subject.adapter,
            subject.version,
            subject.weights.name,
            self._served is not None,
            measured,
            gate,
            found,
            self._samples(),
        )

    def _loss(self) -> HeldOut | None:
        sequences = encoded(self._held_out, self._chat, self._encode)
        if not sequences:
            return None
        with self._bar("held-out loss", 2 * len(sequences)) as progress:
            loss = loss_of(self._stack, sequences, progress)
        return HeldOut(loss, len(self._held_out), known_answers(self._held_out, self._trained))

    def _retention(self) -> Retention | None:
        general = self._settings.general
        if general is None:
            return None
        with self._bar("general answers", 4 * len(self._prompts)) as progress:
            return retention_of(self._stack, self._prompts, general.max_tokens, self._encode, self._trained, progress)

    def _tasks(self) -> list[TaskResult]:
        found = []
        for task in self._settings.tasks:
            questions = self._questions[task.name]
            with self._bar(f"task {task.name}", 2 * len(questions)) as progress:

                def answer(
                    conversations: Sequence[Sequence[Json]],
                    max_tokens: int,
                    tuned: bool,
                    progress: Progress = progress,
                ) -> list[str]:
                    return self._answers(conversations, max_tokens, tuned=tuned, progress=progress)

                found.append(run_task(task, questions, answer, self._served))
        return found

    def _answers(
        self, conversations: Sequence[Sequence[Json]], max_tokens: int, *, tuned: bool, progress: Progress
    ) -> list[str]:
        """As clients get them where the adapter is served, else from the training side."""
        asked = [with_system(list(one), self._settings.system_prompt) for one in conversations]
        if self._served is not None:
            model = f"{self._subject.model}:{self._subject.adapter if tuned else BASE}"
            said = self._served.answer(
                model, asked, max_tokens, variables=self._settings.variables, progress=progress
            )
            return [one.text for one in said]
        prompts = [self._chat.render(one, prompt=True) for one in asked]
        return self._stack.answer(prompts, max_tokens, tuned=tuned, progress=progress)

    def _agreement(self) -> AgreementResult | None:
        settings, served = self._settings.agreement, self._served
        if settings is None or served is None:
            return None
        asked = [question for question, _ in self._conversations(settings.prompts)]
        if not asked:
            return None
        with self._bar("as served", 4 * len(asked)) as progress:

            def compared(name: str, *, tuned: bool) -> AgreementResult:
                model = f"{self._subject.model}:{name}"
                return compare(
                    self._stack,
                    served,
                    model,
                    asked,
                    settings.tokens,
                    self._settings.variables,
                    progress,
                    tuned=tuned,
                )

            base = compared(BASE, tuned=False)
            return replace(compared(self._subject.adapter, tuned=True), base=base)

    def _samples(self) -> list[Sample]:
        conversations = self._conversations(self._settings.samples)
        if not conversations:
            return []
        prompts = [self._chat.render(question, prompt=True) for question, _ in conversations]
        with self._bar("samples", 2 * len(prompts)) as progress:
            base, tuned = (self._stack.answer(prompts, 64, tuned=on, progress=progress) for on in (False, True))
        return [
            Sample(question[-1]["content"], plain, better, wanted)
            for (question, wanted), plain, better in zip(conversations, base, tuned, strict=True)
        ]

    def _conversations(self, most: int) -> list[tuple[list[dict[str, str]], str]]:
        """The first held-out questions that can be asked, with their answers; general ones where none is held out."""
        found = prompts_for(self._held_out, self._chat, self._encode)[:most]
        if found or self._held_out:
            return found
        general = [[{"role": "user", "content": prompt}] for prompt in self._prompts[:most]]
        return [(with_system(one, self._settings.system_prompt), "") for one in general]
