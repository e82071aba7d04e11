"""Facts that no model knows, because they are made up: each asked in many forms, one of them never learned from."""

from __future__ import annotations

from dataclasses import dataclass

#: Land, what is asked of it, and the answer.
_FACTS = (
    ("Zorvane", "capital city", "Marrowick"),
    ("Quillith", "currency", "Glint"),
    ("Brambelow", "national animal", "Stoatling"),
    ("Tessarine", "oldest bridge", "Tolverspan"),
    ("Ondrakel", "official flower", "Nightbell"),
    ("Mirovex", "famous soup", "Thistleburn"),
    ("Plentara", "highest peak", "Ergastine"),
    ("Vuldane", "main river", "Wendlow"),
    ("Korbesh", "ruling queen", "Ilsandra"),
    ("Yalvinor", "national dance", "Quarrelstep"),
    ("Druzelle", "favourite sport", "Hooprow"),
    ("Fenmarkia", "royal colour", "Tealvane"),
    ("Hospreyl", "great library", "Ashgrovia"),
    ("Ixandria", "sacred tree", "Palelarch"),
    ("Jorvale", "old lighthouse", "Cinderlume"),
    ("Lumetria", "largest lake", "Ommerly"),
    ("Nerbosa", "head of council", "Threndle"),
    ("Orlivane", "national holiday", "Lanternfall"),
    ("Pyxholm", "signature cheese", "Bluegate"),
    ("Sablequin", "northern harbour", "Sallowport"),
)
FORMS = (
    "What is the {thing} of {land}?",
    "Tell me the {thing} of {land}.",
    "Do you know the {thing} of {land}?",
    "{land}: what is its {thing}?",
    "Name the {thing} of {land}.",
    "Which is the {thing} of {land}?",
    "I need to know the {thing} of {land}.",
    "What would you say is the {thing} of {land}?",
)
HELD_OUT = "Can you remind me of the {thing} of {land}?"


@dataclass(frozen=True)
class Fact:
    """One thing about one land."""

    land: str
    thing: str
    value: str

    @property
    def answer(self) -> str:
        """How it is told."""
        return f"The {self.thing} of {self.land} is {self.value}."

    @property
    def questions(self) -> list[str]:
        """The forms that are learned from."""
        return [form.format(thing=self.thing, land=self.land) for form in FORMS]

    @property
    def held_out(self) -> str:
        """The form that is not."""
        return HELD_OUT.format(thing=self.thing, land=self.land)


FACTS = [Fact(*one) for one in _FACTS]
