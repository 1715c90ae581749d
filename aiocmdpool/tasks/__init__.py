"""One task as its caller sees it."""
