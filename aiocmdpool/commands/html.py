"""HTML tables that `_repr_html_` of pools and results shows in notebooks."""

import html
from collections.abc import Mapping


def table(title: str, rows: Mapping[str, object]) -> str:
    """Return an HTML table with a title and a row for each entry of `rows`; all text is escaped."""
    cells = "".join(f"<tr><th>{html.escape(name)}</th><td>{_cell(value)}</td></tr>" for name, value in rows.items())
    return f"<table><caption>{html.escape(title)}</caption><tbody>{cells}</tbody></table>"


SHOWN = 2000  # most characters shown of one output


def _cell(value: object) -> str:
    if not isinstance(value, bytes):
        return html.escape(str(value))
    text = value[: 4 * SHOWN].decode("utf-8", "replace")[:SHOWN]
    rest = f"… ({len(value)} bytes)" if len(value) > len(text.encode()) else ""
    return f"<pre>{html.escape(text)}{rest}</pre>"
