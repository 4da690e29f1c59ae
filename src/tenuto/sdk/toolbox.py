"""From settings to what the built-in tools work with."""

from __future__ import annotations

import os
from pathlib import Path

from tenuto.errors import InvalidSettings
from tenuto.runtime.tools.builtin.kit import Bucket, ImageServer, Kit, MailServer, PythonLimits
from tenuto.runtime.tools.http import HttpPolicy
from tenuto.runtime.tools.workspace import Workspaces
from tenuto.settings import Settings
from tenuto.settings.tools import S3
from tenuto.wiring import ArtifactPlace, open_artifacts, open_knowledge, open_objects


def kit_of(settings: Settings) -> Kit:
    """Return what the built-in tools work with under these settings."""
    workspace, known = settings.workspace, settings.knowledge
    return Kit(
        workspaces=Workspaces(
            root=Path(workspace.dir or Path(settings.data_dir) / "workspaces"), scope=workspace.scope,
            max_write=workspace.max_file_bytes, max_total=workspace.max_bytes,
        ),
        knowledge=open_knowledge(
            known.dir or Path(settings.data_dir) / "knowledge", embedding=known.embedding, dimensions=known.dimensions,
            url=known.embedding_url, key=os.environ.get(known.embedding_key_env, "") if known.embedding_key_env else "",
            chunk_chars=known.chunk_chars, overlap_chars=known.overlap_chars,
        ),
        mail=_mail(settings) if settings.mail.host else None,
        slack={name: one.webhook_env for name, one in settings.slack.items()},
        buckets={name: _bucket(name, one) for name, one in settings.s3.items()},
        images=_images(settings) if settings.images.url else None,
        local_llm=_local(settings),
        python=_python(settings) if settings.python.enabled else None,
        http=HttpPolicy(allowed=frozenset(host.lower() for host in settings.http_allow)),
    )


def artifacts_of(settings: Settings) -> ArtifactPlace:
    """Return where artifacts are kept under these settings."""
    kept = settings.artifacts
    return open_artifacts(
        kept.url, home=Path(settings.data_dir), former=kept.former, max_bytes=kept.max_bytes, endpoint=kept.endpoint,
        region=kept.region, timeout_s=kept.timeout_s,
        access_key=_reference(kept.access_key_env, kept.access_key_file),
        secret_key=_reference(kept.secret_key_env, kept.secret_key_file),
        session_token=_reference(kept.session_token_env, kept.session_token_file),
    )


def _mail(settings: Settings) -> MailServer:
    mail = settings.mail
    return MailServer(
        host=mail.host, port=mail.port, sender=mail.sender, security=mail.security, user=mail.user,
        password_env=mail.password_env, allowed=tuple(item.lower() for item in mail.allowed),
    )


def _bucket(name: str, s3: S3) -> Bucket:
    if not s3.bucket:
        raise InvalidSettings(f"s3.{name}.bucket is missing; name the bucket, or remove s3.{name}")
    for item in ("access_key", "secret_key"):
        if not getattr(s3, f"{item}_env") and not getattr(s3, f"{item}_file"):
            raise InvalidSettings(f"s3.{name} has no key; set {item}_env to a variable, or {item}_file to a file, that holds it")
    objects = open_objects(
        s3.bucket, endpoint=s3.endpoint, region=s3.region, timeout_s=s3.timeout_s,
        access_key=_reference(s3.access_key_env, s3.access_key_file),
        secret_key=_reference(s3.secret_key_env, s3.secret_key_file),
        session_token=_reference(s3.session_token_env, s3.session_token_file),
    )
    return Bucket(name=s3.bucket, objects=objects, prefixes=s3.prefixes, max_bytes=s3.max_bytes)


def _reference(variable: str, file: str) -> str:
    return f"env:{variable}" if variable else f"file:{file}" if file else ""


def _images(settings: Settings) -> ImageServer:
    images = settings.images
    return ImageServer(url=images.url, checkpoint=images.checkpoint, timeout_s=images.timeout_s)


def _python(settings: Settings) -> PythonLimits:
    python = settings.python
    return PythonLimits(timeout_s=python.timeout_s, memory_mb=python.memory_mb, output_bytes=python.output_bytes)


def _local(settings: Settings) -> str:
    """Return the model of `local_llm`, which has to be one that runs on machines of one's own."""
    name = settings.local_llm
    provider = name.partition(":")[0]
    known = settings.providers.get(provider)
    is_local = provider in ("ollama", "offline") or (known is not None and (known.local or known.kind == "ollama"))
    if name and not is_local:
        raise InvalidSettings(
            f"local_llm is {name!r}, whose provider is not local; set providers.{provider}.local or use ollama:MODEL"
        )
    return name
