"""``/v1/vision/analyze`` through a gateway in this process, with a model that says what the test wants.

What the models say is written after Qwen's documentation; none of it was recorded.
"""

from __future__ import annotations

import base64
import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from serve.errors import Unavailable
from serve.protocol.events import Delta, TokenLogprob, Usage
from serve.protocol.requests import ChatRequest, JsonSchemaFormat
from serve.settings.pictures import PictureGrid
from tests.pictures import file_of, plain, url_of
from tests.unit.gateway.group import running
from tests.unit.replica.models import Scripted
from tests.unit.tasks.group import TaskGroup, task_group

GRID = PictureGrid(16, 2, 65_536, 16_777_216, "thousandths")
WIDE = file_of(plain("red", (640, 320)))
BOXES = '```json\n[{"bbox_2d": [500, 250, 750, 500], "label": "the button"},]\n```'


def seer(*says: str, id: str = "seer", finish: Any = "stop", **more: Any) -> Scripted:
    """A model that sees, and says the same each time."""
    deltas = [Delta(0, text=text) for text in says]
    last = Delta(0, finish_reason=finish)
    can = {"vision": True, "pictures": GRID, "structured_output": True} | more
    return Scripted([*deltas, last, Usage(10, 5)], id=id, **can)


async def analyzed(group: TaskGroup, status: int = 200, **fields: Any) -> Any:
    answer = await group.client.post("/v1/vision/analyze", json={"images": [url_of(WIDE)], **fields})
    assert answer.status_code == status, answer.text
    return answer.json() if status == 200 else answer.json()["error"]


def asked(model: Scripted, number: int = 0) -> ChatRequest:
    request = model.asked[number][0]
    assert isinstance(request, ChatRequest)
    return request


def sent(model: Scripted) -> Image.Image:
    """The first picture as the model got it."""
    url = asked(model).messages[0].images()[0].image_url.url
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))


def words(model: Scripted) -> str:
    """What the model was asked beside the picture."""
    return asked(model).messages[0].text()


async def test_what_is_located_is_in_the_callers_pixels(tmp_path: Path) -> None:
    model = seer(BOXES)
    async with task_group(tmp_path, "vision", model) as group:
        found = await analyzed(group, task="locate", query="the OK button")
    assert found["object"] == "vision.analysis" and found["model"] == "seer" and not found["truncated"]
    assert found["images"] == [
        {"index": 0, "source": 0, "width": 640, "height": 320, "seen": {"width": 640, "height": 320}}
    ]
    assert found["objects"] == [
        {
            "image": 0,
            "label": "the button",
            "box": [320, 80, 480, 160],
            "center": [400, 120],
            "raw": [500, 250, 750, 500],
            "confidence": None,
        }
    ]
    assert found["usage"] == {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    assert sent(model).size == (640, 320)
    assert "the OK button" in words(model) and "0 to 1000" in words(model)
    assert isinstance(asked(model).response_format, JsonSchemaFormat)


async def test_a_small_picture_grows_for_the_model_and_its_boxes_shrink_back(tmp_path: Path) -> None:
    model = seer('[{"bbox_2d": [0, 0, 500, 1000], "label": "left"}]')
    async with task_group(tmp_path, "vision", model) as group:
        found = await analyzed(group, task="locate", query="x", images=[url_of(file_of(plain("red", (64, 48))))])
    assert found["images"][0]["seen"] == {"width": 320, "height": 224}
    assert sent(model).size == (320, 224)
    assert found["objects"][0]["box"] == [0, 0, 32, 48]


async def test_pixels_are_read_by_the_models_own_convention(tmp_path: Path) -> None:
    grid = PictureGrid(14, 2, 3136, 12_845_056, "pixels")
    model = seer('[{"bbox_2d": [322, 0, 644, 308], "label": "right"}]', pictures=grid)
    async with task_group(tmp_path, "vision", model) as group:
        found = await analyzed(group, task="locate", query="x")
    assert found["images"][0]["seen"] == {"width": 644, "height": 308}
    assert found["objects"][0]["box"] == [320, 0, 640, 320]
    assert "644 x 308" in words(model)


async def test_points_are_given_where_they_are_wanted(tmp_path: Path) -> None:
    async with task_group(tmp_path, "vision", seer('{"objects":[{"point_2d":[500,500],"label":"it"}]}')) as group:
        found = await analyzed(group, task="locate", query="x", mark="points")
    assert found["points"] == [
        {"image": 0, "label": "it", "point": [320, 160], "raw": [500, 500], "confidence": None}
    ]


async def test_each_picture_is_searched_for_itself_and_drawn_on(tmp_path: Path) -> None:
    model = seer(BOXES)
    async with task_group(tmp_path, "vision", model) as group:
        tall = url_of(file_of(plain("blue", (320, 640)), "jpeg"), "image/jpeg")
        found = await analyzed(group, task="locate", query="x", images=[url_of(WIDE), tall], annotate=True)
    assert len(model.asked) == 2 and found["usage"]["total_tokens"] == 30
    assert [one["image"] for one in found["objects"]] == [0, 1]
    assert found["objects"][1]["box"] == [160, 160, 240, 320]
    drawn = [Image.open(io.BytesIO(base64.b64decode(one.partition(",")[2]))) for one in found["annotated"]]
    assert [(one.format, one.size) for one in drawn] == [("PNG", (640, 320)), ("PNG", (320, 640))]
    assert drawn[0].getpixel((480, 120)) == (0xD5, 0x5E, 0x00)  # the right side of the box
    assert drawn[0].getpixel((10, 10)) == (255, 0, 0)


async def test_lines_of_text_come_with_their_places(tmp_path: Path) -> None:
    lines = [{"bbox_2d": [0, 0, 1000, 100], "text": "Grüße,"}, {"bbox_2d": [0, 100, 500, 200], "text": "你好 👋"}]
    async with task_group(tmp_path, "vision", seer(json.dumps({"lines": lines}, ensure_ascii=False))) as group:
        found = await analyzed(group, task="ocr")
    assert found["text"] == "Grüße,\n你好 👋"
    assert [(one["text"], one["box"]) for one in found["lines"]] == [
        ("Grüße,", [0, 0, 640, 32]),
        ("你好 👋", [0, 32, 320, 64]),
    ]


async def test_text_is_read_without_places_where_the_model_has_no_grid(tmp_path: Path) -> None:
    model = seer("Total 12", pictures=None)
    async with task_group(tmp_path, "vision", model) as group:
        found = await analyzed(group, task="ocr")
        assert found["text"] == "Total 12" and "lines" not in found
        error = await analyzed(group, 400, task="locate", query="x")
    assert "grids" in error["message"] and error["param"] == "model"
    assert asked(model).response_format is None


async def test_a_grid_can_be_stated_for_a_model_that_does_not_say_it(tmp_path: Path) -> None:
    grid = {"patch": 16, "merge": 2, "min_pixels": 1024, "max_pixels": 1_000_000, "coordinates": "thousandths"}
    config = {"grids": {"seer": grid}}
    async with task_group(tmp_path, "vision", seer(BOXES, pictures=None), user_config=config) as group:
        found = await analyzed(group, task="locate", query="x")
    assert found["objects"][0]["box"] == [320, 80, 480, 160]


async def test_pictures_are_compared_in_one_question(tmp_path: Path) -> None:
    model = seer("The second is blue.")
    async with task_group(tmp_path, "vision", model) as group:
        found = await analyzed(group, task="compare", images=[url_of(WIDE)] * 2, query="colours")
    assert found["text"] == "The second is blue."
    assert len(asked(model).messages[0].images()) == 2


async def test_data_is_extracted_by_a_schema(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"total": {"type": "number"}}}
    model = seer('{"total": 12.5}')
    async with task_group(tmp_path, "vision", model) as group:
        found = await analyzed(group, task="extract", schema=schema)
    assert found["data"] == {"total": 12.5}
    form = asked(model).response_format
    assert isinstance(form, JsonSchemaFormat) and form.json_schema.schema_ == schema


