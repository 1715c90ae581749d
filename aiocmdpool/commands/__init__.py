"""Commands, pipelines, their results and errors, and the contract of an executor. Data only: no asyncio, no I/O."""
