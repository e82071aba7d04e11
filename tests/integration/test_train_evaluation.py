"""Evaluation and merging on a real model: what the training side measures, and a wrong serving side caught."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from serve.adapters.files import version_in
from serve.adapters.manifest import Base
from serve.adapters.registry import Registry
from serve.models import local_path
from serve.replica.adapters import Adapters
from serve.settings.model import ModelSettings, ModelUserConfig
from tests.group import ROOT
from tests.llamacpp import chat as request
from tests.llamacpp import events_of, loaded, text
from tests.peft import SURE, random_adapter
from tests.unit.gateway.group import group, listening
from tests.unit.replica.models import replica
from train.adapters import publish
from train.dataset.formats import Chat
from train.evaluate import command as evaluate
from train.evaluate.report import Report
from train.evaluate.run import Evaluation, Subject
from train.evaluate.served import Served, ServedError
from train.evaluate.settings import EvaluationSettings
from train.evaluate.stack import Stack
from train.finetune.recipe import load_recipe
from train.merge import __main__ as merge
from train.merge.checkpoint import merge_checkpoint
from train.merge.gguf_file import merge_gguf
from train.run_folder import RunFolder
from train.worker.weights import WeightKind

MODEL = "smollm2-135m"
FLOATS = WeightKind("float32")
SYSTEM = "You are a helpful assistant."
QUESTIONS = (
    "What is the capital of France?",
    "Name a color.",
    "What do cows eat?",
    "Say hello. 🙂",
    "What is 2 + 2?",
)
MESSAGES = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": QUESTIONS[0]}]


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that changes a little: what changes much at random also makes much of rounding."""
    return random_adapter(tmp_path_factory.mktemp("peft") / "a", seed=SURE[0], size=0.015)


@pytest.fixture(scope="module")
def stack(smollm2_checkpoint: Path, adapter: Path) -> Stack:
    return Stack(smollm2_checkpoint, adapter, Chat.load(str(smollm2_checkpoint)), 4, FLOATS)


@pytest.fixture
def settings(tmp_path: Path) -> EvaluationSettings:
    rows = [
        {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": "I like green grass."}]}
        for asked in QUESTIONS
    ]
    held_out, prompts = tmp_path / "held-out.jsonl", tmp_path / "prompts.txt"
    held_out.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    prompts.write_text("What is rain?\nWhy do cats sleep?\n", encoding="utf-8")
    return EvaluationSettings.model_validate(
        {
            "held_out": [str(held_out)],
            "general": {"prompts": str(prompts), "max_tokens": 12},
            "agreement": {"prompts": 5, "tokens": 5},
            "samples": 2,
            "system_prompt": SYSTEM,
        }
    )


@contextmanager
def no_bar(title: str, total: int) -> Iterator[object]:
    yield lambda count: None


@asynccontextmanager
async def serving(model: ModelSettings, folder: Path, served: Path) -> AsyncIterator[str]:
    """A gateway over the real llama.cpp handler, with ``served`` published as the adapter ``a``."""
    registry = Registry(folder / "registry")
    registry.publish(Base(model=MODEL), "a", served)
    async with loaded(model, context=512, slots=4, threads=2) as handler, group(folder / "group", handler) as found:
        adapters = Adapters(handler, registry, folder / "copies")
        adapters.configure(ModelUserConfig())
        adapters.start()
        try:
            found.transport.apps[MODEL] = replica(handler, adapters).asgi
            async with listening(found.app) as address:
                async with asyncio.timeout(60):
                    while adapters.version_of("a") is None:
                        await asyncio.sleep(0.05)
                yield f"http://{address}"
        finally:
            await adapters.close()


async def evaluated(base: Path, adapter: Path, settings: EvaluationSettings, url: str) -> Report:
    subject = Subject(MODEL, "a", base, adapter, version_in(adapter), FLOATS)
    evaluation = Evaluation(subject, settings, Served(url), no_bar)  # type: ignore[arg-type]
    return await asyncio.to_thread(evaluation.run)


def failed(report: Report) -> set[str]:
    return {check.name for check in report.checks if not check.passed}


@pytest.mark.timeout(400)
async def test_what_is_served_agrees_with_what_was_trained_and_another_adapter_does_not(
    smollm2_settings: ModelSettings,
    smollm2_checkpoint: Path,
    adapter: Path,
    settings: EvaluationSettings,
    tmp_path: Path,
) -> None:
    async with serving(smollm2_settings, tmp_path / "right", adapter) as url:
        assert await asyncio.to_thread(Served(url).has, f"{MODEL}:a", version_in(adapter))
        assert not await asyncio.to_thread(Served(url).has, f"{MODEL}:a", "0" * 16)
        assert not await asyncio.to_thread(Served(url).has, f"{MODEL}:b", version_in(adapter))
        report = await evaluated(smollm2_checkpoint, adapter, settings, url)
        with pytest.raises(ServedError, match="404"):
            await asyncio.to_thread(Served(url).answer, f"{MODEL}:none", [MESSAGES], 4)
    assert "logprob_distance" not in failed(report)
    assert report.measured.agreement is not None and report.measured.agreement.tokens >= 15
    assert len(report.samples) == 2 and report.samples[0].wanted == "I like green grass."

    other = random_adapter(tmp_path / "other", seed=SURE[0])
    async with serving(smollm2_settings, tmp_path / "wrong", other) as url:
        wrong = await evaluated(smollm2_checkpoint, adapter, settings, url)
    assert {"agreement", "logprob_distance"} <= failed(wrong) and not wrong.passed
    # It is the adapter: the bases are as near to each other as ever.
    assert wrong.measured.agreement is not None and wrong.measured.agreement.base is not None
    assert wrong.measured.agreement.base.distance < 0.1 < wrong.measured.agreement.distance


def test_a_batch_scores_and_answers_as_each_does_alone(stack: Stack) -> None:
    prompts = [stack.chat.render([{"role": "user", "content": one}], prompt=True) for one in QUESTIONS]
    together = stack.answer(prompts, 5, tuned=True)
    assert together == [stack.answer([prompt], 5, tuned=True)[0] for prompt in prompts]


@pytest.mark.timeout(400)
async def test_a_merged_model_says_what_base_and_adapter_say(
    smollm2_settings: ModelSettings, smollm2_checkpoint: Path, adapter: Path, stack: Stack, tmp_path: Path
) -> None:
    [expected] = stack.answer([stack.chat.render(MESSAGES, prompt=True)], 5, tuned=True)

    merge_checkpoint(smollm2_checkpoint, adapter, tmp_path / "merged")
    nothing = random_adapter(tmp_path / "nothing", size=0.0)
    merged = Stack(tmp_path / "merged", nothing, Chat.load(str(tmp_path / "merged")), 4, FLOATS)
    assert merged.answer([merged.chat.render(MESSAGES, prompt=True)], 5, tuned=True) == [expected]

    assert smollm2_settings.weights is not None
    base = local_path(MODEL, smollm2_settings.weights)
    files = {kind: tmp_path / f"{kind}.gguf" for kind in ("kept", "q8_0")}
    merge_gguf(base, adapter, files["kept"], None)
    merge_gguf(base, adapter, files["q8_0"], "q8_0")
    assert files["kept"].stat().st_size > files["q8_0"].stat().st_size > base.stat().st_size
    for file in files.values():
        weights = {
            "file": file.name,
            "bytes": file.stat().st_size,
            "sha256": "0" * 64,
            "sources": [{"path": str(file)}],
        }
        model = ModelSettings.model_validate({"id": file.stem, "handler": "llamacpp", "weights": weights})
        async with _at(file, model) as said:
            assert said == expected


@asynccontextmanager
async def _at(file: Path, model: ModelSettings) -> AsyncIterator[str]:
    """What the GGUF file answers."""
    from serve.handlers.llamacpp import handler as module

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "local_path", lambda id, weights: file)
        async with loaded(model, context=256, slots=1, threads=2) as handler:
            yield text(await events_of(handler, request(MESSAGES, max_tokens=5)))


