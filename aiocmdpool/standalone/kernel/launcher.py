"""Becomes the program after preparing the process: niceness, limits, identity, umask.

Run as `python -I -S launcher.py STATUS_FD MODE COUNT [NAME=VALUE...] PROGRAM [ARG...]`, it does what `preexec_fn`
would, but in a process of its own: code between `fork` and `exec` is unsafe in a host with threads (see the warning in
the documentation of `subprocess`), and uvloop refuses most of it. Standard library only, as little of it as can be.

MODE `exec` replaces this process with the program. MODE `supervise` starts it as a child and reports its exit over
STATUS_FD: the way out for a host that ignores SIGCHLD, where the kernel throws exit statuses away (wait(2), NOTES).

COUNT settings follow, each an argument of its own: no value can hold what ends it. Reports are lines on STATUS_FD:
`exec` right before the `exec`, `error STAGE ERRNO`, `pid N`, `exit WAIT_STATUS USER SYSTEM MAXRSS`. Without a word the
program has not run: what was started was no Python, or could not come up, and its exit status is not the program's.
"""

import errno
import grp
import os
import pwd
import resource
import signal
import sys
import time

TYPE_CHECKING = False  # `typing` takes 7 ms to import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

NESTED = "AIOCMDPOOL_NESTED"  # in the environment of what is started to be a Python; its programs do not get it
EXEC = b"exec\n"  # the word before the `exec`
PR_SET_NO_NEW_PRIVS = 38
STREAMS = ("stdin", "stdout", "stderr")
BUSY_DELAYS = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.32)  # seconds; somebody writes to the program (ETXTBSY)

# All imports stand above: once limits and identity are applied, a lazy import may fail for lack of either. That holds
# for the lazy ones inside the standard library too (`os.execvpe` has one), hence `execute` below.


def apply_niceness(value: str) -> None:
    """Add to the niceness."""
    os.nice(int(value))


def apply_limit(resource_name: str, value: str) -> None:
    """Set one resource limit, soft and hard."""
    limit = int(value)
    resource.setrlimit(getattr(resource, resource_name), (limit, limit))


def is_number(value: str) -> bool:
    """Whether a user or group is given by number; other digits than these, such as the Arabic ones, are a name."""
    return value.isascii() and value.isdigit()


def apply_group(value: str) -> None:
    """Become a member of one group, by name or number."""
    try:
        gid = int(value) if is_number(value) else grp.getgrnam(value).gr_gid
    except KeyError:
        raise LookupError(value) from None
    if os.geteuid() == 0:
        os.setgroups([gid])
    os.setgid(gid)


def apply_extra_groups(value: str) -> None:
    """Become a member of these groups, by number, beside the main one."""
    os.setgroups([int(gid) for gid in value.split(",") if gid])


def apply_user(value: str, keep_group: bool, keep_others: bool = False) -> None:
    """Become a user, by name or number, with the groups of that user unless others were asked for."""
    try:
        entry = pwd.getpwuid(int(value)) if is_number(value) else pwd.getpwnam(value)
        name, uid, gid = entry.pw_name, entry.pw_uid, entry.pw_gid
    except KeyError:
        if not is_number(value):
            raise LookupError(value) from None
        if not keep_group and os.geteuid() == 0:  # then its groups are not known, and ours must not stay
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL)) from None
        name, uid, gid = "", int(value), 0
    if not keep_group and os.geteuid() == 0:
        if not keep_others:
            os.initgroups(name, gid)
        os.setgid(gid)
    os.setuid(uid)


def forbid_new_privileges() -> None:
    """Make set-user-ID programs and file capabilities powerless from here on (PR_SET_NO_NEW_PRIVS, prctl(2))."""
    import ctypes  # 10 ms that few need; it runs before limits and identity are applied

    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def leave_control_group(directory: str) -> None:
    """Move to another control group: what is to outlive a worker must not be in the worker's."""
    with open(f"{directory}/cgroup.procs", "w") as file:
        file.write("0")


def control_session(stream: str) -> None:
    """Make the terminal of a standard stream the one that controls this session (ioctl_tty(2), TIOCSCTTY)."""
    import fcntl  # as above
    import termios

    fcntl.ioctl(int(stream), termios.TIOCSCTTY, 0)


