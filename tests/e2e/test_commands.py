"""The commands of the README, and what a user does next in a shell of his own."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import httpx
import pytest
import yaml

from serve.launch.ray_node import port_open
from tests.e2e.conftest import script
from tests.group import ROOT, Group

#: A shell block of the README, with the words that its output must hold, told in a comment before it.
_TESTED = re.compile(r"<!-- prints: (.+?) -->\s*```bash\n(.+?)```", re.DOTALL)


def shell(text: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run lines in a fresh shell."""
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=300,
    )


def test_start_prints_the_addresses_and_a_curl_line_that_works(started: str, environment: dict[str, str]) -> None:
    for address in ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/docs", "http://127.0.0.1:8265"):
        assert address in started
    line = started[started.index("  curl") : started.index("For `serve deploy`")]
    done = shell(line, environment)
    assert done.returncode == 0 and "Tokyo" in done.stdout, done.stdout + done.stderr


def test_every_marked_block_of_the_readme_prints_what_it_says(group: Group, environment: dict[str, str]) -> None:
    blocks = _TESTED.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(blocks) >= 5
    for expected, text in blocks:
        done = shell(text, environment)
        assert done.returncode == 0, text + done.stdout + done.stderr
        for words in expected.split(" | "):
            assert words in done.stdout, f"{words!r} is not in the output of\n{text}\n{done.stdout}"


@pytest.mark.parametrize("model", ["smollm2-135m", "qwen2.5-coder-0.5b", "auto"])
def test_each_model_knows_the_capital_of_france(group: Group, model: str) -> None:
    body = {"model": model, "messages": [{"role": "user", "content": "What is the capital of Japan?"}]}
    answer = group.client.post("/v1/chat/completions", json=body)
    assert "Tokyo" in answer.json()["choices"][0]["message"]["content"]


def test_a_second_start_keeps_what_runs(group: Group, environment: dict[str, str]) -> None:
    before = {name: group.replicas(name) for name in group.details()}
    done = script("start.sh", environment=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {name: group.replicas(name) for name in group.details()} == before


def test_the_printed_line_makes_serve_and_ray_work_in_a_fresh_shell(
    group: Group, home: Path, environment: dict[str, str]
) -> None:
    bare = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": environment["HOME"]}
    source = f"source {home}/run/env\n"
    status = shell(source + "serve status", bare)
    count = len(yaml.safe_load((ROOT / "configs" / "local.yaml").read_text(encoding="utf-8"))["applications"])
    assert status.returncode == 0, status.stderr
    assert status.stdout.count("status: RUNNING") == count, status.stdout
    before = {name: group.replicas(name) for name in group.details()}
    deploy = shell(source + "serve deploy configs/local.yaml", bare)
    assert deploy.returncode == 0, deploy.stderr
    job = shell(source + "ray job submit -- python -c 'print(\"a job\", 6 * 7)'", bare)
    assert job.returncode == 0 and "a job 42" in job.stdout, job.stdout + job.stderr
    assert {name: group.replicas(name) for name in group.details()} == before, "what runs already was not touched"


def test_the_dashboard_answers_and_its_api_wants_the_token(group: Group) -> None:
    assert httpx.get("http://127.0.0.1:8265/").status_code == 200
    assert httpx.get("http://127.0.0.1:8265/api/jobs/").status_code == 401


def test_a_config_with_a_fault_is_refused_before_anything_starts(tmp_path: Path, environment: dict[str, str]) -> None:
    faulty = tmp_path / "faulty.yaml"
    text = (ROOT / "configs" / "local.yaml").read_text(encoding="utf-8")
    faulty.write_text(text.replace("slots: 8", "slotz: 8"), encoding="utf-8")
    done = script("start.sh", str(faulty), environment=environment)
    assert done.returncode == 1
    assert "engine.slotz: unknown key; did you mean 'slots'?" in done.stderr
    missing = script("start.sh", str(tmp_path / "none.yaml"), environment=environment)
    assert missing.returncode == 1 and "No such file" in missing.stderr


def test_another_port_is_refused_while_the_group_runs(group: Group, environment: dict[str, str]) -> None:
    done = script("start.sh", "--port", "8099", environment=environment)
    assert done.returncode == 1 and "scripts/stop.sh" in done.stderr


def test_help_says_how_without_doing_anything(environment: dict[str, str]) -> None:
    done = script("start.sh", "--help", environment=environment)
    assert done.returncode == 0 and "--foreground" in done.stdout


def test_stop_says_so_when_nothing_runs(tmp_path: Path, environment: dict[str, str]) -> None:
    done = script("stop.sh", environment={**environment, "GROUPQWEN_HOME": str(tmp_path)})
    assert done.returncode == 0 and "nothing runs" in done.stdout
    assert port_open(8000), "another home's group was stopped"
