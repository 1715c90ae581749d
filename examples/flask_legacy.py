"""A Flask application of the old kind: blocking views in many threads, which share one pool of `aiocmdpool.sync`.

    pip install 'aiocmdpool[examples]'
    flask --app examples/flask_legacy.py run              # werkzeug, a thread for each request
    python examples/flask_legacy.py --processes 2         # forks before it serves, as gunicorn --preload does
    curl --data-binary @access.log localhost:5000/gzip > access.log.gz
    curl localhost:5000/status

The pool is made at import, in a process that may fork later, and lives where it is first used: each process that serves
has its own. So nothing here may use it at import.
"""

import argparse
import os
import signal
import socket
import sys
from types import FrameType
from typing import NoReturn

from flask import Flask, Response, jsonify, request
from flask.typing import ResponseReturnValue
from werkzeug.serving import make_server

from aiocmdpool import CommandConfig, CommandTimeout, ExecutionConfig, NonZeroExit, QueueFull
from aiocmdpool.sync import CommandPool

app = Flask(__name__)
app.config["MAX_CONTENT_LENGTH"] = 20 * 1024 * 1024  # bytes
pool = CommandPool(ExecutionConfig(concurrency_limit=4, workers=1), max_size=20)


@app.before_request
def start_pool() -> None:
    pool.start_executor()  # harmless when repeated; the first request of each process starts it


@app.post("/gzip")
def compress() -> Response:
    command = CommandConfig("gzip", ["-c"], stdin=request.get_data(), timeout=30, check=True)
    result = pool.try_push_task(command).result()  # this thread waits, the others serve
    return Response(result.stdout, mimetype="application/gzip")


@app.get("/sleep/<float:seconds>")
def sleep(seconds: float) -> Response:
    result = pool.execute(CommandConfig("sleep", [str(seconds)], timeout=10, check=True))
    return jsonify(slept=result.duration, waited=result.queued)


@app.get("/status")
def status() -> Response:
    now = pool.statistics()
    return jsonify(pid=os.getpid(), running=now.running, queued=now.queued, completed=now.completed)


@app.errorhandler(QueueFull)
def busy(error: QueueFull) -> ResponseReturnValue:
    return "busy\n", 503, {"retry-after": "1"}


@app.errorhandler(CommandTimeout)
def too_slow(error: CommandTimeout) -> ResponseReturnValue:
    return "took too long\n", 504


@app.errorhandler(NonZeroExit)
def failed(error: NonZeroExit) -> ResponseReturnValue:
    return f"{error}\n", 422


def leave(number: int, frame: FrameType | None) -> NoReturn:
    # The interpreter's exit ends the pool and all its programs. A plain SIGTERM would leave that to the workers, which
    # notice within a second that their host has gone.
    sys.exit(0)


def serve(listener: socket.socket) -> None:
    host, port = listener.getsockname()
    make_server(host, port, app, threaded=True, fd=listener.fileno()).serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve the application.")
    parser.add_argument("--port", type=int, default=5000, help="0 for any that is free (default: %(default)s)")
    parser.add_argument("--processes", type=int, default=0, metavar="N", help="fork so many, which serve")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)
    with socket.create_server(("127.0.0.1", options.port), backlog=128) as listener:
        print(f"ready on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        if not options.processes:
            serve(listener)
        children: list[int] = []
        try:
            for _ in range(options.processes):
                pid = os.fork()
                if not pid:
                    children.clear()  # they are the parent's
                    serve(listener)
                children.append(pid)
            dead, _ = os.wait()  # until a signal, or a child that fails: then all leave
            children.remove(dead)
        finally:
            for pid in children:
                os.kill(pid, signal.SIGTERM)
            for pid in children:
                os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
