"""The request of the vision task, typed and checked."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, model_validator

Task = Literal["describe", "ocr", "locate", "compare", "extract"]


class AnalyzeRequest(BaseModel):
    """`POST /v1/vision/analyze`. `images` are data URLs or https addresses; in `multipart/form-data` they are files
    called `image`, and every other field is text."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, frozen=True, populate_by_name=True)

    task: Task = "describe"
    images: Annotated[list[str], Field(min_length=1)]
    query: Annotated[str, Field(min_length=1, max_length=20_000)] | None = None
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    mark: Literal["boxes", "points"] = "boxes"
    annotate: StrictBool = False
    pages: Annotated[str, Field(pattern=r"^\d{1,5}(-\d{1,5})?(,\d{1,5}(-\d{1,5})?)*$", max_length=200)] | None = None
    model: Annotated[str, Field(min_length=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> AnalyzeRequest:
        if self.task == "locate" and self.query is None:
            raise ValueError("query is required for the task 'locate': what to look for")
        if self.task == "compare" and len(self.images) < 2 and self.pages is None:
            raise ValueError("images must be at least two for the task 'compare'")
        if (self.task == "extract") != (self.schema_ is not None):
            raise ValueError("schema is required for the task 'extract', and for no other")
        if self.annotate and self.task not in ("locate", "ocr"):
            raise ValueError("annotate is for the tasks 'locate' and 'ocr' only")
        if self.mark == "points" and self.task != "locate":
            raise ValueError("mark is for the task 'locate' only")
        return self
