"""Handles of tasks, as the callers of a pool see them, and their statuses."""
