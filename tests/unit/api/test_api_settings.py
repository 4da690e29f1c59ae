"""Settings: order of strength, and every fault reported at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tenuto.errors import InvalidSettings
from tenuto.settings import describe, environment, load


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _problems(**sources: object) -> dict[str, str]:
    with pytest.raises(InvalidSettings) as caught:
        load(**{"environ": {}, **sources})  # type: ignore[arg-type]
    return {problem.place: f"{problem.message} {problem.hint}" for problem in caught.value.problems}


def test_defaults_stand_alone() -> None:
    """Without any source the server listens on loopback over a local file."""
    settings = load({}, {})
    assert (settings.host, settings.port, settings.database) == ("127.0.0.1", 8321, "sqlite:///.tenuto/tenuto.db")


def test_flags_beat_environment_beats_file(tmp_path: Path) -> None:
    """The nearer source wins, key by key; flags that were not given do not count."""
    file = tmp_path / "mine.toml"
    file.write_text('port = 1\nlease_s = 7\nlog_level = "debug"\ncors_origins = ["https://a.example"]\n')
    settings = load({"port": 3, "lease_s": None}, {"TENUTO_PORT": "2", "TENUTO_LEASE_S": "5"}, file)
    assert (settings.port, settings.lease_s, settings.log_level) == (3, 5.0, "debug")
    assert settings.cors_origins == ("https://a.example",)


def test_the_file_of_the_working_directory_is_read(tmp_path: Path) -> None:
    """`tenuto.toml` beside the command is found by itself, another by `TENUTO_CONFIG`."""
    (tmp_path / "tenuto.toml").write_text("port = 4000\n")
    (tmp_path / "other.toml").write_text("port = 5000\n")
    assert load({}, {}).port == 4000
    assert load({}, {"TENUTO_CONFIG": "other.toml"}).port == 5000


def test_all_faults_come_at_once(tmp_path: Path) -> None:
    """Unknown keys and bad values of all sources are reported together, with the nearest known key."""
    file = tmp_path / "mine.toml"
    file.write_text('potr = 1\nlog_format = "xml"\n')
    found = _problems(
        flags={"port": 70_000, "concurrency": 0},
        environ={"TENUTO_TOKEN": "hunter2", "TENUTO_LEES_S": "1", "TENUTO_LEASE_S": "soon", "TENUTO_API_URL": "x"},
        file=file,
    )
    assert set(found) == {
        f"{file}: potr", f"{file}: log_format", "--port", "--concurrency", "TENUTO_TOKEN", "TENUTO_LEES_S",
        "TENUTO_LEASE_S",
    }  # fmt: skip
    assert "'port'" in found[f"{file}: potr"]
    assert "at least 16" in found["TENUTO_TOKEN"]
    assert "hunter2" not in found["TENUTO_TOKEN"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("database", "mysql://x"),
        ("database", "sqlite://relative.db"),
        ("port", True),
        ("port", "80.5"),
        ("lease_s", float("nan")),
        ("cors_origins", ["*"]),
        ("cors_origins", "https://a.example/path"),
        ("allowed_hosts", "*.example.com"),
        ("log_level", "loud"),
        ("retention_days", -1),
        ("max_body_bytes", 3),
        ("host", "http://x"),
        ("token", "white space inside it"),
    ],
)
def test_a_bad_value_is_refused(name: str, value: object) -> None:
    """A value the program cannot work with never gets past the start."""
    assert set(_problems(flags={name: value})) == {f"--{name.replace('_', '-')}"}


def test_no_auth_is_for_loopback_alone() -> None:
    """An open server is refused on any address others can reach, and beside a fixed token."""
    assert load({"no_auth": True, "host": "::1"}, {}).no_auth
    assert "loopback" in _problems(flags={"no_auth": True, "host": "0.0.0.0"})["--no-auth"]
    assert "contradicts" in _problems(flags={"no_auth": True, "token": "x" * 20})["--no-auth"]


def test_a_file_that_is_not_toml_is_named(tmp_path: Path) -> None:
    """A broken or missing settings file is a fault of its own."""
    broken = tmp_path / "broken.toml"
    broken.write_text("port = = 1")
    assert "not TOML" in _problems(file=broken)[str(broken)]
    assert "cannot be read" in _problems(file=tmp_path / "absent.toml")[str(tmp_path / "absent.toml")]


def test_the_data_directory_holds_the_default_database() -> None:
    """Moving the data directory moves the database with it, unless that is set itself."""
    assert load({}, {"TENUTO_HOME": "/var/t"}).database == "sqlite:////var/t/tenuto.db"
    assert load({"database": "postgresql://h/d"}, {"TENUTO_HOME": "/var/t"}).database == "postgresql://h/d"


def test_secrets_are_not_shown() -> None:
    """Neither token nor database password is in the settings' text."""
    settings = load({"token": "s3cret-s3cret-s3cret", "database": "postgresql://u:pass@h/d"}, {})
    assert "s3cret" not in repr(settings)
    assert "pass" not in repr(settings)


def test_every_setting_is_described() -> None:
    """Flags, docs and `doctor` can list every setting with its variables."""
    listed = {item["name"]: item for item in describe()}
    assert listed["database"]["variables"] == ["TENUTO_DATABASE", "TENUTO_DATABASE_URL"]
    assert all(item["help"] for item in listed.values())


def test_sections_come_from_tables_of_the_file_or_json_of_a_variable(tmp_path: Path) -> None:
    """A section's keys are checked like any other, and a child process is told the same."""
    file = tmp_path / "mine.toml"
    file.write_text("[caps]\nday_usd = 2.5\n[project_caps.alpha]\nmonth_usd = 7\n")
    settings = load({}, {}, file)
    assert settings.caps.day_usd == 2.5
    assert settings.project_caps["alpha"].month_usd == 7
    assert load({}, environment(settings)) == settings
    assert load({}, {"TENUTO_CAPS": '{"day_usd": 3}'}, file).caps.day_usd == 3


def test_faults_of_sections_are_named_by_their_place(tmp_path: Path) -> None:
    """Every fault of every table is reported, with the nearest key."""
    file = tmp_path / "mine.toml"
    file.write_text("[caps]\nday_usdd = 2\n[project_caps]\nalpha = 3\n[project_caps.beta]\nmonth_usd = 'x'\n")
    found = _problems(file=file)
    assert "did you mean 'day_usd'" in found[f"{file}: caps.day_usdd"]
    assert "not a table" in found[f"{file}: project_caps.alpha"]
    assert "not a number" in found[f"{file}: project_caps.beta.month_usd"]
