"""What a model is asked for each task, and the form of its answer."""

from __future__ import annotations

import json
from typing import Any

from serve.pictures.resize import View
from serve.protocol.vision import AnalyzeRequest
from serve.settings.pictures import PictureGrid

Json = dict[str, Any]

_DESCRIBE = (
    "Describe what is in the picture: what it shows, where things are, and any text that can be read. Say only what"
    " can be seen, and say so where something is unclear."
)
_COMPARE = (
    "Compare the pictures, which are numbered from 0 in their order. Say first what they have in common, then every"
    " difference, and for each in which picture it is and where."
)
_READ = "Read all text in the picture, line by line, in reading order. Copy every character; leave nothing out."
_EXTRACT = (
    "Take data out of the pictures, and answer with JSON that follows this JSON schema and nothing else. Copy names,"
    " numbers and dates as they are written. Use null or leave a field out where the pictures do not say it; never"
    " guess."
)

#: What is asked about each picture for itself. The others see all pictures together.
EACH = frozenset({"ocr", "locate"})


def prompt_for(asked: AnalyzeRequest, view: View, grid: PictureGrid | None) -> str:
    """The words that follow the pictures.

    Args:
        view: of the picture, where the task is asked about one.
        grid: of the model; none where it cannot point.
    """
    if asked.task == "locate":
        assert grid is not None and asked.query is not None
        return _locate(asked.query, asked.mark, view, grid)
    if asked.task == "ocr":
        hint = f"\nRead only: {asked.query}" if asked.query else ""
        form = _form("lines", "bbox_2d", "text", view, grid) if grid else "Answer with the text alone."
        return f"{_READ}{hint}\n{form}"
    if asked.task == "extract":
        schema = json.dumps(asked.schema_, ensure_ascii=False)
        return f"{_EXTRACT}\nSchema: {schema}" + (f"\n{asked.query}" if asked.query else "")
    if asked.task == "compare":
        return f"{_COMPARE}\nAbove all, look at this: {asked.query}" if asked.query else _COMPARE
    return asked.query or _DESCRIBE


def format_for(asked: AnalyzeRequest, grid: PictureGrid | None) -> Json | None:
    """The form that the answer is bound to, where the model can be bound."""
    if asked.task == "extract":
        assert asked.schema_ is not None
        return _schema("extraction", asked.schema_)
    if grid is None or asked.task not in EACH:
        return None
    name, at, label = ("lines", "bbox_2d", "text") if asked.task == "ocr" else ("objects", _key(asked.mark), "label")
    count = 2 if at == "point_2d" else 4
    numbers = {"type": "array", "items": {"type": "integer"}, "minItems": count, "maxItems": count}
    entry = {
        "type": "object",
        "properties": {at: numbers, label: {"type": "string"}},
        "required": [at, label],
        "additionalProperties": False,
    }
    properties = {name: {"type": "array", "items": entry}}
    return _schema(
        name, {"type": "object", "properties": properties, "required": [name], "additionalProperties": False}
    )


def _locate(query: str, mark: str, view: View, grid: PictureGrid) -> str:
    what = "point to its middle" if mark == "points" else "give the smallest box that holds all of it"
    return (
        f"Find everything in the picture that fits this description, and {what}. On a screenshot, an element is what"
        f" would be clicked, not only its words.\nDescription: {query}\n"
        f'{_form("objects", _key(mark), "label", view, grid)} Where nothing fits, answer {{"objects": []}}.'
    )


def _form(name: str, at: str, label: str, view: View, grid: PictureGrid) -> str:
    numbers = "x, y" if at == "point_2d" else "x1, y1, x2, y2"
    unit = (
        "Coordinates are whole numbers from 0 to 1000, relative to the picture's width and height."
        if grid.coordinates == "thousandths"
        else f"Coordinates are whole pixels of the picture, which has {view.seen[0]} x {view.seen[1]}."
    )
    return f'Answer with JSON only: {{"{name}": [{{"{at}": [{numbers}], "{label}": "..."}}]}}. {unit}'


def _key(mark: str) -> str:
    return "point_2d" if mark == "points" else "bbox_2d"


def _schema(name: str, schema: Json) -> Json:
    return {"type": "json_schema", "json_schema": {"name": name, "schema": schema}}
