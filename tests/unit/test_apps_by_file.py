"""An app is named by its module or by its file, wherever the file lies."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tenuto.bundled.load import load_app
from tenuto.errors import InvalidSettings


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Stand in a folder of its own, and forget afterwards what was imported there."""
    known, place = set(sys.modules), tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield place
    for name in set(sys.modules) - known:
        del sys.modules[name]


def write(path: Path, name: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"import tenuto\n\napp = tenuto.App({name!r})\n")
    return path


def test_a_file_under_here_has_its_dotted_name(here: Path) -> None:
    """By either spelling it is one module, so functions of it keep one name."""
    file = write(here / "flows" / "billing_app.py", "billing")
    assert load_app("flows/billing_app.py:app") is load_app(str(file)) is load_app("./flows/billing_app.py") is load_app("flows.billing_app")


def test_a_file_elsewhere_is_found_with_its_neighbours(here: Path) -> None:
    """Outside of the working directory, and in folders whose names no module can have."""
    (here.parent / "other").mkdir()
    (here.parent / "other" / "neighbour_of_it.py").write_text("NAME = 'elsewhere'\n")
    file = here.parent / "other" / "elsewhere_app.py"
    file.write_text("import tenuto\nfrom neighbour_of_it import NAME\n\napp = tenuto.App(NAME)\n")
    assert load_app(f"{file}:app").name == load_app("../other/elsewhere_app.py").name == "elsewhere"
    write(here / "my-flows" / "dashed_app.py", "dashed")
    assert load_app("my-flows/dashed_app.py").name == "dashed"


def test_a_file_that_is_not_there_or_cannot_be_a_module_is_refused(here: Path) -> None:
    with pytest.raises(InvalidSettings, match=r"there is no file 'gone.py'"):
        load_app("gone.py:app")
    write(here / "my-app.py", "dashed")
    with pytest.raises(InvalidSettings, match=r"'my-app' is no name of a module; rename the file"):
        load_app("my-app.py")
