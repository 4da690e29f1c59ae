"""Finding commands, complaining about bad usage, and the exit code of each kind of end."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import pytest

import tenuto
from tenuto.cli.examples import EXAMPLES
from tenuto.cli.main import main
from tenuto.cli.parse import Parser, find_command, load
from tenuto.cli.table import COMMANDS, GROUPS, SECTIONS


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_shows_its_help(words, capsys):
    """Each command of the table loads, and its help names it."""
    assert main([*words.split(), "--help"]) == 0
    assert f"usage: tenuto {words}" in capsys.readouterr().out


def test_every_command_has_an_example_that_fits_it(capsys):
    """Help ends with an example, and the command's own parser takes it."""
    assert set(EXAMPLES) == set(COMMANDS)
    for words, example in EXAMPLES.items():
        main([*words.split(), "--help"])
        assert capsys.readouterr().out.endswith(f"example:\n  {example}\n"), words
        program, *argv = shlex.split(example)
        found, others = find_command(argv)
        assert (program, found) == ("tenuto", words)
        declare, _ = load(words)
        parser = Parser(words)
        declare(parser)
        parser.everywhere()
        parser.read(others)


def test_every_command_stands_in_the_overview(capsys):
    """No command is left out of the help of `tenuto` itself."""
    listed = {name for _, names in SECTIONS for name in names}
    assert listed == {words.partition(" ")[0] for words in COMMANDS}
    assert main([]) == 0
    overview = capsys.readouterr().out
    assert all(words.rpartition(" ")[2] in overview for words in COMMANDS)


def test_no_command_redeclares_an_option_for_everywhere():
    """The parser of each command can be built."""
    for words in COMMANDS:
        declare, _ = load(words)
        parser = Parser(words)
        declare(parser)
        parser.everywhere()


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_alone_lists_its_commands(group, cli):
    """Half a command is bad usage, told by what would complete it."""
    told = cli(group, bare=True)
    assert (told.code, told.out) == (1, "")
    assert f"tenuto {group} COMMAND" in told.err
    assert cli(group, "--help", bare=True).code == 0


@pytest.mark.parametrize(
    ("argv", "hint"),
    [
        (["rnu"], "tenuto run"),
        (["run", "lst"], "tenuto run list"),
        (["list"], "tenuto run list"),
        (["logs", "r1"], "tenuto logs stream r1"),
        (["run", "list", "--statsu", "failed"], "--status"),
        (["--limit", "3", "run", "list"], "after the command"),
        (["run", "list", "--output", "yaml"], "invalid choice"),
        (["run", "status"], "required"),
        (["run", "status", "a", "b"], "'b'"),
    ],
)
def test_bad_usage_names_the_way_out(argv, hint, cli):
    """A mistyped command or option ends with 1 and the nearest right one."""
    told = cli(*argv, bare=True)
    assert (told.code, told.out) == (1, "")
    assert hint in told.err


def test_output_is_accepted_before_and_after_the_command(server, cli):
    """Where `--output` stands makes no difference."""
    server.on("GET", "/runs", {"items": [], "next_cursor": None})
    before = cli("--output", "json", "run", "list")
    between = cli("run", "--output=json", "list")
    after = cli("run", "list", "--output", "json")
    assert before.json == between.json == after.json == {"items": [], "next_cursor": None}
    assert before.err == ""


def test_a_refusal_shows_every_problem_and_ends_with_2(server, cli, reply):
    """Problem details reach the person with place, message, hint and nearest match."""
    problem = {
        "title": "unknown workflow 'triagee'", "status": 404, "code": "workflow.unknown", "nearest": "triage",
        "errors": [{"place": "/nodes/2/kind", "message": "unknown kind 'foo'", "hint": "kinds are function, agent"}],
    }  # fmt: skip
    server.on("POST", "/runs", reply(problem, 404))
    told = cli("run", "start", "triagee")
    assert (told.code, told.out) == (2, "")
    for part in (
        "unknown workflow 'triagee'",
        "404",
        "/nodes/2/kind",
        "unknown kind 'foo'",
        "kinds are",
        "Did you mean triage",
    ):
        assert part in told.err
    machine = cli("run", "start", "triagee", "--output", "json")
    assert machine.out == ""
    assert json.loads(machine.err)["error"]["errors"] == problem["errors"]


def test_a_server_that_answers_without_json_is_told_apart(server, cli, reply):
    """A proxy's page is neither shown as a result nor taken for a problem document."""
    server.on("GET", "/runs", reply(b"<html>", 200), reply(b"<html>", 502))
    assert "not JSON" in cli("run", "list").err
    told = cli("run", "list")
    assert told.code == 2
    assert "502" in told.err


