"""Which keys seal what is stored; the keys themselves stand in variables or files."""

from __future__ import annotations

from dataclasses import dataclass

from tenuto.settings.keys import key


@dataclass(frozen=True, kw_only=True)
class Encryption:
    """Encryption of what is stored; off while no key is named."""

    key_env: str = key("", "environment variable that holds the master key, 32 bytes in base64")
    key_file: str = key("", "file that holds the master key; read again when it is replaced")
    previous_env: tuple[str, ...] = key((), "variables with former master keys, until everything is rewrapped")
    previous_file: tuple[str, ...] = key((), "files with former master keys, until everything is rewrapped")

    def references(self) -> tuple[str, ...]:
        """Return where the master keys are, the one in force first; none when encryption is off."""
        current = [f"env:{self.key_env}"] if self.key_env else [f"file:{self.key_file}"] if self.key_file else []
        former = [f"env:{name}" for name in self.previous_env] + [f"file:{path}" for path in self.previous_file]
        return (*current, *former) if current else ()
