"""Small tokenizers with templates of the kinds that models have, made here in no time."""

from __future__ import annotations

from functools import cache
from typing import Any

from train.dataset.formats.chat import Chat

MARKS = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")

#: As SmolLM2, Qwen2 and many others write it.
CHATML = """\
{%- if tools %}<|im_start|>system
Tools: {{ tools | tojson }}<|im_end|>
{% endif %}
{%- for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}
{%- for call in message.tool_calls or [] %}
<tool_call>
{{ call.function | tojson }}
</tool_call>{% endfor %}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

#: The same with marks by which transformers tells what is learned from.
MARKED = """\
{%- for message in messages %}<|im_start|>{{ message.role }}
{% if message.role == 'assistant' %}{% generation %}{{ message.content }}<|im_end|>{% endgeneration %}
{% else %}{{ message.content }}<|im_end|>
{% endif %}{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

#: As Qwen3's do: reasoning is written for answers after the last question only, and always for the very last.
QWEN3 = """\
{%- set last = namespace(question=0) %}
{%- for message in messages %}
{%- if message.role == 'user' %}{% set last.question = loop.index0 %}{% endif %}{% endfor %}
{%- for message in messages %}
{%- if message.role == 'assistant' %}<|im_start|>assistant
{% if loop.index0 > last.question and (loop.last or message.reasoning_content) %}<think>
{{ message.reasoning_content or '' }}
</think>

{% endif %}{{ message.content }}
{%- for call in message.tool_calls or [] %}
<tool_call>
{{ call.function | tojson }}
</tool_call>{% endfor %}<|im_end|>
{% else %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endif %}{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% if enable_thinking is defined and not enable_thinking %}<think>

</think>

{% endif %}{% endif %}"""

#: As DeepSeek-R1's: the prompt begins reasoning that the text of a conversation never shows.
BEGINS_REASONING = """\
{%- for message in messages %}{% if message.role == 'user' %}<|im_start|>{{ message.content }}{% else %}
{{- '<|endoftext|>' }}{{ message.content }}<|im_end|>{% endif %}{% endfor %}
{%- if add_generation_prompt %}<|endoftext|><think>
{% endif %}"""

#: As Llama 2's and Mistral's: a mark before all, nothing for a prompt, the answer after a space, strict turns.
INST = """\
{{- bos_token }}
{%- for message in messages %}
{%- if message.role == 'user' %}[INST] {{ message.content }} [/INST]
{%- elif message.role == 'assistant' %} {{ message.content | trim }}{{ eos_token }}
{%- else %}{{ raise_exception('only user and assistant') }}{% endif %}{% endfor %}"""

#: As Alpaca's: plain words, no mark where an answer ends.
PLAIN = """\
{%- for message in messages %}{% if message.role == 'user' %}### Instruction:
{{ message.content }}

{% elif message.role == 'assistant' %}### Response:
{{ message.content }}

{% endif %}{% endfor %}
{%- if add_generation_prompt %}### Response:
{% endif %}"""


@cache
def tokenizer() -> Any:
    """A tokenizer of bytes, with tokens for ``is``, for words after a space, and for line breaks.

    As GPT-2's do, its last step cuts white space off the places of tokens.
    """
    from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
    from tokenizers.models import BPE

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("i", "s"), ("Ġ", "P"), ("ĠP", "a"), ("Ċ", "Ċ"), (":", "Ċ")]
    words = [*MARKS, *alphabet, *("".join(pair) for pair in merges)]
    built = Tokenizer(BPE({word: number for number, word in enumerate(words)}, merges))
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    built.post_processor = processors.ByteLevel(trim_offsets=True)
    built.decoder = decoders.ByteLevel()
    built.add_special_tokens(list(MARKS))
    return built


def chat(template: str = CHATML, **variables: Any) -> Chat:
    """The small tokenizer with this template."""
    from transformers import PreTrainedTokenizerFast

    start, end, text = MARKS
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer(), bos_token=text, eos_token=end, additional_special_tokens=[start]
    )
    wrapped.chat_template = template
    return Chat(wrapped, variables)
