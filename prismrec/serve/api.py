"""The routes of the API. Each takes hold of one Catalogue and answers from that alone."""

# no `from __future__ import annotations` here: FastAPI reads the annotations, some of which are made within a function
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Path, Query, Response

from prismrec.serve import answers, forms
from prismrec.serve.desk import Desk, about, json_of
from prismrec.serve.gate import Refused

_SAID = {
    400: "The Host header, or a body that cannot be read", 401: "A key is needed", 404: "Not known",
    413: "The body is too large", 422: "What was asked is not possible", 429: "Too many requests a second",
    503: "Too many requests at once, or no answer in time",
}  # fmt: skip
PROBLEMS: dict[int | str, dict[str, Any]] = {s: {"model": forms.Problem, "description": d} for s, d in _SAID.items()}

ExportName = Annotated[str | None, Query(min_length=1, max_length=100, description="Which export; else the first.")]
UserId = Annotated[str, Query(min_length=1, max_length=500, examples=["u00007"])]
ItemId = Annotated[str, Query(min_length=1, max_length=500, examples=["i00017"])]
UserPath = Annotated[str, Path(min_length=1, max_length=500, examples=["u00007"])]
ItemPath = Annotated[str, Path(min_length=1, max_length=500, examples=["i00017"])]
Words = Annotated[str, Query(max_length=200, description="Part of an id or a title.")]
Limit = Annotated[int, Query(ge=1, le=1000)]
Modality = Annotated[str | None, Query(min_length=1, max_length=100)]


def said(value: Any, status: int = 200) -> Response:
    """An answer as JSON, without the detour over models: they are what it was written after."""
    return Response(json_of(value), status, media_type="application/json")


