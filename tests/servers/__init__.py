"""Real servers, each started by its test as an operator would: what they do to a pool, and what is left afterwards."""
