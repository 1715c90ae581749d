"""Prepares this process (niceness, limits, identity, umask), then becomes the program.

Run as `python -I -S launcher.py STATUS_FD MODE COUNT [NAME=VALUE...] PROGRAM [ARG...]`, it does what `preexec_fn`
would, but in a process of its own: code between `fork` and `exec` is unsafe in a host with threads (see the warning in
the documentation of `subprocess`), and uvloop refuses most of it. Standard library only, as little of it as can be.

MODE `exec` replaces this process by the program. MODE `supervise` starts it as a child and reports its exit over
STATUS_FD: for a host that ignores SIGCHLD, whose kernel discards exit statuses (wait(2), NOTES).

COUNT settings follow, each an argument of its own, so that values may contain anything. Reports are lines on STATUS_FD:
`exec` right before the `exec`, `error STAGE ERRNO`, `pid N`, `exit WAIT_STATUS USER SYSTEM MAXRSS`. Without any report
the program has not run: what was started was no Python, or failed to start, and its exit status is not the program's.
"""

import errno
import grp
import os
import pwd
import resource
import sys
import time

TYPE_CHECKING = False  # `typing` takes 7 ms to import
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Iterable
else:
    import _signal as signal  # as in `signals`, which a program in one file cannot import

NESTED = "AIOCMDPOOL_NESTED"  # set for programs that are meant to be a Python; their own programs do not get it
EXEC = b"exec\n"  # the report before the `exec`
PR_SET_NO_NEW_PRIVS = 38
STREAMS = ("stdin", "stdout", "stderr")
BUSY_DELAYS = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.32)  # seconds; the program is open for writing (ETXTBSY)

# All imports are above, because a lazy import may fail once limits and identity are applied. That includes lazy imports
# inside the standard library (`os.execvpe` has one), hence `execute` below.


def apply_niceness(value: str) -> None:
    """Add `value` to the niceness of this process."""
    os.nice(int(value))


def apply_limit(resource_name: str, value: str) -> None:
    """Set one resource limit, soft and hard, to `value`."""
    limit = int(value)
    kind = getattr(resource, resource_name)
    try:
        resource.setrlimit(kind, (limit, limit))
    except ValueError:  # above the hard limit, without the privilege
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM)) from None


def is_number(value: str) -> bool:
    """Return whether a user or group is given by number, in ASCII digits; with others, such as Arabic, it is a name."""
    return value.isascii() and value.isdigit()


def apply_group(value: str) -> None:
    """Change to one group, by name or number, without supplementary groups if privileged."""
    try:
        gid = int(value) if is_number(value) else grp.getgrnam(value).gr_gid
    except KeyError:
        raise LookupError(value) from None
    if os.geteuid() == 0:
        os.setgroups([gid])
    os.setgid(gid)


def apply_extra_groups(value: str) -> None:
    """Set the supplementary groups, by number."""
    os.setgroups([int(gid) for gid in value.split(",") if gid])


def apply_user(value: str, keep_group: bool, keep_others: bool = False) -> None:
    """Change to a user, by name or number, with that user's groups unless others were asked for."""
    try:
        entry = pwd.getpwuid(int(value)) if is_number(value) else pwd.getpwnam(value)
        name, uid, gid = entry.pw_name, entry.pw_uid, entry.pw_gid
    except KeyError:
        if not is_number(value):
            raise LookupError(value) from None
        if not keep_group and os.geteuid() == 0:  # its groups are not known then, and ours must not stay
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL)) from None
        name, uid, gid = "", int(value), 0
    if not keep_group and os.geteuid() == 0:
        if not keep_others:
            os.initgroups(name, gid)
        os.setgid(gid)
    os.setuid(uid)


def forbid_new_privileges() -> None:
    """Disable set-user-ID bits and file capabilities from now on (PR_SET_NO_NEW_PRIVS, prctl(2))."""
    import ctypes  # takes 10 ms that few need; before limits and identity are applied

    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def leave_control_group(directory: str) -> None:
    """Move this process to another control group: it is to outlive the worker, and so must leave the worker's group."""
    with open(f"{directory}/cgroup.procs", "w") as file:
        file.write("0")


def control_session(stream: str) -> None:
    """Make the terminal of a standard stream the controlling terminal of this session (ioctl_tty(2), TIOCSCTTY)."""
    import fcntl  # as above
    import termios

    fcntl.ioctl(int(stream), termios.TIOCSCTTY, 0)


