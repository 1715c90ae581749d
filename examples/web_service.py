"""A web service that makes thumbnails, and streams the progress of longer work. Starlette, uvicorn, uvloop.

    pip install 'aiocmdpool[examples]'
    python examples/web_service.py --port 8000
    curl --data-binary @picture.jpg localhost:8000/thumbnail > thumbnail.png
    curl -N 'localhost:8000/film?seconds=20'        # renders a test film; Ctrl-C ends its program, too
    curl localhost:8000/healthz localhost:8000/metrics

The work is done by ImageMagick or ffmpeg, whichever is there, or by `stand_in_converter.py`, which reads PPM only;
`--converter` chooses one. SIGTERM stops it: requests in progress get `--grace` seconds, and no program is left.
"""

import argparse
import asyncio
import contextlib
import shlex
import socket
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from aiocmdpool import (
    CommandConfig,
    CommandPool,
    CommandTimeout,
    ExecuteError,
    ExecutionConfig,
    NonZeroExit,
    QueueFull,
    run,
)
from aiocmdpool.observability.prometheus import PoolCollector

T = TypeVar("T")

STAND_IN = [sys.executable, "-I", str(Path(__file__).with_name("stand_in_converter.py"))]
MAX_UPLOAD = 20 * 1024 * 1024  # bytes
THUMBNAIL = {  # each reads a picture from stdin, and writes a PNG of at most 200 x 200 to stdout
    "magick": ["magick", "-", "-thumbnail", "200x200>", "png:-"],
    "convert": ["convert", "-", "-thumbnail", "200x200>", "png:-"],
    "ffmpeg": shlex.split(
        "ffmpeg -v error -i pipe:0 -frames:v 1 -f image2pipe -c png"
        """ -vf "scale='min(200,iw)':'min(200,ih)':force_original_aspect_ratio=decrease" -"""
    ),
    "stand-in": [*STAND_IN, "thumbnail", "200"],
}
FILM = {  # each writes `out_time_us=…` lines while it works, for so many SECONDS of film; ImageMagick makes none
    "ffmpeg": shlex.split("ffmpeg -v error -progress pipe:1 -re -f lavfi -i testsrc -t SECONDS -f null -"),
    "stand-in": [*STAND_IN, "film", "SECONDS"],
}


