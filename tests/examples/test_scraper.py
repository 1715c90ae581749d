"""`examples/scraper.py`, against the web server that it starts."""

import re
import shutil
import signal
import socket

import pytest
from contract.support import returns_before_programs_end

from .support import assert_gone, programs_of

pytest.importorskip("aiolimiter")
pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")


def test_pages_come_as_they_are_ready_and_failures_stop_nobody(start):
    scraper = start("scraper", "--demo", "--rate", 200)
    *pages, summary = scraper.rest()
    assert scraper.wait() == 1  # for the page that is missing
    assert len(pages) == 13
    assert {page.split()[0] for page in pages if "/page/" in page} == {str(len("/page/0"))}
    assert sum("flaky" in page for page in pages) == 1
    # 13 pages, two attempts more for the one that fails at first, one for the missing, which is not tried again.
    assert re.fullmatch("demo server: 16 requests, at most [12] at once for a host", summary)
    errors = scraper.errors().splitlines()
    assert [bool(re.search(r"again in .*/flaky$", line)) for line in errors].count(True) == 2
    assert [line for line in errors if "error: 404" in line]
    assert len(errors) == 3


def test_an_interrupt_ends_a_fetch(start):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        scraper = start("scraper", f"http://127.0.0.1:{silent.getsockname()[1]}/")
        connection, _ = silent.accept()
        with connection, returns_before_programs_end():
            fetches = programs_of(scraper.pid, "curl")
            assert len(fetches) == 1
            scraper.send_signal(signal.SIGINT)
            assert scraper.wait() == 130
            assert_gone(fetches)


def test_a_wrong_rate_is_one_line(start):
    scraper = start("scraper", "--rate", 0)
    assert scraper.wait() == 2
    assert re.fullmatch(r"scraper: rate: .*\n", scraper.errors())