def open_stream(name: str, path: str) -> None:
    """Open a FIFO as the standard stream `name`, and wait for its other end to be opened (fifo(7)).

    Args:
        name: Name of the stream.
        path: Path of the FIFO, in hexadecimal.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a signal ends the wait as it would end the program
    number = STREAMS.index(name)
    fd = os.open(bytes.fromhex(path), os.O_WRONLY if number else os.O_RDONLY)
    os.dup2(fd, number)
    os.close(fd)


def prepare(settings: "dict[str, str]", report) -> None:  # type: ignore[no-untyped-def]  # typing costs 2 ms here
    """Apply settings in the order in which privileges allow it, after calling `report` with the name of each stage."""
    for name in STREAMS:
        if name in settings:
            report(name)
            open_stream(name, settings[name])
    if "merged" in settings:
        os.dup2(1, 2)
    if "cgroup" in settings:
        report("cgroup")
        leave_control_group(settings["cgroup"])
    if "terminal" in settings:
        report("terminal")
        control_session(settings["terminal"])
    if "no_new_privs" in settings:
        report("no_new_privs")
        forbid_new_privileges()
    for name in settings:
        if name == "niceness":
            report(name)
            apply_niceness(settings[name])
        elif name.startswith("RLIMIT_"):
            report(name)
            apply_limit(name, settings[name])
    if "group" in settings:
        report("group")
        apply_group(settings["group"])
    if "extra_groups" in settings:
        report("extra_groups")
        apply_extra_groups(settings["extra_groups"])
    if "user" in settings:
        report("user")
        apply_user(settings["user"], "group" in settings, "extra_groups" in settings)
    if "umask" in settings:
        os.umask(int(settings["umask"]))


def execute(name: bytes, argv: "list[bytes]", directories: "list[bytes]", environment: "dict[bytes, bytes]") -> None:
    """Replace this process by a program, searched for like execvp(3) does; return only by `OSError`."""
    paths = [name] if b"/" in name else [os.path.join(directory, name) for directory in directories]
    for delay in (*BUSY_DELAYS, 0):
        try:
            attempt(lambda path: os.execve(path, argv, environment), paths)
        except OSError as error:
            if error.errno != errno.ETXTBSY or not delay:
                raise
            time.sleep(delay)


def attempt(start: "Callable[[bytes], int]", paths: "Iterable[bytes]") -> int:
    """Call `start` with each path until one succeeds, and return its value.

    An error of a program that exists says more than its absence elsewhere, so that error is raised.
    """
    failure: OSError = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    for path in paths:
        try:
            return start(path)
        except OSError as error:
            if failure.errno in (errno.ENOENT, errno.ENOTDIR):
                failure = error
    raise failure


def given_environment(lc_ctype: str) -> "dict[bytes, bytes]":
    """Return the environment given for programs, without CPython's change of LC_CTYPE in a C locale (PEP 538)."""
    environment = dict(os.environb)
    for name in (NESTED.encode(), b"LC_CTYPE", b""):  # one without a name can be handed to no program
        environment.pop(name, None)
    if lc_ctype.startswith("+"):
        environment[b"LC_CTYPE"] = os.fsencode(lc_ctype[1:])
    return environment


def lc_ctype_of(environment: "dict[str, str]") -> str:
    """Return the argument `lc_ctype` of `given_environment` for the environment in which a process is started."""
    return f"+{environment['LC_CTYPE']}" if "LC_CTYPE" in environment else "-"


def search_path(environment: "dict[bytes, bytes]") -> "list[bytes]":
    """Return the directories in which `environment` looks for programs."""
    return environment.get(b"PATH", os.fsencode(os.defpath)).split(b":")


def become(
    settings: "dict[str, str]",
    argv: "list[bytes]",
    environment: "dict[bytes, bytes]",
    status_fd: int,
    last_word: bytes = b"",
) -> None:
    """Prepare this process, write `last_word` and `exec`; on failure write a report and exit with status 127."""
    stage = "program"

    def report(name: str) -> None:
        nonlocal stage
        stage = name

    try:
        # Signals that CPython ignores at start-up would stay ignored in the program; so would SIGCHLD if the host
        # ignores it.
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        directories = search_path(environment)
        prepare(settings, report)
        stage = "program"
        name = os.fsencode(settings["executable"]) if "executable" in settings else argv[0]
        os.write(status_fd, last_word)
        execute(name, argv, directories, environment)
    except LookupError:  # no such user or group
        code = 0
    except Exception as error:  # any error is reported
        code = code_of(error)
    os.write(status_fd, b"error %s %d\n" % (stage.encode(), code))
    os._exit(127)


def code_of(error: Exception) -> int:
    """Return the errno for an exception that prevented a program from being prepared."""
    if isinstance(error, OSError):
        return error.errno or errno.EIO
    if isinstance(error, ValueError):  # what Python itself refuses to hand to the kernel
        return errno.EINVAL
    if isinstance(error, OverflowError):  # a number that the kernel has no room for
        return errno.ERANGE
    return errno.ENOMEM if isinstance(error, MemoryError) else errno.EIO


def supervise(
    settings: "dict[str, str]", argv: "list[bytes]", environment: "dict[bytes, bytes]", status_fd: int
) -> None:
    """Start the program as a child in this process group, ignore every signal but KILL, and report the exit."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    pid = os.fork()
    if pid == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        become(settings, argv, environment, status_fd, EXEC)
    os.write(status_fd, b"pid %d\n" % pid)
    for fd in (0, 1, 2):  # the pipes belong to the program alone
        os.close(fd)
    _, status, usage = os.wait4(pid, 0)
    os.write(status_fd, b"exit %d %r %r %d\n" % (status, usage.ru_utime, usage.ru_stime, usage.ru_maxrss))
    os._exit(0)


def main() -> None:
    """Read the command line and become the program."""
    status_fd, mode, count, *rest = sys.argv[1:]
    os.set_inheritable(int(status_fd), False)
    settings = dict(item.split("=", 1) for item in rest[: int(count)])
    environment = given_environment(settings.pop("lc_ctype"))
    program = [os.fsencode(arg) for arg in rest[int(count) :]]
    if mode == "supervise":
        supervise(settings, program, environment, int(status_fd))
    else:
        become(settings, program, environment, int(status_fd), EXEC)


if __name__ == "__main__":
    main()
