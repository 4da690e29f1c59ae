"""Builds the optimizers that ship with Tenuto, with the tools of the template; `make optimizers` runs it.

Says so when sources that have not changed come to other bytes than those that are checked in.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = ROOT / "src/tenuto/bundled/optimizer_template"
MODULES = ROOT / "src/tenuto/adapters/optimizers/modules"
TOOLS = ROOT / ".bench/optimizers"
PASSES = {
    "fuse_http": "Requests that follow each other, or run side by side, become one step",
    "prune": "Steps that nobody reaches, and pure ones whose results nobody reads, are taken out",
    "parallelise": "Steps that wait for others without need run at the same time",
    "mark_cacheable": "Results of pure steps whose time shows are kept for later runs",
}


def sources_of(name: str) -> str:
    """Return the digest of all that a module is built from: the pass, what passes share, the compiler and its flags."""
    shared = sorted((TEMPLATE / "assembly").glob("*.ts"))
    files = [ROOT / "optimizers" / f"{name}.ts", *(one for one in shared if one.name != "index.ts")]
    files += [TEMPLATE / "package-lock.json", TEMPLATE / "Makefile"]
    parts = [f"{one.name}:{sha256(one.read_bytes()).hexdigest()}" for one in files]
    return sha256("\n".join(parts).encode()).hexdigest()


def build(name: str, out: Path) -> bytes:
    """Compile one pass as the template does, by paths below the repository, so that its place is not in the bytes."""
    made = {one for one in ("assembly", "Makefile", "package.json", "package-lock.json") if (TEMPLATE / one).exists()}
    TOOLS.mkdir(parents=True, exist_ok=True)
    for item in made - {"assembly"}:
        source, target = TEMPLATE / item, TOOLS / item
        if not target.exists() or target.read_bytes() != source.read_bytes():
            shutil.copyfile(source, target)
    subprocess.run(["make", "--silent", "-C", str(TOOLS), "tools", f"PYTHON={sys.executable}"], check=True)
    subprocess.run(
        ["make", "--silent", "--always-make", "-C", str(TOOLS), "--assume-old=.tools/ready", str(out), f"OUT={out}",
         f"ENTRY={ROOT}/optimizers/{name}.ts", f"MORE=--baseDir {ROOT}"],
        check=True,
    )  # fmt: skip
    return out.read_bytes()


def main() -> int:
    """Build all, write what changed, and return 1 when unchanged sources come to other bytes."""
    manifest = MODULES / "manifest.json"
    known = {entry["name"]: entry for entry in json.loads(manifest.read_bytes())} if manifest.exists() else {}
    entries, failed = [], 0
    MODULES.mkdir(exist_ok=True)
    for name, description in PASSES.items():
        module = build(name, TOOLS / f"{name}.wasm")
        entry = {
            "name": name, "description": description, "sources": sources_of(name), "digest": sha256(module).hexdigest(),
        }
        former = known.get(name)
        if former and former["sources"] == entry["sources"] and former["digest"] != entry["digest"]:
            print(f"{name}: the same sources come to other bytes: {former['digest']} before, {entry['digest']} now", file=sys.stderr)
            failed = 1
            continue
        print(f"{name}: {len(module):,} bytes, {'as before' if former == entry else 'written'}")
        (MODULES / f"{name}.wasm").write_bytes(module)
        entries.append(entry)
    if not failed:
        manifest.write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")
    try_template()
    return failed


def try_template() -> None:
    """Write the template, build it with its one command, and let the sandbox look at what comes of it."""
    from tenuto.bundled.optimizers import write_template
    from tenuto.wiring import open_sandbox

    folder = TOOLS / "template"
    shutil.rmtree(folder, ignore_errors=True)
    write_template(folder)
    subprocess.run(["make", "--silent", "-C", str(folder), f"PYTHON={sys.executable}"], check=True, stdout=subprocess.DEVNULL)
    module, sandbox = (folder / "build/optimizer.wasm").read_bytes(), open_sandbox()
    asyncio.run(sandbox.check(module))
    sandbox.close()
    print(f"the template: {len(module):,} bytes")


if __name__ == "__main__":
    sys.exit(main())
