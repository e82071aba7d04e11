"""Which branches of a conversation are kept."""

from __future__ import annotations

from typing import Literal

from train.dataset.curate.base import Context, RowStep
from train.dataset.curate.outcome import KEPT, Dropped, Outcome, RowFunction
from train.dataset.rows import Row


class Branch(RowStep):
    """Choose which branches of a conversation stay.

    Attributes:
        keep: ``last``, the one that the user saw last, or ``all``, each as a row of its own. Exports are read so, and
            rows that were exported with every branch are filtered so.
    """

    step: Literal["branch"] = "branch"
    keep: Literal["last", "all"] = "last"

    def build(self, context: Context) -> RowFunction:
        """Drop other branches."""

        def judge(row: Row) -> Outcome:
            if self.keep == "last" and row.provenance.branch is not None:
                return Dropped("other_branch")
            return KEPT

        return judge
