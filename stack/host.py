"""One run's resources on its host: a directory, loopback ports, HTTP probes; and its error type."""

import fcntl
import http.client
import json
import os
import pwd
import shutil
import socket
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

LOOPBACK = "127.0.0.1"
PREFIX = "readiness-stack-"
OWNER_LOCK = "owner.lock"
KEEP_FAILED_S = 24 * 3600


class StackError(Exception):
    """The embedded platform could not do something; `str()` is at most three lines.

    `what` says what went wrong, `detail` what was observed (a log's last lines), `action` what to do next.
    """

    def __init__(self, what: str, detail: str = "", action: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.detail = detail
        self.action = action

    def __str__(self) -> str:
        lines = (self.what, self.detail, self.action)
        return "\n".join(" ".join(line.split()) for line in lines if line)


class RunDir:
    """A run's directory.

    PostgreSQL and PgBouncer refuse to run as root, so a root owner runs them as nobody: then the directory
    can be entered by others (0755), while each part's own directory and each secret stays private.
    """

    def __init__(self, path: Path | None = None) -> None:
        sweep(Path(tempfile.gettempdir()))
        if path is None:
            self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
        else:
            path.mkdir(parents=True, exist_ok=True)
            if any(path.iterdir()):  # it is deleted at the end: never a directory with other files
                raise StackError(f"the run directory {path} is not empty", "allowed: a new or an empty one")
            self.path = path.resolve()
        self.owner = unprivileged_owner()
        self.path.chmod(0o700 if self.owner is None else 0o755)
        # Held until this process ends, however it ends: a lock that can be taken marks an orphan. It gets its
        # name once it is held, so that another stack's sweep never finds it free.
        unnamed = self.path / (OWNER_LOCK + ".new")
        self._lock = unnamed.open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        unnamed.rename(self.path / OWNER_LOCK)
        self.logs = self.directory("logs", 0o755)
        self.secrets = self.directory("secrets")

    def directory(self, name: str, mode: int = 0o700) -> Path:
        """Return a new directory of the caller's own."""
        path = self.path / name
        path.mkdir(exist_ok=True)
        path.chmod(mode)
        return path

    def unprivileged(self, name: str) -> Path:
        """Return a new 0700 directory that belongs to the unprivileged user, where there is one."""
        path = self.directory(name)
        if self.owner is not None:
            os.chown(path, *self.owner)
        return path

    def secret(self, name: str, value: str) -> Path:
        """Write a secret to a 0600 file in `secrets/` and return its path."""
        return write_private(self.secrets / name, value)

    def remove(self, *, keep_logs: bool = False) -> None:
        """Delete the run; with `keep_logs` everything except logs that are not empty."""
        keep_logs = keep_logs and any(log.stat().st_size for log in self.logs.iterdir())
        for entry in self.path.iterdir():
            if entry == self.logs and keep_logs:
                continue
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink()
        self._lock.close()
        if not keep_logs:
            self.path.rmdir()


def write_private(path: Path, text: str, owner: tuple[int, int] | None = None) -> Path:
    """Write a file that only `owner` (uid, gid; None for the caller) can read, and return its path."""
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        if owner is not None:
            os.fchown(handle, *owner)
        file.write(text)
    return path


def unprivileged_owner() -> tuple[int, int] | None:
    """Return (uid, gid) of `nobody` when the caller is root, else None: it is unprivileged already."""
    if os.getuid() != 0:
        return None
    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


def reachable_by_others(path: Path) -> bool:
    """Whether another user can enter every directory on the way to `path` (a venv under /root is not)."""
    return all(parent.stat().st_mode & 0o001 for parent in path.resolve().parents)


def sweep(directory: Path) -> None:
    """Remove what killed stacks left behind, and the logs of failed boots after a day."""
    for path in directory.glob(PREFIX + "*"):
        try:
            if path.is_dir() and path.stat().st_uid == os.getuid() and _abandoned(path):
                shutil.rmtree(path, ignore_errors=True)
        except FileNotFoundError:
            continue  # another stack swept it first


def _abandoned(path: Path) -> bool:
    lock = path / OWNER_LOCK
    if not lock.exists():
        return time.time() - path.stat().st_mtime > KEEP_FAILED_S
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def reserve(count: int) -> list[int]:
    """Return `count` distinct loopback ports.

    Each port is left in TIME_WAIT: the kernel hands it neither to another `bind(0)` nor to an outgoing
    connection for a minute, while a server that sets SO_REUSEADDR (all of ours do) can bind it at once.
    That is what keeps two stacks that start together apart.
    """
    listeners = [_listen() for _ in range(count)]
    try:
        for listener in listeners:
            _leave_in_time_wait(listener)
        return [int(listener.getsockname()[1]) for listener in listeners]
    finally:
        for listener in listeners:
            listener.close()


def _listen() -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((LOOPBACK, 0))
    listener.listen(1)
    return listener


def _leave_in_time_wait(listener: socket.socket) -> None:
    with socket.create_connection(listener.getsockname()) as client:
        accepted, _ = listener.accept()
        # The side that closes first is the one left in TIME_WAIT, and it holds the listening port.
        accepted.close()
        client.recv(1)


def answers_ok(url: str, timeout: float = 1.0) -> bool:
    """Whether `GET url` is answered with 200 within `timeout` seconds."""
    answer = _get(url, timeout)
    return answer is not None and answer[0] == http.client.OK


def get_json(url: str, timeout: float = 2.0) -> dict[str, Any] | None:
    """Return the JSON object that `GET url` gives, or None within `timeout` seconds."""
    answer = _get(url, timeout)
    try:
        found = None if answer is None else json.loads(answer[1])
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _get(url: str, timeout: float) -> tuple[int, bytes] | None:
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or LOOPBACK, address.port, timeout=timeout)
    try:
        connection.request("GET", address.path or "/")
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
