"""A WSGI application without a framework: `servers.apps.wsgi:application`."""

import os

from aiocmdpool import CommandConfig, ExecutionConfig, sync

pool = sync.CommandPool(ExecutionConfig(concurrency_limit=4, workers=1))
FIRST = sync.run("echo", "at import").stdout  # in gunicorn's master, with --preload

HANG = ["-c", 'echo $$ >"$1"; exec sleep 60', "sh", os.environ.get("READY", "/dev/null")]


def application(environ, start_response):
    """Answer with what a command says, or hang in one."""
    path = environ["PATH_INFO"]
    if path == "/pool":
        body = pool.execute(CommandConfig("echo", ["from the pool"])).stdout
    elif path == "/run":
        body = sync.run("echo", "from a one-liner").stdout
    elif path == "/pid":
        body = b"%d\n" % os.getpid()
    elif path == "/hang/pool":
        body = pool.execute(CommandConfig("sh", HANG)).stdout
    elif path == "/hang/run":
        body = sync.run("sh", *HANG).stdout
    else:
        body = FIRST
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
