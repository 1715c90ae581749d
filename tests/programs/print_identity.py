"""Print who this process is and under which conditions it runs, as a Python dict."""

import os
import resource

umask = os.umask(0)
print(
    {
        "uid": os.getuid(),
        "euid": os.geteuid(),
        "gid": os.getgid(),
        "groups": sorted(os.getgroups()),
        "umask": umask,
        "niceness": os.getpriority(os.PRIO_PROCESS, 0),
        "cwd": os.getcwd(),
        "pid": os.getpid(),
        "ppid": os.getppid(),
        "group": os.getpgrp(),
        "session": os.getsid(0),
        "limits": {
            name: resource.getrlimit(number)
            for name, number in {
                "cpu_seconds": resource.RLIMIT_CPU,
                "address_space": resource.RLIMIT_AS,
                "open_files": resource.RLIMIT_NOFILE,
                "file_size": resource.RLIMIT_FSIZE,
            }.items()
        },
    }
)
