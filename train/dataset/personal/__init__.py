"""Personal data in rows: found by form, check digits, marks and names, and replaced by placeholders."""

from train.dataset.personal.names import NamesUnavailable
from train.dataset.personal.redactor import PersonalData, Redacted
from train.dataset.personal.settings import KINDS, Kind, PersonalDataSettings

__all__ = ["KINDS", "Kind", "NamesUnavailable", "PersonalData", "PersonalDataSettings", "Redacted"]
