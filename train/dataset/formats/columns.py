"""The columns of a prepared row, by form, as the libraries for training name them; and of a row of this group.

==========  ==============================================  ====================================================
form        answers                                         pairs
==========  ==============================================  ====================================================
``tokens``  ``ids, input_ids, labels, seq_lengths``         ``id, prompt_ids, chosen_ids, rejected_ids``
``text``    ``id, text``                                    ``id, prompt, chosen, rejected``, as texts
``chat``    ``id, messages, tools``                         ``id, prompt, chosen, rejected, tools``, as messages
==========  ==============================================  ====================================================
"""

from __future__ import annotations

from typing import Any, Literal

Json = dict[str, Any]
FormName = Literal["tokens", "text", "chat"]


def schema_of(form: FormName, pairs: bool) -> Any:  # noqa: ANN401
    """The columns as an Arrow schema."""
    import pyarrow as pa

    text, tokens = pa.string(), pa.list_(pa.int32())
    if form == "tokens":
        if pairs:
            return pa.schema({"id": text, "prompt_ids": tokens, "chosen_ids": tokens, "rejected_ids": tokens})
        return pa.schema({"ids": pa.list_(text), "input_ids": tokens, "labels": tokens, "seq_lengths": tokens})
    if form == "text":
        return pa.schema(dict.fromkeys(["id", "prompt", "chosen", "rejected"] if pairs else ["id", "text"], text))
    function = pa.struct({"name": text, "arguments": text})
    call = pa.struct({"id": text, "type": text, "function": function})
    fields = dict.fromkeys(("role", "content", "reasoning_content", "name", "tool_call_id"), text)
    messages = pa.list_(pa.struct({**fields, "tool_calls": pa.list_(call), "weight": pa.int32()}))
    columns = ["prompt", "chosen", "rejected"] if pairs else ["messages"]
    return pa.schema({"id": text, **dict.fromkeys(columns, messages), "tools": text})


def features_of(schema: Any) -> list[Json]:  # noqa: ANN401
    """An Arrow schema as the front matter of a card has it (``dataset_info.features``).

    Without it, ``datasets`` guesses the columns of JSONL from its beginning, and fails at what comes later.
    """
    return [{"name": field.name, **_feature(field.type)} for field in schema]


def row_features() -> list[Json]:
    """The same for files of rows (``train.dataset.rows``)."""
    messages = _feature(schema_of("chat", False).field("messages").type)
    kinds = {
        "id": _TEXT,
        "source": _TEXT,
        "created_at": _TEXT,
        "model": _TEXT,
        "messages": messages,
        "tools": _ANY,
        "rejected": messages,
        "provenance": _ANY,
    }
    return [{"name": name, **kind} for name, kind in kinds.items()]


_TEXT = {"dtype": "string"}
_ANY = {"dtype": "json"}


def _feature(kind: Any) -> Json:  # noqa: ANN401
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return {"struct": features_of(kind)}
    if not pa.types.is_list(kind):
        return {"dtype": str(kind)}
    # A list of one kind is named by it, and a list of objects by their fields.
    [inner] = _feature(kind.value_type).values()
    return {"list": inner}
