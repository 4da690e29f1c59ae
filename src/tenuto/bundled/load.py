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

    Raises:
        InvalidSettings: The module cannot be imported, or holds no such app.
    """
    name, _, attribute = (target or BUNDLED).partition(":")
    attribute = attribute or "app"
    if name.endswith(".py"):
        name = name[:-3].replace(os.sep, ".")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
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


def load_catalog(target: str | None) -> Catalog:
    """Return the catalog of the app a command line names.

    Raises:
        InvalidSettings: There is no such app.
    """
    return load_app(target).catalog()
