"""Promotions: which adapter answers who asks for the model itself, since when, and why.

::

    <registry>/<model id>/_promotions.jsonl     a record a line, the newest last

Each record holds what stands after it, so that the last line is the present and the others are the history; one
rename changes both. An adapter is named with its version: a new content under its name has to earn its place anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Literal

from filelock import FileLock
from pydantic import AwareDatetime, Field, ValidationError

from serve.adapters.errors import BadManifest, NotEarned, StorageFailed
from serve.adapters.files import PROMOTIONS, read_plain, signature, write_durably
from serve.adapters.manifest import Manifest
from serve.adapters.registry import Registry
from serve.settings.base import Settings
from serve.settings.model import AdapterName

Share = Annotated[float, Field(ge=0, le=1)]
#: The last requests on a replica, by which an adapter's share of failures is judged.
WINDOW = 200
#: Who changed what stands.
By = Literal["operator", "loop", "gate", "errors", "feedback"]


class Pin(Settings):
    """One content of an adapter."""

    name: AdapterName
    version: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]


class Probation(Settings):
    """What a canary has to go through to be promoted by itself, without a reason to roll it back meanwhile.

    Attributes:
        hours: since it became the canary.
        min_requests: that it has answered as the canary at one gateway replica, since that began to look.
        min_ratings: conversations of that time that people have rated.
    """

    hours: Annotated[float, Field(gt=0, le=8760)] = 24.0
    min_requests: Annotated[int, Field(ge=1)] = WINDOW
    min_ratings: Annotated[int, Field(ge=0)] = 10


class Canary(Pin):
    """A content that answers a part of the requests.

    Attributes:
        weight: which part, 0 to 1.
        probation: after which it is promoted by itself; none leaves that to people.
    """

    weight: Share
    probation: Probation | None = None


class Rules(Settings):
    """When an adapter is rolled back by itself.

    Attributes:
        error_share: of its last ``WINDOW`` requests, failed ones; more than that, and more than without it, is too
            much.
        min_requests: as many have to have ended before.
        down_excess: by how much the share of thumbs down may exceed that of the model itself.
        min_ratings: as many conversations have to be rated before; as many of the model's own too, or 0 is taken for
            it.
    """

    error_share: Share = 0.05
    min_requests: Annotated[int, Field(ge=1, le=WINDOW)] = 20
    down_excess: Share = 0.2
    min_ratings: Annotated[int, Field(ge=1)] = 10


class Standing(Settings):
    """Who answers requests for the model itself.

    Attributes:
        default: answers what the canary does not; none is the model itself.
        canary: answers a part.
        refused: rolled back; they answer only who asks for them by name.
        rules: when the canary and the default are rolled back.
    """

    default: Pin | None = None
    canary: Canary | None = None
    refused: list[Pin] = []
    rules: Rules = Rules()


class Promotion(Settings):
    """One change, and what stands after it.

    Attributes:
        number: 1 for the first of a model.
        by: who made it. reason: why, in words.
    """

    number: Annotated[int, Field(ge=1)]
    at: AwareDatetime
    action: Literal["canary", "promote", "rollback"]
    adapter: Pin
    by: By
    reason: str
    standing: Standing


class Promotions:
    """The promotions in a registry."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry

    def history(self, model: str) -> list[Promotion]:
        """Every change for ``model``, oldest first; none where there was no change.

        Raises:
            BadName, BadManifest, WrongFiles, StorageFailed: it cannot be read.
        """
        folder = self.registry.model_folder(model)
        if signature(folder / PROMOTIONS) is None:
            return []
        try:
            return [Promotion.model_validate_json(line) for line in read_plain(folder, PROMOTIONS).splitlines()]
        except ValidationError as error:
            raise BadManifest(f"{PROMOTIONS} of {model} is no record of promotions") from error

    def standing(self, model: str) -> Standing:
        """What stands for ``model`` now. Raises as ``history`` does."""
        history = self.history(model)
        return history[-1].standing if history else Standing()

    def canary(
        self,
        model: str,
        name: str,
        weight: float,
        *,
        by: By,
        reason: str = "",
        rules: Rules | None = None,
        probation: Probation | None = None,
    ) -> Promotion:
        """Let the adapter ``name``, as it is published now, answer a part of the requests.

        Args:
            probation: after which it is promoted by itself; by default, of what is the canary already, its own.
            reason: why it may although the gate of its evaluation did not pass it.

        Raises:
            NotEarned: the gate did not pass it, and no reason is given; or this content was rolled back, likewise.
            RegistryError: it is not published, or the registry cannot be used.
        """

        def change(standing: Standing, manifest: Manifest) -> Standing:
            pin = Pin(name=name, version=manifest.version)
            kept = standing.canary.probation if standing.canary and _pin(standing.canary) == pin else None
            canary = Canary(name=name, version=manifest.version, weight=weight, probation=probation or kept)
            return Standing(
                default=standing.default,
                canary=canary,
                refused=[one for one in standing.refused if one != pin],
                rules=rules or Rules(),
            )

        return self._earned(model, name, "canary", change, by, reason)

    def graduate(self, model: str, made: Promotion, *, reason: str) -> Promotion | None:
        """Let a canary answer all requests that has gone through its probation.

        Gives none where it is the canary no longer, or was made it anew, as when somebody else was there before; and
        where something else is published under its name, or the gate of its evaluation did not pass it.

        Args:
            made: the change that made it the canary.

        Raises:
            RegistryError: it is not published, or the registry cannot be used.
        """
        pin = made.adapter
        manifest = self.registry.manifest(model, pin.name)
        with self._writing(model) as history:
            standing = history[-1].standing if history else Standing()
            if made_canary(history, pin) != made or manifest.version != pin.version:
                return None
            try:
                _require_earned(model, manifest, standing)
            except NotEarned:
                return None
            after = Standing(default=pin, canary=None, refused=standing.refused, rules=standing.rules)
            return self._add(model, history, "promote", pin, "gate", reason, after)

    def promote(self, model: str, name: str, *, by: By, reason: str = "", rules: Rules | None = None) -> Promotion:
        """Let the adapter ``name``, as it is published now, answer all requests. Arguments and errors as in
        ``canary``."""

        def change(standing: Standing, manifest: Manifest) -> Standing:
            pin = Pin(name=name, version=manifest.version)
            refused = [one for one in standing.refused if one != pin]
            return Standing(default=pin, canary=None, refused=refused, rules=rules or standing.rules)

        return self._earned(model, name, "promote", change, by, reason)

    def roll_back(self, model: str, pin: Pin | None = None, *, by: By, reason: str) -> Promotion | None:
        """Take ``pin`` out of the answers, by default the canary, else the default; the default before takes its
        place, else the model itself.

        Gives none where there is nothing to take out, as when another one has done it already.

        Raises:
            RegistryError: the registry cannot be used.
        """
        with self._writing(model) as history:
            standing = history[-1].standing if history else Standing()
            gone = pin or _pin(standing.canary) or standing.default
            if gone is None or gone in standing.refused:
                return None
            refused = [*standing.refused, gone]
            default = standing.default
            if default == gone:
                default = _before(history, refused)
            canary = None if _pin(standing.canary) == gone else standing.canary
            after = Standing(default=default, canary=canary, refused=refused, rules=standing.rules)
            return self._add(model, history, "rollback", gone, by, reason, after)

    def _earned(
        self,
        model: str,
        name: str,
        action: Literal["canary", "promote"],
        change: Callable[[Standing, Manifest], Standing],
        by: By,
        reason: str,
    ) -> Promotion:
        manifest = self.registry.manifest(model, name)
        pin = Pin(name=name, version=manifest.version)
        with self._writing(model) as history:
            standing = history[-1].standing if history else Standing()
            if not reason:
                _require_earned(model, manifest, standing)
            told = reason or "its evaluation passed the gate"
            return self._add(model, history, action, pin, by, told, change(standing, manifest))

    def _add(
        self,
        model: str,
        history: list[Promotion],
        action: Literal["canary", "promote", "rollback"],
        pin: Pin,
        by: By,
        reason: str,
        standing: Standing,
    ) -> Promotion:
        number = history[-1].number + 1 if history else 1
        made = Promotion(
            number=number,
            at=datetime.now(UTC),
            action=action,
            adapter=pin,
            by=by,
            reason=reason,
            standing=standing,
        )
        lines = "".join(f"{one.model_dump_json()}\n" for one in [*history, made])
        write_durably(self.registry.model_folder(model), PROMOTIONS, lines.encode())
        return made

    @contextmanager
    def _writing(self, model: str) -> Iterator[list[Promotion]]:
        """The history, while nobody else changes it."""
        folder = self.registry.model_folder(model)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / f".{PROMOTIONS}.lock"):
                yield self.history(model)
        except OSError as failure:
            raise StorageFailed(f"the promotions of {model} cannot be written: {failure.strerror}") from failure


