"""`local_llm` and `generate_image`: models on machines of one's own, with a clear word when those are off."""

from __future__ import annotations

import asyncio
from typing import Any, cast
from uuid import NAMESPACE_URL, uuid5

from tenuto.errors import Permanent, StepError
from tenuto.ports.model import Message, Model, ModelReply, ModelRequest, Remote, facts_of
from tenuto.runtime.tools.builtin.kit import ImageServer, Kit, ToolNotSetUp, declare, text, whole
from tenuto.runtime.tools.catalog import CallInfo
from tenuto.runtime.tools.tool import Bound, Took

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


async def _draw(
    kit: Kit, info: CallInfo, prompt: str, negative: str = "", width: int = 512, height: int = 512, steps: int = 20,
    seed: int = 0,
) -> dict[str, Any]:
    import httpx

    server = kit.images
    if server is None:
        raise ToolNotSetUp("generate_image has no server; set images.url to one that speaks ComfyUI's protocol")
    job = str(uuid5(NAMESPACE_URL, f"tenuto:{info.key}"))
    url = server.url.rstrip("/")
    async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
        try:
            if not await _is_known(client, url, job):
                graph = _graph(server.checkpoint, prompt, negative, width, height, steps, seed)
                answer = await client.post(f"{url}/prompt", json={"prompt": graph, "prompt_id": job, "client_id": job})
                if answer.status_code >= 500:
                    raise ImageServerOff(f"the image server at {url} answered {answer.status_code}")
                if answer.status_code != 200:
                    raise ImageFailed(f"the image server refuses the job ({answer.status_code}): {answer.text[:300]}")
                job = str(answer.json().get("prompt_id") or job)
            images = await _finished(client, server, url, job)
            saved: list[dict[str, Any]] = []
            space = kit.workspaces.of(info)
            for at, image in enumerate(images):
                named = {name: image[name] for name in ("filename", "subfolder", "type") if name in image}
                found = await client.get(f"{url}/view", params=named)
                found.raise_for_status()
                if len(found.content) > MAX_IMAGE:
                    raise ImageFailed(f"an image has {len(found.content):,} bytes; at most {MAX_IMAGE:,} are taken")
                path = f"images/{job}-{at}.png"
                saved.append(await asyncio.to_thread(space.write, path, found.content, f"{info.key}/{at}", MAX_IMAGE))
        except httpx.HTTPError as exc:
            raise ImageServerOff(
                f"the image server at {url} does not answer ({type(exc).__name__}); start it, or set images.url"
            ) from exc
    return {"images": saved, "job": job}


async def _is_known(client: Any, url: str, job: str) -> bool:
    """Return whether the server has the job from an earlier try of this call, done or waiting."""
    if (await client.get(f"{url}/history/{job}")).json().get(job) is not None:
        return True
    queue = cast("dict[str, list[Any]]", (await client.get(f"{url}/queue")).json())
    return any(job in item for name in ("queue_running", "queue_pending") for item in queue.get(name, []))


async def _finished(client: Any, server: ImageServer, url: str, job: str) -> list[dict[str, Any]]:
    """Return the images of a job once it has ended."""
    async with asyncio.timeout(server.timeout_s):
        while True:
            entry = cast("dict[str, Any]", (await client.get(f"{url}/history/{job}")).json()).get(job)
            if entry is not None:
                status = cast("dict[str, Any]", entry.get("status") or {})
                if status.get("status_str") == "error":
                    raise ImageFailed(f"the image server failed the job {job}: {str(status.get('messages'))[:300]}")
                outputs = cast("dict[str, dict[str, Any]]", entry.get("outputs") or {})
                images = [image for output in outputs.values() for image in output.get("images", [])]
                if images or status.get("completed"):
                    return images
            await asyncio.sleep(server.poll_s)


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
        _draw, "generate_image", "Make an image; it is put into the workspace, and its path returned.",
        {
            "prompt": text("What to show.", minLength=1, maxLength=5_000), "negative": text("What not to show.", default=""),
            "width": whole("Pixels.", 64, 4096, multipleOf=8, default=512),
            "height": whole("Pixels.", 64, 4096, multipleOf=8, default=512),
            "steps": whole("Steps of the sampler.", 1, 150, default=20), "seed": whole("Seed.", 0, 2**53, default=0),
        },
        required=("prompt",),
    ),
)
