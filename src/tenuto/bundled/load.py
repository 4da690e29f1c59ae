"""Finding the app a command line names."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

from tenuto.domain.base.nearest import nearest
from tenuto.errors import InvalidSettings
from tenuto.runtime.tools.catalog import Catalog
from tenuto.sdk.app import App

BUNDLED = "tenuto.bundled.examples:app"


def load_app(target: str | None) -> App:
    """Return the app of `module:attribute` (the attribute defaults to `app`), or the bundled examples.

    The module may be named by its file, too.

    Raises:
        InvalidSettings: The module cannot be imported, or holds no such app.
    """
    name, _, attribute = (target or BUNDLED).partition(":")
    attribute = attribute or "app"
    _find_in(os.getcwd())
    if name.endswith(".py"):
        name = _module_at(name)
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as exc:
        if exc.name and (name == exc.name or name.startswith(exc.name + ".")):
            raise InvalidSettings(
                f"there is no module {name!r} in {os.getcwd()} or the environment; give MODULE:APP, such as flow:app"
            ) from exc
        raise InvalidSettings(f"importing {name!r} failed: {exc}") from exc
    except Exception as exc:
        raise InvalidSettings(f"importing {name!r} failed: {type(exc).__name__}: {exc}") from exc
    app: Any = getattr(module, attribute, None)
    if not isinstance(app, App):
        apps = [key for key, value in vars(module).items() if isinstance(value, App)]
        hint = nearest(attribute, apps) or (apps[0] if apps else None)
        told = f"; did you mean {name}:{hint}?" if hint else "; make one with `app = tenuto.App()`"
        raise InvalidSettings(f"{name!r} has no app {attribute!r}{told}")
    return app


def _module_at(file: str) -> str:
    """Return the name that a file is imported by: dotted from here where that can be, else its own, found in its folder."""
    if not os.path.isfile(file):
        raise InvalidSettings(f"there is no file {file!r} in {os.getcwd()}; give FILE.py:APP or MODULE:APP, such as flow:app")
    parts = os.path.relpath(os.path.realpath(file), os.path.realpath("."))[:-3].split(os.sep)
    if not parts[-1].isidentifier():
        raise InvalidSettings(f"{file!r} cannot be imported: {parts[-1]!r} is no name of a module; rename the file")
    if all(part.isidentifier() for part in parts):
        return ".".join(parts)
    _find_in(os.path.dirname(os.path.realpath(file)))
    return parts[-1]


def _find_in(folder: str) -> None:
    if folder not in sys.path:
        sys.path.insert(0, folder)


def load_catalog(target: str | None) -> Catalog:
    """Return the catalog of the app a command line names.

    Raises:
        InvalidSettings: There is no such app.
    """
    return load_app(target).catalog()
