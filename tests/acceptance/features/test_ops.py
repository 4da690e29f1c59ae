"""Operation: the command line, settings, health, many processes, logs, other pages' origins, the package itself."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import tomllib
import zipfile
from pathlib import Path

import httpx
import pytest
import yaml
from tests.acceptance.features.programs import (
    TOKEN,
    Place,
    Program,
    audit,
    cli,
    ended,
    environment,
    events,
    ran,
    sse,
    start,
    ticket_of,
    told,
    until,
)

Served = tuple[Program, httpx.Client]
BEARER = {"Authorization": f"Bearer {TOKEN}"}
ROOT = Path(__file__).parents[3]
EXAMPLE = {
    "name": "three", "nodes": [
        {"id": "one", "kind": "transform", "config": {"template": {"n": "${input.n}"}}},
        {"id": "two", "kind": "transform", "config": {"template": {"n": "${nodes.one.output.n}"}}},
        {"id": "three", "kind": "transform", "config": {"template": {"n": "${nodes.two.output.n}"}}},
    ],
    "edges": [{"from": "one", "to": "two"}, {"from": "two", "to": "three"}],
}  # fmt: skip


SERVE = ("--cors-origin", "https://good.example")


def refused(tmp_path: Path, *argv: str, **env: str) -> str:
    """Run something that must not start, and return what it says."""
    done = subprocess.run(
        [sys.executable, "-m", "tenuto", *argv], capture_output=True, text=True, timeout=30, check=False, cwd=tmp_path,
        env=environment(tmp_path, **env),
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


# --- the command line --------------------------------------------------------------------------------------------


def test_OPS08_OPS09_every_command_of_a_run_as_json(served: Served, tmp_path: Path) -> None:
    server, client = served
    run = told(server, "run", "start", "fine", "--input", '{"x": 1}', "--wait")
    assert run["status"] == "completed"
    assert told(server, "run", "status", run["id"])["id"] == run["id"]
    assert run["id"] in [item["id"] for item in told(server, "run", "list", "--limit", "5")["items"]]
    assert told(server, "run", "list", "--status", "completed")["items"]
    again = told(server, "replay", run["id"], "--from", "b", "--wait")
    assert (again["replay_of"], again["status"]) == (run["id"], "completed")
    kept = told(server, "replay", run["id"], "--from", "1", "--wait")
    assert kept["from_step"] == 1
    assert told(server, "run", "list", "--replay-of", run["id"])["items"]
    assert told(server, "run", "diff", run["id"], again["id"])["n_same_steps"] == 3
    held = start(client, "held", {"path": str(tmp_path / "never")})
    why = told(server, "run", "why", held)
    assert why["status"]
    assert told(server, "run", "cancel", held, "--reason", "enough")["id"] == held
    assert ended(client, held)["status"] == "cancelled"
    asked = start(client, "asks")
    ticket = ticket_of(client, asked)
    assert told(server, "run", "why", asked)["waits"][0]["kind"] == "approval"
    assert told(server, "approve", ticket["id"], "approve", "--reason", "ok")["state"] == "decided"
    assert json.loads(cli(server, "logs", "stream", asked, "--output", "json").stdout)[-1]["type"] == "run.completed"
    for words in (["workflow", "list"], ["usage"], ["tickets", "list"], ["deadletter", "list"], ["version"],
                  ["run", "graph", asked], ["run", "state", asked], ["run", "steps", asked], ["run", "events", asked],
                  ["artifact", "list", asked]):  # fmt: skip
        assert told(server, *words) is not None, words
        compact = cli(server, *words, "--output", "compact").stdout
        assert compact.count("\n") == 1, words


def test_OPS08_exit_codes(served: Served, tmp_path: Path) -> None:
    """0 done, 1 the run failed or the words make no sense, 2 the API refused, 130 interrupted."""
    server, client = served
    assert cli(server, "run", "start", "fine", "-f").returncode == 0
    assert cli(server, "run", "start", "raises", "-f").returncode == 1
    assert cli(server, "run", "strat", "fine").returncode == 1
    unknown = cli(server, "run", "start", "fin")
    assert unknown.returncode == 2
    assert "did you mean 'fine'" in unknown.stderr
    assert cli(server, "run", "status", "nowhere").returncode == 2
    assert cli(server, "run", "list", TENUTO_TOKEN="x" * 20).returncode == 2
    refused_json = cli(server, "run", "status", "nowhere", "--output", "json")
    assert refused_json.returncode == 2
    assert not refused_json.stdout or json.loads(refused_json.stdout)
    run = start(client, "held", {"path": str(tmp_path / "never")})
    following = subprocess.Popen(
        [sys.executable, "-m", "tenuto", "logs", "stream", run], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment(server.home, TENUTO_API_URL=server.url),
    )
    assert following.stdout is not None
    assert following.stdout.readline()
    following.send_signal(signal.SIGINT)
    _, said = following.communicate(timeout=20)
    assert following.returncode == 130
    assert "Traceback" not in said
    assert client.get(f"/runs/{run}").json()["status"] in ("running", "waiting"), "the run itself goes on"
    client.post(f"/runs/{run}/cancel")


def test_OPS10_run_start_f_follows_to_the_end(served: Served, tmp_path: Path) -> None:
    server, client = served
    file = tmp_path / "three.json"
    file.write_text(json.dumps(EXAMPLE))
    done = cli(server, "run", "start", str(file), "--input", '{"n": 7}', "-f")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("step.completed") == 3
    assert done.stdout.index("step.completed") < done.stdout.index("run.completed") < done.stdout.rindex('"n": 7')
    as_json = cli(server, "run", "start", str(file), "--input", '{"n": 7}', "-f", "--output", "json")
    assert json.loads(as_json.stdout)["output"] == {"three": {"n": 7}}
    steps = tmp_path / "steps.yaml"
    steps.write_text("goal: two things\nsteps:\n- {name: a}\n- {name: b, dependsOn: [a]}\n")
    assert json.loads(cli(server, "run", "start", str(steps), "--wait", "--output", "json").stdout)["goal"] == "two things"
    assert client.get("/runs", params={"q": "two things"}).json()["items"]


def test_OPS36_a_list_loads_neither_engine_nor_framework(served: Served) -> None:
    server, _ = served
    code = (
        "import sys; from tenuto.cli.main import main; c = main(['run', 'list', '--output', 'json']);"
        "print(len(sys.modules), *sys.modules, file=sys.stderr); sys.exit(c)"
    )
    env = environment(server.home, TENUTO_API_URL=server.url)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, env=env, check=False)
    assert done.returncode == 0
    loaded = done.stderr.split()[1:]
    assert not {"msgspec", "asyncio", "httpx", "fastapi", "argparse"} & set(loaded)


def test_OPS37_publish_tag_and_retire(served: Served, tmp_path: Path) -> None:
    server, client = served
    file = tmp_path / "w.json"
    file.write_text(json.dumps({**EXAMPLE, "name": "verbs"}))
    first = told(server, "workflow", "publish", str(file))["version"]
    changed = {**EXAMPLE, "name": "verbs", "nodes": [*EXAMPLE["nodes"][:2], {**EXAMPLE["nodes"][2], "config": {"template": "2"}}]}
    file.write_text(json.dumps(changed))
    second = told(server, "workflow", "publish", str(file))["version"]
    assert first != second
    assert told(server, "workflow", "tag", "verbs", "prod", first)["version"] == first
    assert told(server, "run", "start", "verbs", "--tag", "prod", "--input", '{"n": 1}', "--wait")["version"] == first
    assert told(server, "run", "start", "verbs", "--input", '{"n": 1}', "--wait")["version"] == second
    told(server, "workflow", "retire", "verbs", "--version", second)
    gone = cli(server, "run", "start", "verbs", "--tag", second)
    assert gone.returncode == 2
    assert "retired" in gone.stderr
    told(server, "workflow", "retire", "verbs")
    assert cli(server, "run", "start", "verbs", "--tag", "prod").returncode == 2
    assert [run["status"] for run in client.get("/runs", params={"workflow": "verbs"}).json()["items"]] == ["completed"] * 2


# --- settings ----------------------------------------------------------------------------------------------------


def test_OPS11_every_bad_setting_is_told_at_once_and_nothing_starts(tmp_path: Path) -> None:
    (tmp_path / "tenuto.toml").write_text('lease_s = 0\nstop_grace_s = "soon"\ncolour = "red"\nmax_body_bytes = 1\n')
    said = refused(
        tmp_path, "serve", "--port", "99999", TENUTO_TOKEN="short-secret", TENUTO_CONCURRENCY="-4", TENUTO_LOG_LEVEL="loud",
        TENUTO_DATABASE_URL="mysql://x/y", TENUTO_PROT="1", TENUTO_CORS_ORIGINS="https://*.example/x",
    )
    for word in ("lease_s", "stop_grace_s", "colour", "max_body_bytes", "--port", "TENUTO_TOKEN", "TENUTO_CONCURRENCY",
                 "TENUTO_LOG_LEVEL", "TENUTO_DATABASE_URL", "TENUTO_PROT", "TENUTO_CORS_ORIGINS"):  # fmt: skip
        assert word in said, f"{word} is not told:\n{said}"
    assert "short-secret" not in said
    assert "TENUTO_PORT" in said, "the nearest name"
    assert not (tmp_path / "t.db").exists()
    assert not (tmp_path / "server.json").exists()


def test_OPS11_flags_beat_environment_beat_file(tmp_path: Path) -> None:
    (tmp_path / "tenuto.toml").write_text('log_format = "json"\nhost = "127.0.0.1"\nport = 1\n')
    with Place(tmp_path, f"sqlite:///{tmp_path}/t.db", "odd_app:app") as place:
        program = place.serve("--log-level", "debug", env={"TENUTO_CONFIG": str(tmp_path / "tenuto.toml")})
        place.client(program).get("/runs")
        line = until("a line of JSON", lambda: [x for x in program.text().splitlines() if '"GET /api/v1/runs' in x])[0]
        assert json.loads(line)["status"] == 200


def test_OPS11_an_app_that_is_not_there_or_not_valid_does_not_start(tmp_path: Path) -> None:
    assert "did you mean odd_app:app" in refused(tmp_path, "serve", "odd_app:ap")
    assert "no module 'odd_ap'" in refused(tmp_path, "worker", "odd_ap:app")
    (tmp_path / "bad.py").write_text(
        "import tenuto\napp = tenuto.App()\n"
        "app.workflow('w').node('a', 'nope').edge('a', 'b').edge('c', 'a')\n"
    )
    said = refused(tmp_path, "serve", "bad:app")
    assert "nope" in said
    assert "'b'" in said
    assert "'c'" in said


def test_OPS17_no_auth_is_for_loopback_only(tmp_path: Path) -> None:
    assert "loopback" in refused(tmp_path, "serve", "--no-auth", "--host", "0.0.0.0", TENUTO_TOKEN="")
    with Place(tmp_path, f"sqlite:///{tmp_path}/t.db", "odd_app:app") as place:
        server = place.serve("--no-auth", env={"TENUTO_TOKEN": ""})
        assert httpx.get(f"{server.url}/api/v1/runs").status_code == 200
        rebound = httpx.get(f"{server.url}/api/v1/runs", headers={"Host": "evil.example"})
        assert rebound.status_code in (400, 403, 421), "a name that is rebound to loopback opens nothing"
        crossed = httpx.post(f"{server.url}/api/v1/runs", json={"workflow": "fine"}, headers={"Origin": "https://evil.example"})
        assert crossed.status_code == 403


def test_OPS17_the_references_own_words(served: Served) -> None:
    server, client = served
    with httpx.Client(base_url=server.url, headers=BEARER, follow_redirects=True) as short:
        run = short.post("/runs", json={"graph": "fine", "input": {}}).json()["id"]
        assert ended(client, run)["status"] == "completed"
        assert short.get(f"/runs/{run}").json()["id"] == run
        again = short.post(f"/runs/{run}/replay", json={"fromStep": 2}).json()
        assert ended(client, again["id"])["from_step"] == 2
        assert short.get("/health").status_code == 200
    both = client.post("/runs", json={"graph": "fine", "workflow": "fine"})
    assert both.status_code == 422
    aob = Path(sys.executable).parent / "aob"
    done = subprocess.run([aob, "run", "list", "--output", "json"], capture_output=True, text=True, check=False,
                          env=environment(server.home, TENUTO_API_URL=server.url))  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["items"]


# --- health, origins, limits --------------------------------------------------------------------------------------


def test_OPS12_health_needs_no_token(served: Served) -> None:
    server, _ = served
    assert httpx.get(f"{server.url}/healthz").json()["status"] == "ok"
    assert httpx.get(f"{server.url}/readyz").json()["status"] == "ready"
    assert httpx.get(f"{server.url}/api/v1/runs").status_code == 401
    assert httpx.get(f"{server.url}/api/v1/runs", headers={"Authorization": "Bearer wrong"}).status_code == 401


def test_OPS22_listed_origins_may_call_others_not(served: Served) -> None:
    server, _ = served
    good, evil = "https://good.example", "https://evil.example"
    with httpx.Client(base_url=server.url, headers=BEARER) as client:
        answer = client.get("/api/v1/runs", headers={"Origin": good})
        assert answer.headers["access-control-allow-origin"] == good
        assert "Origin" in answer.headers["vary"]
        other = client.get("/api/v1/runs", headers={"Origin": evil})
        assert "access-control-allow-origin" not in other.headers
        ask = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        assert client.options("/api/v1/runs", headers={"Origin": good, **ask}).headers["access-control-allow-origin"] == good
        assert "access-control-allow-origin" not in client.options("/api/v1/runs", headers={"Origin": evil, **ask}).headers
        assert client.post("/api/v1/runs", json={"workflow": "fine"}, headers={"Origin": evil}).status_code == 403


def test_OPS22_the_rate_limit_is_a_setting(tmp_path: Path) -> None:
    with Place(tmp_path, f"sqlite:///{tmp_path}/t.db", "odd_app:app") as place:
        client = place.client(place.serve(env={"TENUTO_RATE_LIMIT": "5"}))
        answers = [client.get("/runs") for _ in range(12)]
        codes = [answer.status_code for answer in answers]
        assert codes[:5] == [200] * 5
        assert 429 in codes
        full = next(answer for answer in answers if answer.status_code == 429)
        assert full.json()["code"] == "limit.exhausted"
        assert int(full.headers["retry-after"]) >= 1
        assert httpx.get(str(client.base_url).replace("/api/v1/", "/healthz")).status_code == 200
    assert "rate_limit" in refused(tmp_path, "serve", TENUTO_RATE_LIMIT="-1").lower()


# --- many processes ----------------------------------------------------------------------------------------------


def test_OPS14_runs_spread_over_workers_and_keep_their_order(tmp_path: Path, both_url: str) -> None:
    with Place(tmp_path, both_url, "odd_app:app") as place:
        client = place.client(place.serve("--workers", "0"))
        workers = [place.start("worker", env={"TENUTO_MAX_RUNS": "3"}) for _ in range(2)]
        for worker in workers:
            worker.says("is ready")
        gate = tmp_path / "gate"
        runs = [start(client, "held", {"path": str(gate)}) for _ in range(6)]

        def holding() -> bool:
            return all(events(client, run, node="holds", type="step.started") for run in runs)

        until("all six hold at once, more than one worker takes", holding)
        gate.touch()
        owners = set()
        for run in runs:
            assert ended(client, run)["status"] == "completed"
            trail = audit(client, run)["entries"]
            owners |= {entry["worker"] for entry in trail if entry["worker"]}
            assert [e["node"] for e in events(client, run, type="step.completed")] == ["first", "holds", "end"]
        assert len(owners) == 2


def test_OPS33_two_servers_show_the_same_and_one_may_die(tmp_path: Path, both_url: str) -> None:
    gate = tmp_path / "gate"
    with Place(tmp_path, both_url, "odd_app:app") as place:
        first, second = place.serve(), place.serve()
        one, other = place.client(first), place.client(second)
        run = start(one, "held", {"path": str(gate)})
        until("the other shows it hold", lambda: events(other, run, node="holds", type="step.started"))
        seen = []
        with pytest.raises(httpx.TransportError), one.stream("GET", f"/runs/{run}/stream") as answer:
            for event in sse(answer.iter_lines()):
                seen.append(event)
                if event[1] == "step.started" and event[2]["node"] == "holds":
                    first.kill()
        killed = time.monotonic()
        gate.touch()
        with other.stream("GET", f"/runs/{run}/stream", headers={"Last-Event-ID": seen[-1][0]}) as answer:
            seen += list(sse(answer.iter_lines()))
        assert seen[-1][1] == "run.completed"
        assert [e[0] for e in seen] == [e["id"] for e in events(other, run)]
        assert time.monotonic() - killed < 12, "taken over within the lease and a second; here the lock file tells at once"
        story = [entry["type"] for entry in audit(other, run)["entries"]]
        assert "run.lease_taken" in story
        assert other.get("/audit/verify", params={"run": run}).json()["ok"]


# --- logs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["text", "json"])
def test_OPS40_logs_have_ids_and_never_secrets(tmp_path: Path, form: str) -> None:
    secret = "hunter2-hunter2-hunter2"
    with Place(tmp_path, f"sqlite:///{tmp_path}/t.db", "odd_app:app") as place:
        server = place.serve("--log-format", form, "--log-level", "debug")
        client = place.client(server)
        view = ran(client, "secretive", {"password": secret})
        assert view["status"] == "completed"
        token = client.post(f"/runs/{view['id']}/stream-token").json()["token"]
        client.get(f"/runs/{view['id']}/stream", params={"token": token})
        httpx.get(f"{server.url}/api/v1/runs", headers={"Authorization": f"Bearer {secret}"})
        client.get("/runs", headers={"X-Request-Id": "req-7"})
        text = server.says("req-7")
        assert server.stop() == 0
        text = server.text()
    assert secret not in text
    assert TOKEN not in text
    assert token not in text
    lines = [line for line in text.splitlines() if "GET /api/v1/runs/" in line]
    assert any(view["id"] in line for line in lines)
    mine = next(line for line in text.splitlines() if "req-7" in line)
    if form == "json":
        entry = json.loads(mine)
        assert (entry["request_id"], entry["method"], entry["path"], entry["status"]) == ("req-7", "GET", "/api/v1/runs", 200)
        run_line = json.loads(next(line for line in lines if f"/runs/{view['id']}" in line))
        assert run_line["run"] == view["id"]
    else:
        assert "fields=" not in mine
        assert mine.count("200") == 1
        assert mine.count("/api/v1/runs") == 1


# --- the project ---------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not (ROOT / "bench" / "RESULTS.md").exists(), reason="make bench has not been run yet")
def test_OPS16_targets_are_stated_and_measured() -> None:
    text = (ROOT / "bench" / "RESULTS.md").read_text(encoding="utf-8")
    for word in ("SQLite", "Postgres", "probe", "DBOS"):
        assert word in text


def test_OPS42_a_pull_request_is_blocked_on_red() -> None:
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    flow = yaml.safe_load(text)
    triggers = flow.get("on") or flow[True]  # YAML 1.1 reads `on` as true
    assert "pull_request" in triggers
    steps = [step.get("run", "") for job in flow["jobs"].values() for step in job["steps"]]
    assert any("make test" in step for step in steps)
    assert [str(v) for v in flow["jobs"]["test"]["strategy"]["matrix"]["python"]] == ["3.11", "3.12", "3.13"]


def test_OPS43_the_wheel_has_licence_types_and_sql_and_runs_the_demo(tmp_path: Path) -> None:
    """Built as it would be published; installed beside its dependencies in an environment without the sources."""
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")],
        cwd=ROOT, capture_output=True, text=True, timeout=100, check=False,
    )
    assert built.returncode == 0, built.stderr
    wheel = next((tmp_path / "dist").glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(name for name in names if name.endswith("METADATA"))).decode()
        site = tmp_path / "site"
        archive.extractall(site)
    assert "tenuto/py.typed" in names
    assert [name for name in names if name.endswith("licenses/LICENSE")]
    assert "License-Expression: MIT" in metadata
    for backend in ("sqlite", "postgres"):
        assert [n for n in names if n.startswith(f"tenuto/adapters/stores/{backend}/") and n.endswith("queries.sql")]
        assert [n for n in names if f"stores/{backend}/migrations/" in n and n.endswith(".sql")]
    assert {"tenuto/api/static/index.html", "tenuto/api/static/page.js", "tenuto/api/static/page.css"} <= set(names)
    assert not [name for name in names if name.startswith(("tests/", "bench/"))]
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert wheel.name.startswith(f"tenuto-{version}")
    env = {**environment(tmp_path / "home"), "PYTHONPATH": str(site)}
    where = subprocess.run(
        [sys.executable, "-c", "import tenuto; print(tenuto.__file__)"], capture_output=True, text=True, env=env, cwd=tmp_path,
        check=True,
    )
    assert where.stdout.startswith(str(site)), "what runs is the wheel's"
    demo = subprocess.run(
        [sys.executable, "-m", "tenuto", "demo", "--exit"], capture_output=True, text=True, env=env, cwd=tmp_path,
        timeout=100, check=False,
    )
    assert demo.returncode == 0, demo.stdout + demo.stderr
