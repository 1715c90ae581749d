"""A WSGI application in whose process `sys.executable` is the server."""

import sys

from aiocmdpool import CommandConfig, ExecutionConfig, ResourceLimits, sync


def application(environ, start_response):
    limited = CommandConfig("sh", ["-c", "ulimit -n"], limits=ResourceLimits(open_files=50))
    with sync.CommandPool(ExecutionConfig(workers=1)) as pool:
        lines = [sys.executable, sync.run("echo", "single").text(), pool.execute(limited).text()]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return ["\n".join(line.strip() for line in lines).encode()]
