"""Child processes that cannot outlive their owner, each with a log of its own."""

import contextlib
import ctypes
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PR_SET_PDEATHSIG = 1
LAST_WORDS = 3
BOOT_DEADLINE_S = 60.0


@dataclass(frozen=True)
class Command:
    """What to run: `owner` is the (uid, gid) to run as, None for the caller's own.

    `stop_signal` asks it to end; `death_signal` is what the kernel sends when the owner of the stack is gone.
    """

    argv: Sequence[str]
    environ: Mapping[str, str]
    cwd: Path
    owner: tuple[int, int] | None = None
    stop_signal: int = signal.SIGTERM
    death_signal: int = signal.SIGKILL


@dataclass
class Process:
    """A started child."""

    name: str
    command: Command
    popen: subprocess.Popen[bytes]
    log: Path
    paused: list[int] = field(default_factory=list)

    @property
    def running(self) -> bool:
        """Whether the child has not ended (a paused one has not)."""
        return self.popen.poll() is None

    def signal(self, number: int) -> None:
        """Send a signal to the child; one that has ended meanwhile is left alone."""
        if self.running:
            self.popen.send_signal(number)

    def stop(self, grace: float = 3.0) -> None:
        """Ask the child to end, and kill it with all its descendants after `grace` seconds."""
        self.resume()
        self.signal(self.command.stop_signal)
        try:
            self.popen.wait(grace)
        except subprocess.TimeoutExpired:
            for pid in [*descendants(self.popen.pid), self.popen.pid]:
                _kill(pid, signal.SIGKILL)
            self.popen.wait()

    def pause(self) -> None:
        """Freeze the child and all its descendants (SIGSTOP)."""
        if self.running and not self.paused:
            self.paused = [self.popen.pid, *descendants(self.popen.pid)]
            for pid in self.paused:
                _kill(pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused child go on."""
        for pid in self.paused:
            _kill(pid, signal.SIGCONT)
        self.paused = []

    def last_words(self) -> list[str]:
        """Return the last lines of the log that are not empty, oldest first."""
        return last_lines(self.log)


def last_lines(path: Path, count: int = LAST_WORDS, width: int = 200) -> list[str]:
    """Return the last `count` non-empty lines of a log, each cut to `width` characters."""
    if not path.exists():
        return []
    text = path.read_bytes()[-8192:].decode("utf-8", "replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return [line[:width] for line in lines[-count:]]


def descendants(pid: int) -> list[int]:
    """Return the ids of all living descendants of a process, as /proc tells them."""
    found: list[int] = []
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(child) for child in listing.read_text().split()]
        except OSError:
            continue
        for child in children:
            found += [child, *descendants(child)]
    return found


def _kill(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def start(name: str, command: Command, log: Path) -> Process:
    """Start `command` with its output appended to `log`. Raises OSError when it cannot be executed.

    The kernel kills the child when the *thread* that calls this ends: call it from one that lives as long as
    the stack.
    """
    uid, gid = command.owner or (None, None)
    with log.open("ab") as output:
        popen = subprocess.Popen(
            list(command.argv),
            env=dict(command.environ),
            cwd=command.cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            user=uid,
            group=gid,
            extra_groups=None if uid is None else [],
            # A session of its own: Ctrl-C in the terminal is for the owner, which stops its children.
            start_new_session=True,
            # Runs after the change of user, which would have cleared the setting.
            preexec_fn=_die_with(os.getpid(), command.death_signal),
        )
    return Process(name, command, popen, log)


def _die_with(owner: int, death_signal: int) -> Callable[[], None]:
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def set_death_signal() -> None:
        prctl(PR_SET_PDEATHSIG, death_signal)
        if os.getppid() != owner:  # it was gone before the setting took hold
            os.kill(os.getpid(), signal.SIGKILL)

    return set_death_signal


def wait_until(condition: Callable[[], bool], deadline: float, every: float = 0.02) -> bool:
    """Poll `condition` until it holds or the monotonic clock passes `deadline`; return whether it held."""
    pause = threading.Event()
    while not condition():
        if time.monotonic() >= deadline:
            return False
        pause.wait(every)
    return True
