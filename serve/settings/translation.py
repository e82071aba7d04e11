"""The ``user_config`` of the translation task."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from serve.settings.base import Settings

#: How a family of models is asked: ``chat`` is any instructed model, ``qwen`` one of Qwen's small ones, which go by
#: examples, ``qwen-mt`` the translators that take ``translation_options`` themselves.
Family = Literal["chat", "qwen", "qwen-mt"]


class TranslationUserConfig(Settings):
    """Behaviour of the translation task: changes live, with no restart.

    Attributes:
        model: who translates where a request names nobody: an id, ``id:adapter``, or ``auto``.
        families: how models are asked whose id does not tell their family.
        segment_chars: most characters of one piece of text that a model is asked to translate.
        context_chars: most characters of the neighbours that are shown with a piece.
        parallel: pieces of one request that are translated at once.
        max_chars: most characters of one request, all texts together.
        max_texts: most texts of one request.
        file_bytes: largest uploaded file.
        retries: how often a piece is asked for again when its translation lost something.
        memory_examples: how many entries of a translation memory are shown with a piece.
        timeout: seconds that one answer of the model may take.
    """

    model: Annotated[str, Field(min_length=1)] = "auto"
    families: dict[str, Family] = {}
    segment_chars: Annotated[int, Field(ge=80)] = 600
    context_chars: Annotated[int, Field(ge=0)] = 160
    parallel: Annotated[int, Field(ge=1)] = 4
    max_chars: Annotated[int, Field(ge=1)] = 400_000
    max_texts: Annotated[int, Field(ge=1)] = 512
    file_bytes: Annotated[int, Field(ge=1024)] = 4 * 1024 * 1024
    retries: Annotated[int, Field(ge=0, le=5)] = 1
    memory_examples: Annotated[int, Field(ge=0)] = 3
    timeout: Annotated[float, Field(gt=0)] = 300.0
