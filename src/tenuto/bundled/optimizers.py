"""The template of an optimizer: a folder that builds a WebAssembly module with one command."""

from __future__ import annotations

from pathlib import Path

from tenuto.errors import InvalidSettings

TEMPLATE = Path(__file__).with_name("optimizer_template")
_RENAMED = {"gitignore": ".gitignore"}
_MADE = frozenset({".tools", "build", "node_modules"})


def write_template(directory: str | Path) -> tuple[str, ...]:
    """Write the template into a new or empty folder and return the files, as paths below it.

    Raises:
        InvalidSettings: There is something in the folder, or it cannot be written.
    """
    target = Path(directory)
    try:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise InvalidSettings(f"{str(target)!r} is not empty; name a folder that does not exist yet")
        written: list[str] = []
        for source in sorted(TEMPLATE.rglob("*")):
            inside = source.relative_to(TEMPLATE)
            if source.is_dir() or _MADE & set(inside.parts):
                continue
            made = target / inside.with_name(_RENAMED.get(inside.name, inside.name))
            made.parent.mkdir(parents=True, exist_ok=True)
            made.write_bytes(source.read_bytes())
            written.append(made.relative_to(target).as_posix())
    except OSError as error:
        raise InvalidSettings(f"the template cannot be written to {str(target)!r}: {error.strerror}") from error
    return tuple(written)
