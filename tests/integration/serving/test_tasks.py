"""A task as an application of its own beside models, on real Ray Serve."""

from __future__ import annotations

from tests.group import Group, echo, gateway, task_application


def test_a_task_joins_answers_changes_and_leaves_while_the_group_runs(group: Group) -> None:
    group.deploy(gateway(), echo("first", tokens=3))
    missing = group.client.get("/v1/languages")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "task_not_deployed")

    model = group.replicas("first")
    group.deploy(
        gateway(),
        echo("first", tokens=3),
        task_application("translation", user_config={"model": "first"}),
        states={"first": "ready"},
    )
    group.until(lambda: group.client.get("/v1/languages").status_code == 200, "the task answers")
    assert group.replicas("first") == model, "the model was not touched"
    found = group.client.post("/v1/detect", json={"text": "Where is the nearest railway station?"}).json()
    assert found["data"][0]["language"] == "en"

    asked = {"text": "Hello {name}, good morning to you.", "source_lang": "en", "target_lang": "de"}
    answer = group.client.post("/v1/translate", json=asked)
    assert answer.status_code == 200, answer.text
    [one] = answer.json()["translations"]
    # The echo model says the same to everything and keeps no mark; what is kept is kept nevertheless.
    assert one["text"] == "token0 token1 token2 {name}, token0 token1 token2"
    assert answer.headers["x-groupqwen-model"] == "translation"
    health = group.client.get("/v1/health").json()
    assert health["tasks"]["translation"]["state"] == "ready" and "translation" not in health["models"]
    # A task's own address is closed to clients.
    assert group.client.get("/t/translation/v1/languages").status_code == 403

    task = group.replicas("translation")
    group.deploy(
        gateway(),
        echo("first", tokens=3),
        task_application("translation", user_config={"model": "first", "max_texts": 1}),
        states={"first": "ready"},
    )
    many = {**asked, "text": ["one", "two"]}
    group.until(lambda: group.client.post("/v1/translate", json=many).status_code == 400, "the new limit counts")
    assert group.replicas("translation") == task, "nothing was restarted"
