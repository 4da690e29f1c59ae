"""`local_llm` and `generate_image`: models on machines of one's own, with a clear word when those are off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, cast
from uuid import NAMESPACE_URL, uuid5

from tenuto.errors import Permanent, StepError
from tenuto.ports.model import Message, Model, ModelReply, ModelRequest, Remote, facts_of
from tenuto.runtime.tools.builtin.kit import ImageServer, Kit, ToolNotSetUp, declare, text, whole
from tenuto.runtime.tools.catalog import CallInfo
from tenuto.runtime.tools.tool import Bound, Later, Took

MAX_IMAGE = 50_000_000


class ImageServerOff(StepError):
    """Nobody answers at the address of the image server."""

    code = "image.offline"


class ImageFailed(Permanent):
    """The image server refuses or failed the job."""

    code = "image.failed"


def _request(kit: Kit, prompt: str, system: str, max_tokens: int) -> tuple[Model, ModelRequest]:
    if not kit.local_llm or kit.model is None:
        raise ToolNotSetUp("local_llm has no model; set local_llm to one of a local provider, such as ollama:llama3.2")
    messages = (*((Message("system", system),) if system else ()), Message("user", prompt))
    request = ModelRequest(model=kit.local_llm, messages=messages, max_tokens=max_tokens, purpose="tool")
    return kit.model(kit.local_llm), request


async def _most(kit: Kit, info: CallInfo, prompt: str, system: str = "", max_tokens: int = 1024) -> Bound:
    model, request = _request(kit, prompt, system, max_tokens)
    limit = None
    if isinstance(model, Remote):
        await model.ready(request)
        limit = model.slots(request)
    tokens, cost = model.bound(request)
    return Bound(tokens, cost, limit[0] if limit else "")


async def _ask(kit: Kit, info: CallInfo, prompt: str, system: str = "", max_tokens: int = 1024) -> Took:
    model, request = _request(kit, prompt, system, max_tokens)
    try:
        reply = await model.request(request, key=info.key)
    except StepError as exc:
        answer = exc.details.pop("reply", None)
        if isinstance(answer, ModelReply):
            vars(exc)["took"] = _took(answer, request)
        raise
    return _took(reply, request)


def _took(reply: ModelReply, request: ModelRequest) -> Took:
    tokens = reply.input_tokens + reply.output_tokens
    value = {"content": reply.content, "model": reply.model or request.model, "tokens": tokens}
    return Took(value, tokens, reply.cost_usd_micros, facts_of(reply, request))


async def _begin(
    kit: Kit, info: CallInfo, prompt: str, negative: str = "", width: int = 512, height: int = 512, steps: int = 20,
    seed: int = 0,
) -> dict[str, Any]:
    """Submit the job, once for a key, and return its id."""
    server = _images(kit)
    job = str(uuid5(NAMESPACE_URL, f"tenuto:{info.key}"))
    async with _talking(server) as (client, url):
        if await _entry(client, url, job) is None and not await _is_queued(client, url, job):
            graph = _graph(server.checkpoint, prompt, negative, width, height, steps, seed)
            answer = await client.post(f"{url}/prompt", json={"prompt": graph, "prompt_id": job, "client_id": job})
            if answer.status_code >= 500:
                raise ImageServerOff(f"the image server at {url} answered {answer.status_code}")
            if answer.status_code != 200:
                raise ImageFailed(f"the image server refuses the job ({answer.status_code}): {answer.text[:300]}")
            job = str(answer.json().get("prompt_id") or job)
    return {"job": job}


async def _look(begun: dict[str, Any], kit: Kit, info: CallInfo, **_: Any) -> dict[str, Any] | None:
    """Return the images of a job, put into the workspace, or `None` while the server is at it."""
    job = begun["job"]
    async with _talking(_images(kit)) as (client, url):
        entry = await _entry(client, url, job)
        if entry is None:
            if await _is_queued(client, url, job):
                return None
            entry = await _entry(client, url, job)  # it may have ended between the two looks
        if entry is None:
            raise ImageFailed(f"the image server at {url} knows nothing of job {job} any more; was it started anew?")
        images = _made(entry, job)
        if images is None:
            return None
        saved: list[dict[str, Any]] = []
        space = kit.workspaces.of(info)
        for at, image in enumerate(images):
            named = {name: image[name] for name in ("filename", "subfolder", "type") if name in image}
            found = await client.get(f"{url}/view", params=named)
            found.raise_for_status()
            if len(found.content) > MAX_IMAGE:
                raise ImageFailed(f"an image has {len(found.content):,} bytes; at most {MAX_IMAGE:,} are taken")
            path = f"images/{job}-{at}.png"
            saved.append(await asyncio.to_thread(space.write, path, found.content, f"{job}/{at}", MAX_IMAGE))
    return {"images": saved, "job": job}


def _images(kit: Kit) -> ImageServer:
    if kit.images is None:
        raise ToolNotSetUp("generate_image has no server; set images.url to one that speaks ComfyUI's protocol")
    return kit.images


def _patience(kit: Kit) -> Later:
    server = kit.images or ImageServer(url="", checkpoint="")
    return Later(look=_look, first_s=server.poll_s, longest_s=max(server.poll_s, 15.0), within_s=server.timeout_s)


@asynccontextmanager
async def _talking(server: ImageServer) -> AsyncGenerator[tuple[Any, str]]:
    """Yield a client and the server's address; what goes wrong on the way is told in one sentence."""
    import httpx

    url = server.url.rstrip("/")
    try:
        async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
            yield client, url
    except httpx.HTTPError as exc:
        raise ImageServerOff(
            f"the image server at {url} does not answer ({type(exc).__name__}); start it, or set images.url"
        ) from exc


