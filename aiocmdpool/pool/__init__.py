"""The bounded queue in front of an executor."""
