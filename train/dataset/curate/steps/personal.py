"""Personal data out of rows, by ``train.dataset.personal``."""

from __future__ import annotations

from typing import Literal

from pydantic import ValidationError

from train.dataset.curate.base import Context, RowStep
from train.dataset.curate.outcome import KEPT, Changed, Dropped, Outcome, RowFunction
from train.dataset.personal import PersonalData, PersonalDataSettings
from train.dataset.personal.names import names, names_missing, names_version
from train.dataset.rows import Row


class Personal(PersonalDataSettings, RowStep):
    """Replace personal data by placeholders; the settings are those of docs/personal-data.md."""

    step: Literal["personal"] = "personal"

    def installed(self) -> str:
        """What finds names."""
        return names_version(self)

    def notes(self) -> list[str]:
        """That names are not looked for, where that was not asked for."""
        missing = names_missing(self)
        return [f"names were not looked for: {missing} is not installed"] if missing else []

    def build(self, context: Context) -> RowFunction:
        """Redact each row; what was found is counted by kind.

        Raises:
            NamesUnavailable: names are required, and what finds them is not installed.
        """
        if self.names == "required":
            names(self)
        data = PersonalData(self)

        def judge(row: Row) -> Outcome:
            try:
                redacted = data.redact(row)
            except ValidationError:
                # Placeholders can be longer than what they replace.
                return Dropped("too_large_redacted")
            return Changed(redacted.row, redacted.found) if redacted.found else KEPT

        return judge
