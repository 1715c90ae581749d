"""asyncio's own way to start programs, with a worker that does the starting.

    api.py        create_subprocess_exec, … ── arguments ── run ── transport ── asyncio.subprocess.Process
    arguments.py  what `subprocess.Popen` takes, as a command and the setup of its process
    transport.py  asyncio's transport over a program that is no child of this process

The process, its protocol and its streams are asyncio's own objects; only what stands for `Popen` is ours.
"""
