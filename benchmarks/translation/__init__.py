"""Translation by the task against the same model asked plainly: chrF++, BLEU, and whether form is kept.

``sentences.tsv`` has 24 English sentences with a translation into eight languages, ``formats.jsonl`` 60 texts with
what must be found in their translations; both were written for this project. Plainly is one chat completion with the
text and the wish for a translation and nothing else. Sampling is greedy on both sides.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import Any, TypeVar

import httpx
import orjson
import yaml

from benchmarks import group, machine
from benchmarks.folders import temporary_folder
from benchmarks.options import count
from benchmarks.processes import say
from benchmarks.rounds import publish
from benchmarks.translation import scores
from benchmarks.translation.sets import Case, Sentence, cases, sentences
from benchmarks.translation.sides import SIDES, Ask

SUMMARY = "translation by the task against the same model asked plainly"

_AT_ONCE = 4
_TIMEOUT = 300.0

T = TypeVar("T", Sentence, Case)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--model", default="qwen2.5-coder-0.5b", help="a model of configs/local.yaml (default: %(default)s)"
    )
    parser.add_argument("--languages", nargs="+", metavar="CODE", help="of the sentences (default: all eight)")
    parser.add_argument("--sentences", type=count, default=24, help="how many of the 24 (default: 24)")
    parser.add_argument("--cases", type=count, default=60, help="how many of the 60 format cases (default: 60)")
    parser.add_argument("--port", type=int, default=8100, help="the group's port (default: 8100)")
    parser.add_argument("--url", help="ask this running group, and start none")
    parser.add_argument("--out", type=Path, metavar="FILE", help="append the tables to this file, too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every translation to this file")


def run(options: argparse.Namespace) -> None:
    """Measure and write the tables.

    Raises:
        BenchmarkError, LaunchError, SettingsError: something could not be started or measured.
    """
    facts = {**machine.facts(), "model": options.model}
    if options.url:
        found = asyncio.run(_measure(options.url, "", options))
    else:
        group.require_no_ray(options.port)
        with temporary_folder() as folder, group.running(_config(options.port, options.model), folder) as key:
            found = asyncio.run(_measure(f"http://127.0.0.1:{options.port}", key, options))
    text = scores.markdown(facts, found)
    publish(text, options.out)
    if options.json:
        options.json.write_bytes(orjson.dumps(found.data(), option=orjson.OPT_INDENT_2))


def _config(http_port: int, model: str) -> dict[str, Any]:
    """The model, in one replica, and the translation task of ``configs/local.yaml``."""
    raw = yaml.safe_load((machine.ROOT / "configs" / "local.yaml").read_text(encoding="utf-8"))
    chosen = [one for one in raw["applications"] if one["name"] in (model, "translation")]
    for one in chosen:
        [deployment] = one["deployments"]
        if one["name"] == "translation":
            deployment["user_config"]["model"] = model
        else:
            deployment["autoscaling_config"]["max_replicas"] = 1
    return group.config(http_port, chosen)


async def _measure(url: str, key: str, options: argparse.Namespace) -> scores.Found:
    wanted = [
        one
        for one in sentences()
        if one.number < options.sentences and (not options.languages or one.target in options.languages)
    ]
    headers = {"authorization": f"Bearer {key}"} if key else {}
    gate = asyncio.Semaphore(_AT_ONCE)
    found = scores.Found()
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=_TIMEOUT) as client:
        for side, ask in SIDES.items():
            found.sentences[side] = await _all(client, ask, options.model, wanted, gate)
            say(f"{side}: {len(wanted)} sentences are translated")
            found.cases[side] = await _all(client, ask, options.model, cases()[: options.cases], gate)
            say(f"{side}: {len(found.cases[side])} format cases are translated")
    return found


async def _all(
    client: httpx.AsyncClient, ask: Ask, model: str, wanted: list[T], gate: asyncio.Semaphore
) -> list[tuple[T, str]]:
    """Everything translated, a few at once."""

    async def one(item: T) -> tuple[T, str]:
        async with gate:
            return item, await ask(client, model, item.text, item.target, item.format)

    return list(await asyncio.gather(*map(one, wanted)))
