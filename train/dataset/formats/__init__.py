"""Rows as training takes them: splits, a model's own tokens, packs, files, and a card that says what is in them."""

from train.dataset.formats.card import CardFacts, SplitFacts, StepFacts, write_card
from train.dataset.formats.chat import Chat, TokenizerError
from train.dataset.formats.encode import IGNORED, Encoded, EncodeSettings, encode
from train.dataset.formats.fingerprint import Fingerprint
from train.dataset.formats.inputs import InputError
from train.dataset.formats.lengths import Lengths
from train.dataset.formats.prepare import FaultyRows, prepare
from train.dataset.formats.prepared import Prepared, PreparedError, load_prepared
from train.dataset.formats.split import SPLITS, SplitName, SplitSettings, group_of, placed, split_of
from train.dataset.formats.unfit import Reason, Unfit
from train.dataset.formats.work import PrepareSettings

__all__ = [
    "IGNORED",
    "SPLITS",
    "CardFacts",
    "Chat",
    "EncodeSettings",
    "Encoded",
    "FaultyRows",
    "Fingerprint",
    "InputError",
    "Lengths",
    "PrepareSettings",
    "Prepared",
    "PreparedError",
    "Reason",
    "SplitFacts",
    "SplitName",
    "SplitSettings",
    "StepFacts",
    "TokenizerError",
    "Unfit",
    "encode",
    "group_of",
    "load_prepared",
    "placed",
    "prepare",
    "split_of",
    "write_card",
]
