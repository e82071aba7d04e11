"""The database: stored conversations, feedback on them, API keys and usage. Knows nothing of Ray or HTTP."""

from serve.store.records import (
    Conversation,
    Feedback,
    Key,
    NewKey,
    Page,
    Scope,
    UsageRecord,
    UsageTotal,
)
from serve.store.store import Store
from serve.store.values import checked_metadata

__all__ = [
    "Conversation",
    "Feedback",
    "Key",
    "NewKey",
    "Page",
    "Scope",
    "Store",
    "UsageRecord",
    "UsageTotal",
    "checked_metadata",
]
