"""Run external commands from asyncio: bounded, fast, and with nothing left behind."""
