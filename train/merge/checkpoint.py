"""A merged checkpoint in Hugging Face's layout."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path


def merge_checkpoint(base: Path, adapter: Path, out: Path) -> None:
    """Write ``base`` with the PEFT folder ``adapter`` merged into it as the folder ``out``, whole or not at all.

    Raises:
        OSError, ValueError: something cannot be read or written, or the adapter is none of this base.
    """
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    out.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".part", dir=out.parent))
    try:
        model = AutoModelForCausalLM.from_pretrained(base, dtype="auto", local_files_only=True)
        # What is merged in half precision loses small changes; float32 has room for them until they are saved.
        kind = model.dtype
        merged = PeftModel.from_pretrained(model.float(), str(adapter)).merge_and_unload(safe_merge=True)
        merged.to(kind).save_pretrained(part)
        AutoTokenizer.from_pretrained(base, local_files_only=True).save_pretrained(part)
        part.chmod(0o755)
        part.replace(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
