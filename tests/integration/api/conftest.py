"""An application over a scripted engine, so that the edge can be tested without a store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from scripted_engine import TOKEN, ScriptedEngine  # type: ignore[import-not-found]

from tenuto.api.app import create_app
from tenuto.api.auth import Auth
from tenuto.settings import Settings


@pytest.fixture
def engine() -> ScriptedEngine:
    """A fresh scripted engine."""
    return ScriptedEngine()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of a loopback server with one foreign origin and a small body limit."""
    return Settings(
        data_dir=str(tmp_path), token=TOKEN, cors_origins=("https://ok.example",), max_body_bytes=2048,
        max_yaml_bytes=1024,
    )  # fmt: skip


@pytest.fixture
def app(engine: ScriptedEngine, settings: Settings) -> FastAPI:
    """The application over the scripted engine."""
    return create_app(engine, settings, auth=Auth(TOKEN))  # type: ignore[arg-type]


@pytest.fixture
async def anyone(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client without credentials."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8321") as client:
        yield client


@pytest.fixture
async def client(anyone: httpx.AsyncClient) -> httpx.AsyncClient:
    """A client that shows the token."""
    anyone.headers["Authorization"] = f"Bearer {TOKEN}"
    return anyone
