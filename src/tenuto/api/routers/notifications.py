"""Messages that tell people of questions."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from tenuto.api.answers import gives, gives_page, json_answer, page_answer
from tenuto.api.params import Cursor, Limit, engine_of
from tenuto.runtime.services.notifications import NotificationView

router = APIRouter(prefix="/notifications", tags=["tickets"])


@router.get("", responses=gives_page(NotificationView), summary="List messages to people")
async def list_notifications(
    request: Request,
    state: Annotated[str | None, Query(description="`due`, `sent` or `failed`.")] = None,
    ticket: str | None = None,
    limit: Limit = 100,
    cursor: Cursor = "",
) -> Response:
    """Return what people were told of questions, or are yet to be told, newest first."""
    found = await engine_of(request).notifications.list(state=state, ticket=ticket, after=cursor, limit=limit)
    return page_answer(found)


@router.post(
    "/{notification}/resend", status_code=202, responses=gives(NotificationView, status=202, about="It is due again."),
    summary="Send a message again",
)  # fmt: skip
async def resend_notification(request: Request, notification: str) -> Response:
    """Make a message due again that was sent or given up; one that is due stays as it is."""
    return json_answer(await engine_of(request).notifications.resend(notification), 202)
