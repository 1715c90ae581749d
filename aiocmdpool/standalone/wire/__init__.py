"""The protocol between a worker and its parent: frames, and the messages in them."""
