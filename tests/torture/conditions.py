"""The conditions that hosts run under: as whom, with which interpreter, and whether they may divide a control group."""

import dataclasses
import os
import pwd
import sys

_HIDE_CONTROL_GROUPS = 'mount -t tmpfs -o ro none /sys/fs/cgroup && exec "$@"'  # in a mount namespace of its own


@dataclasses.dataclass(frozen=True)
class Conditions:
    """How hosts are started."""

    user: str = ""
    """Name or uid; empty: whoever runs the suite, who has to be root to name somebody."""
    control_group: bool = True
    """Whether they see the control groups of this machine; to hide them takes root."""
    python: str = sys.executable
    """The interpreter, which has to be within the user's reach."""

    @property
    def uid(self) -> int:
        """Of the hosts."""
        return self._account.pw_uid if self.user else os.geteuid()

    @property
    def _account(self) -> pwd.struct_passwd:
        return pwd.getpwuid(int(self.user)) if self.user.isdigit() else pwd.getpwnam(self.user)

    def argv(self, module: str) -> list[str]:
        """Start a module; the process that is started becomes the host, without another one in between."""
        argv = [self.python, "-m", module]
        if self.user:
            account = self._account
            argv = ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups", *argv]
        if not self.control_group:
            argv = ["unshare", "--mount", "sh", "-c", _HIDE_CONTROL_GROUPS, "sh", *argv]
        return argv

    def give(self, folder: str) -> None:
        """Let the hosts write into a folder."""
        if self.user:
            os.chown(folder, self._account.pw_uid, self._account.pw_gid)


DEFAULT = Conditions()