def test_no_server_is_told_with_how_to_start_one(cli):
    """Nothing listening ends with 2 and the command that mends it."""
    told = cli("run", "list", "--api-url", "http://127.0.0.1:1", bare=True)
    assert told.code == 2
    assert "tenuto serve" in told.err


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8321", "ftp://x", "http://", "http://h:x", "http://h:99999", "http://a b"]
)
def test_an_unusable_address_is_a_local_problem(url, cli):
    """An address that cannot be called is bad usage, not an API error."""
    told = cli("run", "list", "--api-url", url, bare=True)
    assert told.code == 1
    assert "is not an address" in told.err


def test_ctrl_c_ends_with_130(server, cli, monkeypatch):
    """An interrupt is neither failure nor success."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tenuto.cli.client.Client.get", interrupt)
    assert cli("run", "list").code == 130


def test_version_needs_no_server(cli, monkeypatch):
    """Both ways of asking for the version work alone, and it is the package's."""
    assert cli("--version", bare=True).out == f"tenuto {tenuto.__version__}\n"
    told = cli("version", "--api-url", "http://127.0.0.1:1", bare=True)
    assert (told.code, told.out) == (0, f"tenuto {tenuto.__version__}\n")
    project = Path(__file__).parents[3] / "pyproject.toml"
    assert f'version = "{tenuto.__version__}"' in project.read_text()


class TestFindingTheServer:
    """Address and token: flag, environment, what the running server left."""

    def left(self, path: Path, server_url: str, pid: int) -> None:
        """Leave what a running server leaves."""
        home = path / ".tenuto"
        home.mkdir()
        (home / "server.json").write_text(json.dumps({"url": server_url, "pid": pid}))
        (home / "token").write_text("kept-token\n")

    def test_the_server_that_runs_here_is_found_with_its_token(self, server, cli, tmp_path):
        """Neither address nor token need be given beside a running server."""
        self.left(tmp_path, server.url, os.getpid())
        server.on("GET", "/runs", {"items": []})
        assert cli("run", "list", bare=True).code == 0
        assert server.sent[0].headers["authorization"] == "Bearer kept-token"

    def test_a_dead_server_is_told_with_how_to_start_one(self, server, cli, tmp_path):
        """An address whose process is gone is not called."""
        self.left(tmp_path, server.url, 2**22 + 12345)
        told = cli("run", "list", bare=True)
        assert told.code == 2
        assert "has stopped" in told.err
        assert "tenuto serve" in told.err
        assert server.sent == []

    def test_flags_win_over_environment_and_file(self, server, cli, tmp_path, monkeypatch):
        """What the person says last counts."""
        self.left(tmp_path, "http://127.0.0.1:1", os.getpid())
        monkeypatch.setenv("TENUTO_API_URL", "http://127.0.0.1:2")
        monkeypatch.setenv("TENUTO_TOKEN", "from-environment")
        server.on("GET", "/runs", {"items": []})
        assert cli("run", "list").code == 0
        assert cli("run", "list", "--token", "given").code == 0
        shown = [sent.headers["authorization"] for sent in server.sent]
        assert shown == ["Bearer from-environment", "Bearer given"]

    def test_the_kept_token_never_leaves_this_machine(self, tmp_path, monkeypatch):
        """A token read from the file goes to loopback only."""
        from tenuto.cli.home import find_target

        self.left(tmp_path, "http://127.0.0.1:8321", os.getpid())
        monkeypatch.chdir(tmp_path)
        assert find_target("http://localhost:9", None).token == "kept-token"
        assert find_target("http://127.0.0.1:9/prefix", None).token == "kept-token"
        for elsewhere in (
            "https://example.test",
            "http://127.0.0.1@example.test",
            "http://localhost.example.test",
        ):
            assert find_target(elsewhere, None).token == ""

    def test_a_missing_token_is_told_with_where_it_is_looked_for(self, server, cli, reply):
        """A 401 says what to do about it."""
        server.on("GET", "/runs", reply({"title": "no token", "status": 401}, 401))
        told = cli("run", "list")
        assert told.code == 2
        assert "TENUTO_TOKEN" in told.err


def test_local_commands_hand_their_arguments_over(monkeypatch):
    """`serve` and its like only parse; what was not given is `None`."""
    import types

    seen = []
    entry = types.ModuleType("tenuto.bundled.entry")
    entry.serve = lambda args: seen.append(args) or 0
    entry.audit = lambda args: seen.append(args) or 1
    monkeypatch.setitem(__import__("sys").modules, "tenuto.bundled.entry", entry)
    assert main(["serve", "shop:app", "--port", "9", "--cors-origin", "a", "--cors-origin", "b"]) == 0
    assert (seen[0].app, seen[0].port, seen[0].host, seen[0].cors_origin) == ("shop:app", 9, None, ["a", "b"])
    assert main(["audit", "verify", "r1", "r2"]) == 1
    assert (seen[1].action, seen[1].run) == ("verify", ["r1", "r2"])
