"""Applications as their authors would write them: pools at module level, one-liners in views and tasks."""
