"""Looking after the keys of an encrypted database from the command line."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from tenuto.bundled.care import existing, print_json
from tenuto.domain.runs.present import instant
from tenuto.errors import Invalid, InvalidSettings
from tenuto.ports.data_keys import DataKeyRow
from tenuto.settings import Settings
from tenuto.wiring import key_ring, open_store


async def keep_keys(args: Namespace, settings: Settings) -> int:
    """List, rotate, rewrap or shred keys, or generate a master key, as the command says.

    Raises:
        InvalidSettings: Encryption is off, or a master key is missing.
        Invalid: A namespace would be shredded without being confirmed.
    """
    if args.action == "generate":
        from tenuto.adapters.stores.sealed import new_master

        made_now = new_master()
        _tell({"key": made_now}, args.output, made_now)
        return 0
    existing(settings)
    references = settings.encryption.references()
    if not references:
        raise InvalidSettings("encryption is off; name a master key in the settings of `encryption` (key_env or key_file)")
    store = open_store(settings.database, lease_ms=int(settings.lease_s * 1000))
    await store.open()
    try:
        ring = key_ring(store, references)
        await ring.refresh()
        match args.action:
            case "list":
                _list(await store.data_keys(), args.output)
            case "rotate":
                made = {ns: await ring.rotate(ns) for ns in args.namespace or ["", *ring.namespaces()]}
                _tell({"rotated": made}, args.output, f"{len(made)} new keys seal what is written from now on")
            case "rewrap":
                count = await ring.rewrap()
                _tell({"rewrapped": count}, args.output, f"{count} keys are now wrapped by the master key in force")
            case _:
                await _shred(args, store.destroy_data_keys)
    finally:
        await store.close()
    return 0


async def _shred(args: Namespace, destroy: Any) -> None:
    if args.confirm != args.namespace:
        raise Invalid(
            f"shredding {args.namespace!r} makes all it has stored unreadable for ever; "
            f"say so with --confirm {args.namespace}", code="encryption.confirm",
        )  # fmt: skip
    count = await destroy(args.namespace)
    _tell({"shredded": args.namespace, "keys": count}, args.output, f"{count} keys of {args.namespace!r} are destroyed")


def _list(rows: list[DataKeyRow], output: str) -> None:
    shown = [
        {
            "id": row.id, "namespace": row.ns, "use": row.use, "master": row.master, "created_at": instant(row.created_at),
            "destroyed_at": instant(row.destroyed_at) if row.destroyed_at else None,
        }
        for row in rows
    ]  # fmt: skip
    if output != "pretty":
        print_json({"keys": shown}, output)
        return
    for row in shown:
        end = f"  destroyed {row['destroyed_at']}" if row["destroyed_at"] else ""
        ns = row["namespace"] or "(definitions)"
        print(f"{row['id']}  {row['use']:5}  {ns:20}  by {row['master']}  {row['created_at']}{end}")
    print(f"{len(shown)} keys")


def _tell(found: dict[str, Any], output: str, words: str) -> None:
    if output != "pretty":
        print_json(found, output)
    else:
        print(words)