async def _entry(client: Any, url: str, job: str) -> dict[str, Any] | None:
    """Return what the server knows of a job that has ended."""
    return (await _read(client, f"{url}/history/{job}")).get(job)


async def _is_queued(client: Any, url: str, job: str) -> bool:
    """Return whether the server has a job yet to do."""
    queue = await _read(client, f"{url}/queue")
    return any(job in item for name in ("queue_running", "queue_pending") for item in queue.get(name, []))


async def _read(client: Any, url: str) -> dict[str, Any]:
    answer = await client.get(url)
    try:
        found = answer.json() if answer.status_code == 200 else None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ImageServerOff(f"the image server answered {answer.status_code} at {url}, and no JSON object")
    return cast("dict[str, Any]", found)


def _made(entry: dict[str, Any], job: str) -> list[dict[str, Any]] | None:
    """Return the images of a job that has ended, or `None` when it has not quite."""
    status = cast("dict[str, Any]", entry.get("status") or {})
    if status.get("status_str") == "error":
        raise ImageFailed(f"the image server failed the job {job}: {str(status.get('messages'))[:300]}")
    outputs = cast("dict[str, dict[str, Any]]", entry.get("outputs") or {})
    images = [image for output in outputs.values() for image in output.get("images", [])]
    return images if images or status.get("completed") else None


def _graph(checkpoint: str, prompt: str, negative: str, width: int, height: int, steps: int, seed: int) -> dict[str, Any]:
    """Return ComfyUI's own plain graph from text to image."""

    def node(kind: str, **inputs: Any) -> dict[str, Any]:
        return {"class_type": kind, "inputs": inputs}

    return {
        "1": node("CheckpointLoaderSimple", ckpt_name=checkpoint),
        "2": node("CLIPTextEncode", text=prompt, clip=["1", 1]),
        "3": node("CLIPTextEncode", text=negative, clip=["1", 1]),
        "4": node("EmptyLatentImage", width=width, height=height, batch_size=1),
        "5": node(
            "KSampler", model=["1", 0], positive=["2", 0], negative=["3", 0], latent_image=["4", 0], seed=seed, steps=steps,
            cfg=7.0, sampler_name="euler", scheduler="normal", denoise=1.0,
        ),
        "6": node("VAEDecode", samples=["5", 0], vae=["1", 2]),
        "7": node("SaveImage", images=["6", 0], filename_prefix="tenuto"),
    }


TOOLS = (
    declare(
        _ask, "local_llm", "Ask a language model that runs locally and costs nothing.",
        {
            "prompt": text("What to ask.", minLength=1), "system": text("How to answer.", default=""),
            "max_tokens": whole("Longest answer.", 1, 100_000, default=1024),
        },
        required=("prompt",), bound=_most,
    ),
    declare(
        _begin, "generate_image", "Make an image; it is put into the workspace, and its path returned.",
        {
            "prompt": text("What to show.", minLength=1, maxLength=5_000), "negative": text("What not to show.", default=""),
            "width": whole("Pixels.", 64, 4096, multipleOf=8, default=512),
            "height": whole("Pixels.", 64, 4096, multipleOf=8, default=512),
            "steps": whole("Steps of the sampler.", 1, 150, default=20), "seed": whole("Seed.", 0, 2**53, default=0),
        },
        required=("prompt",), later=_patience,
    ),
)
