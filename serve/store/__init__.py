"""The database: stored conversations, feedback on them, files, jobs, keys and usage. Knows nothing of Ray or HTTP."""

from serve.store.records import (
    Conversation,
    Feedback,
    FileRoom,
    FineTuningJob,
    JobEvent,
    JobRoom,
    Key,
    NewKey,
    Page,
    Ratings,
    Scope,
    StoredFile,
    UsageRecord,
    UsageTotal,
)
from serve.store.store import Store
from serve.store.values import checked_metadata

__all__ = [
    "Conversation",
    "Feedback",
    "FileRoom",
    "FineTuningJob",
    "JobRoom",
    "JobEvent",
    "Key",
    "NewKey",
    "Page",
    "Ratings",
    "Scope",
    "Store",
    "StoredFile",
    "UsageRecord",
    "UsageTotal",
    "checked_metadata",
]