def open_stream(name: str, path: str) -> None:
    """Open a FIFO as a standard stream, and wait for its other end to be opened (fifo(7)).

    Args:
        name: Of the stream.
        path: In hexadecimal.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a signal ends the wait as it would end the program
    number = STREAMS.index(name)
    fd = os.open(bytes.fromhex(path), os.O_WRONLY if number else os.O_RDONLY)
    os.dup2(fd, number)
    os.close(fd)


def prepare(settings: "dict[str, str]", report) -> None:  # type: ignore[no-untyped-def]  # typing costs 2 ms here
    """Apply settings in the order in which privileges allow it; tell `report` the stage before each."""
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
    """Replace this process with a program, searched as execvp(3) does; return only by `OSError`."""
    paths = [name] if b"/" in name else [os.path.join(directory, name) for directory in directories]
    for delay in (*BUSY_DELAYS, 0):
        try:
            attempt(lambda path: os.execve(path, argv, environment), paths)
        except OSError as error:
            if error.errno != errno.ETXTBSY or not delay:
                raise
            time.sleep(delay)


def attempt(start: "Callable[[bytes], int]", paths: "Iterable[bytes]") -> int:
    """Start a program from the first path that can be started.

    What is wrong with a program that is there says more than that there is none elsewhere, so it is what is raised.
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
    """The environment that this process was given for programs: CPython itself sets LC_CTYPE in a C locale (PEP 538).

    Args:
        lc_ctype: What it was before, behind a `+`; `-` if it was not set.
    """
    environment = dict(os.environb)
    environment.pop(NESTED.encode(), None)
    environment.pop(b"LC_CTYPE", None)
    if lc_ctype.startswith("+"):
        environment[b"LC_CTYPE"] = os.fsencode(lc_ctype[1:])
    return environment


def lc_ctype_of(environment: "dict[str, str]") -> str:
    """What `given_environment` has to be told of the environment in which a process is started."""
    return f"+{environment['LC_CTYPE']}" if "LC_CTYPE" in environment else "-"


def search_path(environment: "dict[bytes, bytes]") -> "list[bytes]":
    """The directories in which an environment looks for programs."""
    return environment.get(b"PATH", os.fsencode(os.defpath)).split(b":")


def become(
    settings: "dict[str, str]",
    argv: "list[bytes]",
    environment: "dict[bytes, bytes]",
    status_fd: int,
    last_word: bytes = b"",
) -> None:
    """Prepare, say a last word and `exec`; on failure write a report and end with status 127."""
    stage = "program"

    def report(name: str) -> None:
        nonlocal stage
        stage = name

    try:
        # What CPython ignores at start-up would stay ignored in the program; SIGCHLD as well if the host ignores it.
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        directories = search_path(environment)
        prepare(settings, report)
        stage = "program"
        name = os.fsencode(settings["executable"]) if "executable" in settings else argv[0]
        os.write(status_fd, last_word)
        execute(name, argv, directories, environment)
    except LookupError:  # there is no such user or group
        code = 0
    except Exception as error:  # whatever it is, it is said
        code = code_of(error)
    os.write(status_fd, b"error %s %d\n" % (stage.encode(), code))
    os._exit(127)


def code_of(error: Exception) -> int:
    """The errno for what has prevented a program from being prepared."""
    if isinstance(error, OSError):
        return error.errno or errno.EIO
    if isinstance(error, ValueError):  # setrlimit above the hard limit, without the privilege
        return errno.EPERM
    if isinstance(error, OverflowError):  # a number that the kernel has no room for
        return errno.ERANGE
    return errno.ENOMEM if isinstance(error, MemoryError) else errno.EIO


def supervise(
    settings: "dict[str, str]", argv: "list[bytes]", environment: "dict[bytes, bytes]", status_fd: int
) -> None:
    """Start the program as a child in this process group, outlive every signal but KILL, report the exit."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, range(1, signal.NSIG))
    pid = os.fork()
    if pid == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        become(settings, argv, environment, status_fd, EXEC)
    os.write(status_fd, b"pid %d\n" % pid)
    for fd in (0, 1, 2):  # the pipes are the program's alone
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
