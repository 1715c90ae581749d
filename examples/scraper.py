"""Fetch pages with curl, several at once but gently, and count the words of each as they come.

    pip install 'aiocmdpool[examples]'
    python examples/scraper.py https://example.org/ https://example.com/paper.pdf
    python examples/scraper.py --demo           # against a web server of its own, with a page that fails at first

At most two fetches of a host at once, a limited number of starts per second, and what may pass is tried again. Words
are counted by `wc`, those of a PDF by `pdftotext` where it is installed. A page that cannot be had is reported and does
not stop the others; the exit status is then 1.
"""

import argparse
import asyncio
import contextlib
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from aiocmdpool import (
    CommandConfig,
    CommandExecutor,
    CommandPool,
    CommandResult,
    ExecuteError,
    ExecutionConfig,
    create_backend,
)
from aiocmdpool.policies import Backoff, FailedAttempt, KeyLimit, Outcome, RateLimit, Retry, by_host, may_pass

PER_HOST = 2  # fetches at once


def fetch(url: str) -> CommandConfig:
    # --max-time is for the transfer; `timeout` also ends a curl that hangs elsewhere, in a name server or a proxy.
    args = ["--silent", "--show-error", "--fail", "--location", "--max-time", "20", "--url", url]
    return CommandConfig("curl", args, timeout=30, max_output=50 * 1024 * 1024, check=True, metadata={"url": url})


def count_words(page: CommandResult) -> CommandConfig:
    body = page.stdout or b""
    if body.startswith(b"%PDF-") and shutil.which("pdftotext"):
        return CommandConfig.shell(
            "pdftotext - - | wc -w", stdin=body, timeout=30, check=True, metadata=page.command.metadata
        )
    return CommandConfig("wc", ["-w"], stdin=body, timeout=30, check=True, metadata=page.command.metadata)


def worth_another(outcome: Outcome) -> bool:
    """What curl says with 22, its status for an HTTP error: 4xx is the request's own fault, and stays."""
    result = outcome.result if isinstance(outcome, ExecuteError) else None
    refused = result is not None and result.returncode == 22 and b"error: 4" in (result.stderr or b"")
    return may_pass(outcome) and not refused


def gently(backend: CommandExecutor, rate: float) -> CommandExecutor:
    """Policies from the inside out: each attempt, not each page, keeps both limits; a pause holds neither."""
    limited = RateLimit(KeyLimit(backend, PER_HOST, key=by_host), rate, burst=4)

    def tell(attempt: FailedAttempt) -> None:
        print(f"scraper: again in {attempt.pause:.1f} s: {attempt.command.metadata['url']}", file=sys.stderr)

    return Retry(limited, attempts=4, backoff=Backoff(0.2, maximum=5), retry_if=worth_another, on_retry=tell)


async def scrape(urls: Sequence[str], rate: float) -> int:
    """Print a line for each page; returns how many could not be had."""
    failed = 0
    config = ExecutionConfig(concurrency_limit=16)  # fetches mostly wait
    async with (
        create_backend(config) as backend,  # one set of workers for both pools
        CommandPool(config, executor=gently(backend, rate)) as fetching,
        CommandPool(executor=backend) as counting,
    ):

        async def pages() -> AsyncIterator[CommandConfig]:
            """The second step for each page that the first one gives, while others are still being fetched."""
            nonlocal failed
            async for page in fetching.map(map(fetch, urls), ordered=False, return_errors=True):
                if isinstance(page, ExecuteError):
                    report(page)
                    failed += 1
                else:
                    yield count_words(page)

        async for words in counting.map(pages(), ordered=False, return_errors=True):
            if isinstance(words, ExecuteError):
                report(words)
                failed += 1
            else:
                print(f"{words.text().strip():>8}  {words.command.metadata['url']}", flush=True)
    return failed


def report(error: ExecuteError) -> None:
    url = error.command.metadata["url"] if error.command else "?"
    said = (error.result.stderr or b"").decode(errors="replace").strip() if error.result else ""
    print(f"scraper: {url}: {said or error}", file=sys.stderr)


@contextlib.contextmanager
def demo_server() -> Iterator[list[str]]:
    """A web server on this machine under two names; gives the addresses of its pages."""
    seen: Counter[str] = Counter()
    most: Counter[str] = Counter()  # requests at once, by host
    now: Counter[str] = Counter()
    lock = threading.Lock()

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            host = self.headers["host"]
            with lock:
                seen[self.path] += 1
                now[host] += 1
                most[host] = max(most[host], now[host])
            time.sleep(0.05)  # as pages take time
            with lock:
                now[host] -= 1
            status = 404 if self.path == "/missing" else 503 if self.path == "/flaky" and seen["/flaky"] < 3 else 200
            body = b"word " * len(self.path) if status == 200 else b""
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        threading.Thread(target=server.serve_forever).start()
        hosts = [f"{name}:{server.server_port}" for name in ("127.0.0.1", "localhost")]
        pages = [f"/page/{number}" for number in range(6)]
        try:
            yield [f"http://{host}{page}" for page in pages for host in hosts] + [
                f"http://{hosts[0]}/{page}" for page in ("flaky", "missing")
            ]
        finally:
            server.shutdown()
    print(f"demo server: {seen.total()} requests, at most {max(most.values(), default=0)} at once for a host")


def main() -> int:
    parser = argparse.ArgumentParser(description="Fetch pages with curl, and count their words.")
    parser.add_argument("urls", nargs="*", metavar="URL")
    parser.add_argument("--demo", action="store_true", help="fetch the pages of a web server of its own")
    parser.add_argument("--rate", type=float, default=20, help="starts of curl per second (default: %(default)s)")
    options = parser.parse_args()
    try:
        with demo_server() if options.demo else contextlib.nullcontext(options.urls) as urls:
            return 1 if asyncio.run(scrape(urls, options.rate)) else 0
    except ExecuteError as error:  # --rate 0
        print(f"scraper: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