async def test_an_answer_that_breaks_off_says_so_and_gives_what_is_whole(tmp_path: Path) -> None:
    model = seer('[{"bbox_2d": [0, 0, 500, 500], "label": "a"}, {"bbox_2d": [1', finish="length")
    async with task_group(tmp_path, "vision", model) as group:
        found = await analyzed(group, task="locate", query="x")
    assert found["truncated"] and len(found["objects"]) == 1


async def test_auto_takes_a_model_that_sees(tmp_path: Path) -> None:
    blind, sees = Scripted(id="blind"), seer("A red square.")
    async with task_group(tmp_path, "vision", blind, sees) as group:
        assert (await analyzed(group))["model"] == "seer"
        assert (await analyzed(group, 400, model="blind"))["message"] == "The model 'blind' cannot see pictures."
        assert (await analyzed(group, 404, model="nobody"))["code"] == "model_not_found"
    assert not blind.asked


async def test_a_group_that_sees_nothing_says_so(tmp_path: Path) -> None:
    async with task_group(tmp_path, "vision", Scripted(id="blind")) as group:
        assert "No model of this group can see" in (await analyzed(group, 400))["message"]


async def test_models_that_have_not_said_yet_what_they_can_do_are_waited_for(tmp_path: Path) -> None:
    starting = running("late", status="DEPLOYING", replicas=0)
    async with task_group(tmp_path, "vision", Scripted(id="blind")) as group:
        await group.gateway.refresh(late=starting)
        answer = await group.client.post("/v1/vision/analyze", json={"images": [url_of(WIDE)]})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert "late" in answer.json()["error"]["message"] and "blind" not in answer.json()["error"]["message"]
        await group.gateway.refresh(late=replace(starting, status="DEPLOY_FAILED"))
        assert "No model of this group can see" in (await analyzed(group, 400))["message"]


async def test_pages_of_what_is_no_pdf_are_refused(tmp_path: Path) -> None:
    model = seer("x")
    async with task_group(tmp_path, "vision", model) as group:
        error = await analyzed(group, 400, pages="2")
    assert error["param"] == "pages" and "PDF" in error["message"] and not model.asked