def gate_of(manifest: Manifest) -> bool | None:
    """Whether the gate of its evaluation passed an adapter; none where it was not evaluated."""
    gate = manifest.evaluation.get("gate")
    passed = gate.get("passed") if isinstance(gate, dict) else None
    return passed if isinstance(passed, bool) else None


def made_canary(history: Sequence[Promotion], pin: Pin) -> Promotion | None:
    """The last change that made ``pin`` the canary, where it is that still."""
    if not history or _pin(history[-1].standing.canary) != pin:
        return None
    return next(one for one in reversed(history) if one.action == "canary" and one.adapter == pin)


def _require_earned(model: str, manifest: Manifest, standing: Standing) -> None:
    passed = gate_of(manifest)
    if passed is None:
        raise NotEarned(f"{model}:{manifest.name} has not been evaluated; publish it with its evaluation")
    if manifest.evaluation.get("version") != manifest.version:
        raise NotEarned(f"the evaluation of {model}:{manifest.name} is not of what is published now; evaluate that")
    if not passed:
        raise NotEarned(f"{model}:{manifest.name} did not pass the gate of its evaluation")
    if Pin(name=manifest.name, version=manifest.version) in standing.refused:
        raise NotEarned(f"{model}:{manifest.name} was rolled back, and is the same as then")


def _pin(canary: Canary | None) -> Pin | None:
    return canary and Pin(name=canary.name, version=canary.version)


def _before(history: list[Promotion], refused: list[Pin]) -> Pin | None:
    """The last default that is not refused; none, the model itself, where that stood last."""
    for record in reversed(history):
        if record.standing.default is None or record.standing.default not in refused:
            return record.standing.default
    return None
