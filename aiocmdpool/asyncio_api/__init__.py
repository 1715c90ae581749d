"""asyncio's own functions that start programs, with a worker that does the starting.

    api.py        create_subprocess_exec, … ── arguments ── run ── transport ── asyncio.subprocess.Process
    arguments.py  converts arguments of `subprocess.Popen` into a command and process settings
    transport.py  asyncio's transport for a program that is no child of this process

The process, its protocol and its streams are asyncio's own objects; only the substitute for `Popen` is ours.
"""
