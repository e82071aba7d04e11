"""Where a loop is: a file that is replaced after each step, so that a run that dies goes on where it was."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field, ValidationError

from serve.adapters.files import write_durably
from serve.settings.base import Settings
from serve.settings.errors import SettingsError

STATE = "state.json"

Json = dict[str, Any]
StepName = Literal["collect", "curate", "tune", "publish", "evaluate", "decide"]
STEPS: tuple[StepName, ...] = ("collect", "curate", "tune", "publish", "evaluate", "decide")


class Round(Settings):
    """One time through the loop.

    Attributes:
        number: from 1.
        mark: eight hex digits by chance.
        begun: when.
        done: what each finished step found, by its name.
    """

    number: Annotated[int, Field(ge=1)]
    mark: Annotated[str, Field(pattern=r"^[0-9a-f]{8}$")]
    begun: AwareDatetime
    done: dict[StepName, Json] = {}

    @property
    def name(self) -> str:
        """Of its folder, its training run and its adapter: a new one each time, since a name that was promoted stands
        for one content. The number alone comes again where a folder is lost, or two loops are for one model."""
        return f"loop-{self.number:04}-{self.mark}"

    def with_step(self, step: StepName, found: Json) -> Round:
        """The round with one more step finished."""
        return self.model_copy(update={"done": {**self.done, step: found}})


class State(Settings):
    """The rounds of a loop.

    Attributes:
        finished: the last round that was finished.
        current: the one that is under way.
    """

    finished: Round | None = None
    current: Round | None = None


def read_state(folder: Path) -> State:
    """Where the loop in ``folder`` is; at its beginning where there is no file.

    Raises:
        SettingsError: the file is no state of a loop.
    """
    path = folder / STATE
    try:
        return State.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return State()
    except ValidationError:
        raise SettingsError(f"{path}: is not the state of a loop; move it away to begin anew") from None


def write_state(folder: Path, state: State) -> None:
    """Write the state down, whole."""
    write_durably(folder, STATE, state.model_dump_json(indent=2).encode())