async def test_a_form_with_files_is_taken(tmp_path: Path) -> None:
    model = seer(BOXES)
    async with task_group(tmp_path, "vision", model) as group:
        answer = await group.client.post(
            "/v1/vision/analyze",
            data={"task": "locate", "query": "Knöpfe", "annotate": "true"},
            files=[("image", ("a.png", WIDE, "image/png")), ("image", ("b.png", WIDE, "image/png"))],
        )
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["objects"]) == len(answer.json()["annotated"]) == 2
    assert "Knöpfe" in words(model)


@pytest.mark.parametrize(
    ("fields", "files", "why"),
    [
        ({}, [], "images"),
        ({}, ["picture"], "files are called 'image'"),
        ({"images": "x"}, ["image"], "files called 'image'"),
        ({"annotate": "yes"}, ["image"], "JSON text"),
        ({"taks": "ocr"}, ["image"], "did you mean 'task'"),
        ({}, ["image"] * 9, "the most allowed is 8"),
        ({}, ["image"] * 12, "cannot be read"),
    ],
)
async def test_a_form_that_is_wrong_is_refused(
    fields: dict[str, str], files: list[str], why: str, tmp_path: Path
) -> None:
    async with task_group(tmp_path, "vision", seer("x")) as group:
        sending = [(name, ("a.png", WIDE, "image/png")) for name in files]
        # httpx sends a form of fields alone as another media type.
        answer = await group.client.post("/v1/vision/analyze", data=fields, files=sending or {"task": (None, "ocr")})
    assert answer.status_code == 400 and why in answer.json()["error"]["message"], answer.text


@pytest.mark.parametrize(
    ("fields", "param", "why"),
    [
        ({"images": []}, "images", "at least 1"),
        ({"images": [url_of(WIDE)] * 9}, "images[8]", "9 pictures"),
        ({"images": [url_of(WIDE), "data:image/png;base64,AAAA"]}, "images[1]", "Picture 1 cannot be taken"),
        ({"images": ["https://169.254.169.254/latest"]}, "images[0]", "not a public one"),
        ({"task": "locate"}, "query", "query is required"),
        ({"task": "compare"}, "images", "at least two"),
        ({"task": "extract"}, "schema", "schema is required"),
        ({"task": "ocr", "schema": {}}, "schema", "no other"),
        ({"annotate": True}, "annotate", "'locate' and 'ocr' only"),
        ({"task": "ocr", "mark": "points"}, "mark", "'locate' only"),
        ({"task": "paint"}, "task", "describe"),
        ({"pages": "a-b"}, "pages", "pattern"),
    ],
)
async def test_a_bad_request_names_the_field_and_why(
    fields: dict[str, Any], param: str, why: str, tmp_path: Path
) -> None:
    model = seer("x")
    async with task_group(tmp_path, "vision", model) as group:
        error = await analyzed(group, 400, **fields)
    assert error["param"] == param and why in error["message"], error
    assert not model.asked


async def test_pages_of_a_pdf_are_pictures(tmp_path: Path) -> None:
    pytest.importorskip("pypdfium2")
    file = io.BytesIO()
    plain("red", (72, 72)).save(file, "PDF", save_all=True, append_images=[plain("blue", (72, 72))], resolution=72)
    pdf = url_of(file.getvalue(), "application/pdf")
    model = seer("Two pages.")
    async with task_group(tmp_path, "vision", model) as group:
        found = await analyzed(group, images=[pdf])
        one = await analyzed(group, images=[pdf], pages="2")
    assert [(image["source"], image["page"]) for image in found["images"]] == [(0, 1), (0, 2)]
    assert [image["page"] for image in one["images"]] == [2]


async def test_a_model_that_fails_is_told_of_with_its_own_status(tmp_path: Path) -> None:
    failing = Scripted(Unavailable("It rests."), id="seer", vision=True, pictures=GRID)
    async with task_group(tmp_path, "vision", failing) as group:
        assert (await analyzed(group, 503))["message"] == "It rests."


async def test_a_group_without_the_task_says_how_to_add_it(tmp_path: Path) -> None:
    async with task_group(tmp_path, "translation", seer("x")) as group:
        error = await analyzed(group, 404)
    assert error["code"] == "task_not_deployed" and "vision" in error["message"]


async def test_confidence_is_worked_out_where_the_model_tells_its_tokens(tmp_path: Path) -> None:
    text = '{"objects":[{"bbox_2d":[0,0,500,500],"label":"it"}]}'
    tokens = tuple(TokenLogprob(char, math.log(0.5), char.encode()) for char in text)
    model = Scripted(
        [Delta(0, text=text, logprobs=tokens), Delta(0, finish_reason="stop"), Usage(1, 1)],
        id="seer",
        vision=True,
        pictures=GRID,
        structured_output=True,
        logprobs=True,
    )
    async with task_group(tmp_path, "vision", model) as group:
        found = await analyzed(group, task="locate", query="x")
        await analyzed(group, query="x")
    assert found["objects"][0]["confidence"] == 0.5
    assert [request.logprobs for request in (asked(model, 0), asked(model, 1))] == [True, False]