def api(desk: Desk) -> APIRouter:
    """All routes."""
    router = APIRouter(responses=PROBLEMS)
    most, usual, answer = desk.settings.max_k, desk.usual, desk.answer
    K = Annotated[int, Query(ge=1, le=most, description="Items of the list.")]

    @router.get("/recommend", response_model=forms.AnswerList, tags=["lists"], summary="A list for a user")
    async def recommend(
        user: UserId,
        k: K = usual,
        export: ExportName = None,
        modality: Modality = None,
        exclude_seen: bool = True,
    ) -> Response:
        catalogue = desk.export(export)
        row = desk.user(catalogue, user)
        if row < 0:
            items = await desk.quickly(catalogue, answers.popular, catalogue, k)
            return said(answer(catalogue, "popular", user, items))
        items = await desk.together.list_of(catalogue, row, min(k, len(catalogue.items)), modality, exclude_seen)
        return said(answer(catalogue, "user", user, items))

    @router.post("/recommend", response_model=forms.AnswerList, tags=["lists"], summary="A list, with wishes")
    async def wished(asked: forms.AskList) -> Response:
        if (asked.user is None) == (asked.items is None):
            raise Refused(422, "Name either a user, or the items of a session.", "form")
        catalogue, k = desk.export(asked.export), desk.within(asked.k)
        if asked.user is not None:
            row = desk.user(catalogue, asked.user)
            if row >= 0:
                (items,) = await desk.slowly(answers.users, catalogue, [row], k, asked)
                if asked.reasons:
                    await desk.slowly(answers.said_of, catalogue, row, items, k)
                return said(answer(catalogue, "user", asked.user, items))
        else:
            rows = [row for row in map(catalogue.items.row, dict.fromkeys(asked.items or ())) if row >= 0]
            if rows:
                items = await desk.slowly(answers.session, catalogue, rows, k, asked)
                return said(answer(catalogue, "session", None, items))
        items = await desk.slowly(answers.popular, catalogue, k, asked)
        return said(answer(catalogue, "popular", asked.user, items))

    @router.post("/recommend/batch", response_model=forms.AnswerBatch, tags=["lists"], summary="Lists for many users")
    async def batch(asked: forms.AskBatch) -> Response:
        catalogue, k = desk.export(asked.export), desk.within(asked.k)
        if len(asked.users) > desk.settings.max_batch:
            raise Refused(422, f"{len(asked.users):,} users; a batch may have {desk.settings.max_batch:,}.", "batch")
        rows = [desk.user(catalogue, user) for user in asked.users]
        known = [row for row in rows if row >= 0]
        found = iter(await desk.slowly(answers.users, catalogue, known, k, asked) if known else [])
        other = await desk.slowly(answers.popular, catalogue, k, asked) if len(known) < len(rows) else []
        lists = [
            answer(catalogue, "user", user, next(found)) if row >= 0 else answer(catalogue, "popular", user, other)
            for user, row in zip(asked.users, rows, strict=True)
        ]
        body = {"export": catalogue.name, "version": catalogue.version, "lists": lists}
        return said(body) if len(rows) < 100 else await desk.slowly(said, body)

    @router.get("/similar", response_model=forms.AnswerSimilar, tags=["lists"], summary="Items like an item")
    async def similar(
        item: ItemId, k: K = usual, export: ExportName = None,
        by: Annotated[str | None, Query(min_length=1, max_length=100, description="A modality: what looks, or reads, alike. "
                                        "None: the fused score.")] = None,
    ) -> Response:  # fmt: skip
        catalogue = desk.export(export)
        row = desk.known_item(catalogue, item)
        items = await desk.quickly(catalogue, answers.similar, catalogue, row, k, by)
        about_list = {"item": item, "by": by, "export": catalogue.name, "version": catalogue.version}
        return said({**about_list, "items": items})

    @router.get("/explain", response_model=forms.AnswerWhy, tags=["lists"], summary="Why an item is in a user's list")
    async def explain(user: UserId, item: ItemId, k: K = usual, export: ExportName = None) -> Response:
        catalogue = desk.export(export)
        rows = desk.known_user(catalogue, user), desk.known_item(catalogue, item)
        return said(await desk.slowly(answers.why, catalogue, *rows, k))

    @router.get(
        "/items", response_model=forms.AnswerItems, tags=["catalogue"], summary="Items by part of an id or title"
    )
    async def items_like(q: Words = "", limit: Limit = 20, export: ExportName = None) -> Response:
        catalogue = desk.export(export)
        rows = await desk.slowly(catalogue.items.like, q, catalogue.titles, limit)
        return said({"items": catalogue.cards(np.array(rows, np.int64))})

    @router.get("/items/{item:path}", response_model=forms.AnswerItem, tags=["catalogue"], summary="All about an item")
    async def one_item(item: ItemPath, export: ExportName = None) -> Response:
        catalogue = desk.export(export)
        return said(catalogue.item(desk.known_item(catalogue, item)))

    @router.get("/pictures/{item:path}", response_class=Response, tags=["catalogue"], summary="The picture of an item",
                responses={200: {"content": {"image/*": {}}}})  # fmt: skip
    async def picture(item: ItemPath, export: ExportName = None) -> Response:
        catalogue = desk.export(export)
        found = await desk.slowly(catalogue.pictures.read, desk.known_item(catalogue, item))
        if found is None:
            raise Refused(404, f"There is no picture of item {item!r}.", "picture")
        content, kind = found
        headers = {"Cache-Control": "private, max-age=3600", "Content-Security-Policy": "default-src 'none'; sandbox"}
        return Response(content, media_type=kind, headers=headers)

    @router.get("/users", response_model=forms.AnswerUsers, tags=["users"], summary="Users by part of an id")
    async def users_like(q: Words = "", limit: Limit = 20, export: ExportName = None) -> Response:
        catalogue = desk.export(export)
        gone = len(desk.forgotten)
        rows = await desk.slowly(catalogue.users.like, q, None, limit + gone)
        users = catalogue.users.texts(np.array(rows, np.int64))
        return said({"users": [user for user in users if not gone or user not in desk.forgotten][:limit]})

    @router.get("/users/{user:path}", response_model=forms.AnswerUser, tags=["users"], summary="What a user has taken")
    async def one_user(user: UserPath, limit: Limit = 100, export: ExportName = None) -> Response:
        catalogue = desk.export(export)
        rows = catalogue.shelf.seen.of(desk.known_user(catalogue, user))
        return said({"user": user, "taken": len(rows), "items": catalogue.cards(rows[:limit])})

    @router.delete("/users/{user:path}", response_model=forms.Forgot, tags=["users"], summary="Forget a user")
    async def forget(user: UserPath) -> Response:
        if user not in desk.forgotten:
            if all(catalogue.users.row(user) < 0 for catalogue in desk.exports.all()):
                raise Refused(404, f"User {user!r} is not known.", "user")
            await desk.slowly(desk.forgotten.add, user)
            desk.log.say("forgotten", users=len(desk.forgotten))
        return said({"user": user, "forgotten": True})

    @router.get("/map", response_model=forms.AnswerMap, tags=["catalogue"], summary="Items on a plane")
    async def item_map(export: ExportName = None, by: Modality = None) -> Response:
        catalogue = desk.export(export)
        found = await desk.slowly(desk.maps.of, catalogue, by)
        return Response(found, media_type="application/json")

    @router.get("/exports", response_model=forms.AnswerExports, tags=["service"], summary="What is being served")
    async def exports() -> Response:
        return said(await desk.slowly(about, desk))

    return router
