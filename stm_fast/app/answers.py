"""What the server answers to the requests of the page."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from stm_fast.app import exports
from stm_fast.app.hinting import parse_hints
from stm_fast.app.jobs import Job, sentence
from stm_fast.app.objects import ProjectObject, check_id
from stm_fast.app.open_project import OpenProject
from stm_fast.app.pictures import mask_png, read_mask_png
from stm_fast.app.refusal import Refusal
from stm_fast.errors import StmFastError

MAX_PART = 20_000
"""Maximum number of frames in an answer about the timeline."""
_KEEP_ALIVE = 15.0
"""Seconds after which a line is sent, so that a connection without events stays open."""
_LASTING = {"Cache-Control": "private, max-age=3600"}

Handler = Callable[[Request, bytes], Response]


class Answers:
    """Answers requests about a project. What may take long runs in a thread, so that others are not kept waiting.

    Args:
        opened: the project, its pictures and jobs.
    """

    def __init__(self, opened: OpenProject) -> None:
        self._opened = opened
        self._project = opened.project

    def routes(self) -> list[Route]:
        """Return what is answered, by method and path."""
        table: list[tuple[str, str, Handler]] = [
            ("GET", "/api/project", self._describe),
            ("GET", "/api/timeline", self._timeline),
            ("GET", "/api/frames/{name}", self._frame),
            ("GET", "/api/thumbnails/{name}", self._thumbnail),
            ("GET", "/api/masks/{name}", self._mask),
            ("PUT", "/api/masks/{name}", self._give),
            ("DELETE", "/api/masks/{name}", self._take_back),
            ("POST", "/api/hints", self._hints),
            ("PUT", "/api/objects/{name}", self._change_object),
            ("DELETE", "/api/objects/{name}", self._delete_object),
            ("POST", "/api/follow", self._follow),
            ("POST", "/api/stop", self._stop),
            ("POST", "/api/export", self._export),
            ("GET", "/api/exports", self._exports),
            ("GET", "/api/exports/{name}", self._download),
        ]
        routes = [Route(path, self._endpoint(handler), methods=[method]) for method, path, handler in table]
        return [*routes, Route("/api/events", self._events)]

    def _endpoint(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """Return what calls a handler in a thread, and turns its errors into answers."""

        async def answer(request: Request) -> Response:
            body = await request.body()
            try:
                self._check_source(request)
                return await run_in_threadpool(handler, request, body)
            except Refusal as refusal:
                return _failed(refusal.status, str(refusal))
            except StmFastError as error:
                return _failed(400, str(error))
            except OSError as error:
                return _failed(500, sentence(error))

        return answer

    def _describe(self, request: Request, body: bytes) -> Response:
        return JSONResponse(self._opened.describe())

    def _timeline(self, request: Request, body: bytes) -> Response:
        begin = _number(request.query_params.get("from", ""), "from")
        end = _number(request.query_params.get("to", ""), "to")
        last = end if self._project.frames is None else min(end, self._project.frames)
        if not begin <= last <= begin + MAX_PART:
            raise Refusal(400, f"from and to must be up to {MAX_PART} frames apart, in order, got {begin} and {end}")
        return JSONResponse(self._project.timeline.part(begin, last, sorted(self._project.objects)))

    def _frame(self, request: Request, body: bytes) -> Response:
        number = self._number_in(request, "jpg")
        return self._cached(request, f"f{number}", lambda: self._opened.pictures.frame(number))

    def _thumbnail(self, request: Request, body: bytes) -> Response:
        number = self._number_in(request, "jpg")
        return self._cached(request, f"t{number}", lambda: self._opened.pictures.thumbnail(number))

    def _mask(self, request: Request, body: bytes) -> Response:
        number = self._number_in(request, "png")
        headers = {"ETag": self._etag(number), "Cache-Control": "no-cache"}
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        mask = self._project.mask(number)
        if mask is None:
            return Response(status_code=204, headers=headers)
        return Response(mask_png(mask), media_type="image/png", headers=headers)

    def _give(self, request: Request, body: bytes) -> Response:
        number = self._number_in(request, None)
        texts = request.query_params.get("objects", "").split(",")
        objects = {check_id(_number(text, "objects")) for text in texts}
        mask = read_mask_png(body, self._project.clip.size)
        with self._opened.changing_masks(_revision(request)) as revision:
            self._project.give(number, objects, mask)
            etag = self._etag(number)
        return self._changed(number, revision, etag)

    def _take_back(self, request: Request, body: bytes) -> Response:
        number = self._number_in(request, None)
        with self._opened.changing_masks(_revision(request)) as revision:
            self._project.take_back(number)
            etag = self._etag(number)
        return self._changed(number, revision, etag)

    def _hints(self, request: Request, body: bytes) -> Response:
        given = _json(body)
        number = given.get("frame")
        if type(number) is not int:
            raise Refusal(400, f"frame must be a number, got {number!r}"[:100])
        self._project.check_frame(number)
        object_id, hints = parse_hints(given)
        known = None
        if given.get("correct"):
            mask = self._project.mask(number)
            if mask is None or not (mask == object_id).any():
                raise Refusal(400, f"frame {number} has no mask of object {object_id} that points could correct")
            known = mask == object_id
        image = self._opened.pictures.image(number)
        prompter = given.get("prompter", "grabcut")
        if not isinstance(prompter, str):
            raise Refusal(400, "prompter must be a name")
        found = self._opened.prompting.mask(prompter, image, hints, known)
        return Response(mask_png(found.astype(np.uint8)), media_type="image/png")

    def _change_object(self, request: Request, body: bytes) -> Response:
        object_id = check_id(_number(request.path_params["name"], "object"))
        given = _json(body)
        with self._project.changing(_revision(request)) as revision:
            changed = self._project.objects.get(object_id, ProjectObject.new(object_id)).changed(given)
            self._project.add_object(object_id)
            self._project.objects[object_id] = changed
        return JSONResponse({"id": object_id, **changed.described()}, headers=_made(revision))

    def _delete_object(self, request: Request, body: bytes) -> Response:
        object_id = _number(request.path_params["name"], "object")
        with self._opened.changing_masks(_revision(request)) as revision:
            self._project.delete_object(object_id)
        self._project.publish("masks", **{"from": 0, "to": self._project.frames})
        return JSONResponse({}, headers=_made(revision))

    def _follow(self, request: Request, body: bytes) -> Response:
        given = _json(body)
        begin, direction, count = given.get("from"), given.get("direction", "forward"), given.get("count")
        if type(begin) is not int:
            raise Refusal(400, f"from must be the number of a frame, got {begin!r}"[:100])
        self._project.check_frame(begin)
        if direction not in ("forward", "backward", "both"):
            raise Refusal(400, f"direction must be forward, backward or both, got {direction!r}"[:100])
        if count is not None and (type(count) is not int or count < 1):
            raise Refusal(400, f"count must be a number of frames from 1, or null, got {count!r}"[:100])
        return _job(self._opened.follow(_revision(request), direction, begin, count))

    def _stop(self, request: Request, body: bytes) -> Response:
        self._opened.jobs.stop()
        return _job(self._opened.jobs.last)

    def _export(self, request: Request, body: bytes) -> Response:
        given = _json(body)
        name = given.pop("format", None)
        options = exports.export_options(name, given, self._project)
        return _job(self._opened.export(_revision(request), str(name), options))

    def _exports(self, request: Request, body: bytes) -> Response:
        return JSONResponse(exports.listed(self._project))

    def _download(self, request: Request, body: bytes) -> Response:
        name = request.path_params["name"]
        path = exports.download(self._project, name)
        if path.is_dir():
            headers = {"Content-Disposition": f'attachment; filename="{name}"'}
            return StreamingResponse(exports.zipped(path), media_type="application/zip", headers=headers)
        return FileResponse(path, filename=name)

    async def _events(self, request: Request) -> Response:
        try:
            self._check_source(request)
        except Refusal as refusal:
            return _failed(refusal.status, str(refusal))
        return StreamingResponse(self._stream(), media_type="text/event-stream")

    async def _stream(self) -> AsyncIterator[str]:
        """Yield events as server-sent events until the page hangs up or the server ends."""
        with self._project.events.listening() as queue:
            yield _event({"event": "project", "revision": self._project.revision})
            while True:
                coming = asyncio.ensure_future(queue.get())
                try:
                    done, _ = await asyncio.wait([coming], timeout=_KEEP_ALIVE)
                finally:
                    coming.cancel()
                if not done:
                    yield ": \n\n"
                elif (event := coming.result()) is None:
                    return
                else:
                    yield _event(event)

    def _check_source(self, request: Request) -> None:
        """Raise `Refusal` if the tab that asks shows another video, which this address had before."""
        if request.query_params.get("of", self._project.source) != self._project.source:
            raise Refusal(403, "this address has another video now: load the page again to see it")

    def _number_in(self, request: Request, suffix: str | None) -> int:
        """Return the number of a frame in a path, such as `12.jpg`."""
        name = request.path_params["name"]
        ending = "" if suffix is None else rf"\.{suffix}"
        if not (match := re.fullmatch(rf"([0-9]{{1,9}}){ending}", name, re.ASCII)):
            raise Refusal(404, "there is nothing of this name")
        return self._project.check_frame(int(match[1]))

    def _cached(self, request: Request, version: str, content: Callable[[], bytes]) -> Response:
        """Answer with a picture of the video, which never changes."""
        headers = {"ETag": f'"{self._project.source}-{version}"', **_LASTING}
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return Response(content(), media_type="image/jpeg", headers=headers)

    def _etag(self, number: int) -> str:
        return f'"{self._project.mask_version(number)}"'

    def _changed(self, number: int, revision: int, etag: str) -> Response:
        """Return the answer after a change of the mask of a frame, and tell all tabs of it."""
        self._project.publish("masks", **{"from": number, "to": number + 1})
        return JSONResponse({"frame": number}, headers={"ETag": etag, **_made(revision)})


def _failed(status: int, sentence: str) -> Response:
    """Answer with an error; what it quotes of the request may be text that UTF-8 does not have."""
    return JSONResponse({"error": sentence.encode("utf-8", "backslashreplace").decode()}, status_code=status)


def _made(revision: int) -> dict[str, str]:
    """Return the header that tells a tab which revision its own change made, and not one that it has not seen."""
    return {"X-Revision": str(revision)}


def _revision(request: Request) -> int:
    """Return the revision that the tab which asks has seen."""
    given = request.headers.get("if-match", "").strip('"')
    if not re.fullmatch("[0-9]{1,15}", given):
        raise Refusal(428, "a change needs the header If-Match with the revision that it was made for")
    return int(given)


def _number(text: str, what: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text):
        raise Refusal(400, f"{what} must be a number, got {text!r}"[:100])
    return int(text)


def _json(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, "the body must be JSON") from error
    if not isinstance(found, dict):
        raise Refusal(400, "the body must be an object of JSON")
    return found


def _job(job: Job | None) -> Response:
    return JSONResponse(None if job is None else job.described())


def _event(event: dict[str, Any]) -> str:
    return f"data: {json.dumps(event)}\n\n"