@pytest.mark.timeout(400)
def test_the_commands_take_the_folder_of_a_finished_run(
    adapter: Path, settings: EvaluationSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run-1"
    shutil.copytree(adapter, run / "adapter")
    recipe = load_recipe(str(ROOT / "configs/train/smollm2-135m.yaml"), [f"data.train={settings.held_out}"])
    (run / "config.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    (run / "adapter" / "groupqwen.json").write_text('{"base": {"model": "smollm2-135m"}}', encoding="utf-8")
    colors = tmp_path / "colors.jsonl"
    colors.write_text('{"prompt": "Name a color.", "pattern": "(?i)color|red|blue|green"}\n', encoding="utf-8")
    config = settings.model_dump(mode="json", exclude={"agreement", "variables", "trained"})
    config["tasks"] = [{"name": "colors", "file": "colors.jsonl", "kind": "regex", "max_tokens": 8}]
    (tmp_path / "evaluation.yaml").write_text(json.dumps(config), encoding="utf-8")

    # Nothing was compared with serving, so it cannot pass.
    assert evaluate.main([str(run), "--config", str(tmp_path / "evaluation.yaml")]) == 3
    assert "FAIL  agreement: not measured" in capsys.readouterr().out
    report = json.loads((run / "evaluation" / "evaluation.json").read_bytes())
    assert report["held_out"]["tokens"] > 10 and report["general"]["prompts"] == 2
    assert [task["questions"] for task in report["tasks"]] == [1]
    assert (run / "evaluation" / "evaluation.html").read_text(encoding="utf-8").startswith("<!doctype html>")

    registry = Registry(tmp_path / "registry")
    manifest = publish(RunFolder.of(str(run)), registry=registry)
    assert registry.verify(MODEL, "run-1") == manifest and manifest.evaluation["gate"]["passed"] is False
    assert manifest.evaluation["version"] == report["version"] == manifest.version
    assert "answers" not in manifest.evaluation["tasks"][0]

    assert merge.main([str(run), "--format", "safetensors", "--out", str(tmp_path / "merged")]) == 0
    assert (tmp_path / "merged" / "model.safetensors").is_file()
    for wrong in (["safetensors", "--quantization", "q8_0"], ["gguf"]):
        with pytest.raises(SystemExit) as raised:
            merge.main([str(run), "--out", str(tmp_path / "other"), "--format", *wrong])
        assert raised.value.code == 2
    assert evaluate.main([str(tmp_path / "nowhere")]) == 1
    assert "is it the folder of a finished run?" in capsys.readouterr().err