def installed(argv: Sequence[str]) -> bool:
    """Whether the program is there and works: that something is called `convert` says little about it."""
    if argv[0] == sys.executable:
        return True
    with contextlib.suppress(ExecuteError):
        return asyncio.run(run(argv[0], "-version", timeout=10)).ok
    return False


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What some work gives, unless the client leaves before: then the work is cancelled."""
    await request.body()  # from here on the only message that can still come is that the client has gone
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(request.receive())
    gone.add_done_callback(lambda _: task.cancel())
    try:
        return await task
    except asyncio.CancelledError:
        if not gone.done():
            raise
        raise HTTPException(499) from None  # nobody reads it
    finally:
        gone.cancel()


async def thumbnail(request: Request) -> Response:
    if int(request.headers.get("content-length", MAX_UPLOAD + 1)) > MAX_UPLOAD:
        raise HTTPException(413)  # also for an upload that does not say how long it is
    program, *args = request.app.state.thumbnail
    command = CommandConfig(program, args, stdin=await request.body(), timeout=10, max_output=MAX_UPLOAD, check=True)
    handle = request.app.state.pool.try_push_task(command)  # a full queue is an answer, not a wait
    result = await unless_gone(request, handle.result_or_cancel())
    return Response(result.stdout, media_type="image/png")


async def progress(pool: CommandPool, argv: Sequence[str], seconds: float) -> AsyncGenerator[str, None]:
    """Run a command, and say as server-sent events how far it is. Whoever stops listening ends it."""
    command = CommandConfig(argv[0], argv[1:], timeout=600, check=True)
    async with pool.open(command, streams=["stdout"], wait=False) as process:
        yield ""  # it runs; nothing has been sent yet
        try:
            # Read no faster than the client takes it: a full pipe makes the program wait.
            async for line in process.stdout.text_lines():
                name, _, value = line.strip().partition("=")
                if name == "out_time_us" and value.isdecimal():
                    yield f"event: progress\ndata: {min(1.0, int(value) / 1e6 / seconds):.3f}\n\n"
            result = await process.result()
        except ExecuteError as error:  # too late for a status
            yield f"event: failed\ndata: {' '.join(str(error).split())}\n\n"
        else:
            yield f"event: done\ndata: {result.duration:.3f}\n\n"


async def film(request: Request) -> Response:
    try:
        seconds = float(request.query_params.get("seconds", "5"))
    except ValueError:
        seconds = 0
    if not 0.1 <= seconds <= 300:
        raise HTTPException(400, "seconds: a number from 0.1 to 300")
    argv = [f"{seconds:g}" if word == "SECONDS" else word for word in request.app.state.film]
    events = progress(request.app.state.pool, argv, seconds)
    await unless_gone(request, events.__anext__())  # starts the program: what is refused here still has a status
    return StreamingResponse(events, media_type="text/event-stream", headers={"cache-control": "no-store"})


async def metrics(request: Request) -> Response:
    return Response(generate_latest(request.app.state.registry), headers={"content-type": CONTENT_TYPE_LATEST})


async def healthz(request: Request) -> Response:
    health = request.app.state.pool.health(long_running=300)
    content = {"state": health.state.value, "reasons": health.reasons}
    return JSONResponse(content, status_code=200 if health else 503)


async def refused(request: Request, error: Exception) -> Response:
    """The answer for what went wrong with a command, one place for all routes."""
    if isinstance(error, QueueFull):
        wait = max(1, round(request.app.state.pool.latencies().run.p50))  # about then there will be room
        return PlainTextResponse("busy\n", status_code=503, headers={"retry-after": str(wait)})
    if isinstance(error, CommandTimeout):
        return PlainTextResponse("took too long\n", status_code=504)
    if isinstance(error, NonZeroExit):
        return PlainTextResponse(f"no picture that can be read: {error}\n", status_code=422)
    return PlainTextResponse(f"{type(error).__name__}\n", status_code=500)  # the client has gone, or the program has


def create_app(thumbnail_argv: list[str], film_argv: list[str], *, at_once: int | None, queue: int) -> Starlette:
    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        # With niceness the programs give way to the loop that serves.
        config = ExecutionConfig(concurrency_limit=at_once, niceness=10)
        async with CommandPool(config, max_size=queue) as app.state.pool:
            app.state.registry.register(PoolCollector({"web": app.state.pool}))
            yield

    handlers = [(thumbnail, ["POST"]), (film, ["GET"]), (metrics, ["GET"]), (healthz, ["GET"])]
    routes = [Route(f"/{handler.__name__}", handler, methods=methods) for handler, methods in handlers]
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers={ExecuteError: refused})
    app.state.thumbnail, app.state.film, app.state.registry = thumbnail_argv, film_argv, CollectorRegistry()
    return app


def main() -> None:
    parser = argparse.ArgumentParser(description="Thumbnails, and the progress of a film, over HTTP.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="0 for any that is free (default: %(default)s)")
    parser.add_argument("--converter", choices=sorted(THUMBNAIL), help="default: the first that is installed")
    parser.add_argument("--at-once", type=int, metavar="N", help="programs at a time (default: the number of CPUs)")
    parser.add_argument("--queue", type=int, default=50, metavar="N", help="requests that may wait")
    parser.add_argument("--grace", type=int, default=5, metavar="SECONDS", help="for requests in progress at the end")
    options = parser.parse_args()
    chosen = options.converter or next(name for name, argv in THUMBNAIL.items() if installed(argv))
    film_argv = FILM.get(chosen) or next(argv for argv in FILM.values() if installed(argv))
    app = create_app(THUMBNAIL[chosen], film_argv, at_once=options.at_once, queue=options.queue)
    server = uvicorn.Server(
        uvicorn.Config(app, loop="uvloop", log_level="warning", timeout_graceful_shutdown=options.grace)
    )
    with socket.create_server((options.host, options.port)) as listener:
        port = listener.getsockname()[1]
        print(f"ready on http://{options.host}:{port}, thumbnails by {chosen}", flush=True)
        server.run(sockets=[listener])


if __name__ == "__main__":
    main()
