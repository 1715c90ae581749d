"""What to run, what came of it, and what whoever runs it promises. Data only: no asyncio, no I/O."""
