"""Where the guides are read: a folder with the files that they name, and the programs on PATH."""

import gzip
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).parent / "programs"


@pytest.fixture(autouse=True)
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Go to a folder with the files that the guides read, where the stand-ins are found first."""
    (tmp_path / "in.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "in.pdf").write_bytes(b"%PDF-1.7\n")
    (tmp_path / "names.txt").write_text("eve\nadam\neve\n")
    (tmp_path / "urls.txt").write_text("http://example.org/a\nhttp://example.com/b\n")
    (tmp_path / "log.gz").write_bytes(gzip.compress(b"error: one\nfine\nerror: two\n"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Take back what a guide has set up for its log: other tests are in this process, too."""
    loggers = [
        logging.root,
        *(each for each in logging.root.manager.loggerDict.values() if isinstance(each, logging.Logger)),
    ]
    before = {logger: (logger.level, list(logger.handlers), logger.propagate) for logger in loggers}
    yield
    for logger in (logging.root, *logging.root.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger):
            logger.level, handlers, logger.propagate = before.get(logger, (logging.NOTSET, [], True))
            logger.handlers[:] = handlers
    logging.root.manager._clear_cache()  # of whether a level is on
