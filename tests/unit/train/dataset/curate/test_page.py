"""docs/curation.md against the code: every step, setting, default, option and reason."""

from __future__ import annotations

import re

import pytest
from pydantic import BaseModel

from tests.unit.test_docs import shown
from tests.unit.train.dataset.curate.samples import ROOT
from train.dataset.curate.base import Topic
from train.dataset.curate.recipe import Recipe
from train.dataset.curate.registry import STEPS
from train.dataset.duplicates import LeakSettings
from train.dataset.personal import PersonalDataSettings

PAGE = (ROOT / "docs" / "curation.md").read_text(encoding="utf-8")
ELSEWHERE = {"step", "name", *PersonalDataSettings.model_fields, *LeakSettings.model_fields}
TABLES: dict[str, type[BaseModel]] = {"The recipe": Recipe, "topics": Topic, **STEPS}


def left_out(heading: str) -> set[str]:
    """The settings that the table of a step has not, since they are told in one place for several."""
    if heading not in STEPS:
        return set()
    own = {"step", "name"} if heading not in ("personal", "duplicates", "leakage") else ELSEWHERE
    return own if heading == "toxicity" else own | {"on_match"}


@pytest.mark.parametrize(("heading", "kind"), TABLES.items(), ids=TABLES)
def test_the_table_has_every_setting_with_its_default(heading: str, kind: type[BaseModel]) -> None:
    section = re.search(rf"^#+ {heading}$(.*?)(?=^#+ |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    assert section is not None
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", section[1], re.MULTILINE))
    fields = {name: field for name, field in kind.model_fields.items() if name not in left_out(heading)}
    assert rows == {name: shown(field) for name, field in fields.items()}
