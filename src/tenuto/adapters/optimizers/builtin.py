"""The optimizers that ship with Tenuto: modules built from the sources in `optimizers`, with a manifest of their digests."""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from pathlib import Path

import msgspec

from tenuto.ports.optimizers import Builtin

MODULES = Path(__file__).with_name("modules")
MANIFEST = MODULES / "manifest.json"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One module of the manifest.

    Attributes:
        sources: Digest of all that it was built from.
        digest: Of the module.
    """

    name: str
    description: str
    sources: str
    digest: str


@cache
def builtin_optimizers() -> tuple[Builtin, ...]:
    """Return the optimizers that ship with Tenuto, in the order in which it asks them.

    Raises:
        ValueError: A module is not the one of the manifest.
    """
    found: list[Builtin] = []
    for entry in msgspec.json.decode(MANIFEST.read_bytes(), type=list[Entry]):
        module = (MODULES / f"{entry.name}.wasm").read_bytes()
        if sha256(module).hexdigest() != entry.digest:
            raise ValueError(f"the optimizer {entry.name!r} is damaged: its module is not the one it was shipped with")
        found.append(Builtin(name=entry.name, description=entry.description, digest=entry.digest, module=module))
    return tuple(found)
