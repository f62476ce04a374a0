"""Child processes that cannot outlive their owner: started in the order of their needs, taken down."""

import contextlib
import ctypes
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from stack.host import StackError

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
            self.kill()

    def kill(self, grace: float = 3.0) -> None:
        """Kill the child with all its descendants, without warning, and wait until none of them runs."""
        if not self.running:
            return
        doomed = [self.popen.pid, *descendants(self.popen.pid)]
        for pid in doomed:
            _kill(pid, signal.SIGKILL)
        self.popen.wait()
        # PostgreSQL does not start again while one of its children still holds the memory that they share.
        wait_until(lambda: not any(map(_runs, doomed)), time.monotonic() + grace)

    def end(self) -> None:
        """Send what the kernel would when the owner is gone, and do not wait; descendants are killed, too."""
        if self.command.death_signal == signal.SIGKILL:
            for pid in descendants(self.popen.pid):
                _kill(pid, signal.SIGKILL)
        self.signal(self.command.death_signal)

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


def _runs(pid: int) -> bool:
    """Whether a process exists and is no zombie, which holds nothing any more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


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


@dataclass(frozen=True)
class Part:
    """One process of the platform.

    `needs` names the parts that must be ready first. `ready` is asked repeatedly until it holds; a part
    without it is a one-shot, ready when it has ended with exit code 0. A `volatile` one would come back empty
    when it is stopped and started: it can be paused only.
    """

    name: str
    command: Command
    needs: frozenset[str] = frozenset()
    ready: Callable[[], bool] | None = None
    volatile: bool = False


class Supervisor:
    """Owns the processes of one stack. Thread-safe: the control API acts on it from its own threads."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self.processes: dict[str, Process] = {}
        self.ready_after: dict[str, float] = {}
        #: Parts that a crash ends permanently.
        self.abandoned: set[str] = set()
        self._parts: dict[str, Part] = {}
        # The kernel kills a child when the *thread* that forked it ends: one thread forks them all, also on
        # behalf of short-lived ones such as the control API's.
        self._spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="stack-spawner")
        self._lock = threading.RLock()

    def boot(self, parts: Iterable[Part]) -> None:
        """Start all parts and return when every one is ready.

        Raises StackError with the last lines of a part's log when it ends, or is not ready in time.
        """
        self._parts = {part.name: part for part in parts}
        began = time.monotonic()
        waiting = dict(self._parts)
        up: set[str] = set()
        news: queue.SimpleQueue[tuple[str, StackError | None]] = queue.SimpleQueue()

        def watch(part: Part, process: Process) -> None:
            try:
                self._await(part, process, began + BOOT_DEADLINE_S)
            except StackError as error:
                news.put((part.name, error))
            else:
                news.put((part.name, None))

        while len(up) < len(self._parts):
            for name in [name for name, part in waiting.items() if part.needs & self._parts.keys() <= up]:
                part = waiting.pop(name)
                threading.Thread(target=watch, args=(part, self._spawn(part)), daemon=True).start()
            name, failure = news.get()
            if failure is not None:
                raise failure
            up.add(name)
            self.ready_after[name] = time.monotonic() - began

    def services(self) -> dict[str, str]:
        """Return the state of every part that stays up: running, paused or stopped."""
        states = {}
        for name, part in self._parts.items():
            if part.ready is None:
                continue
            process = self.processes[name]
            states[name] = "stopped" if not process.running else "paused" if process.paused else "running"
        return states

    def command(self, name: str) -> Command:
        """Return what a part runs."""
        return self._known(name).command

    def exchange(self, name: str, command: Command, within_s: float = BOOT_DEADLINE_S) -> None:
        """Have a part run something else from now on: stop it, start that, wait until it is ready."""
        with self._lock:
            self._parts[name] = replace(self._known(name), command=command)
            self.stop(name)
            self.start(name, within_s)

    def start(self, name: str, within_s: float = BOOT_DEADLINE_S) -> None:
        """Start a stopped part again, on its old port, and wait until it is ready."""
        with self._lock:
            part = self._known(name)
            self.abandoned.discard(name)
            process = self.processes[name]
            if process.running:
                process.resume()
            else:
                process = self._spawn(part)
            self._await(part, process, time.monotonic() + within_s)

    def stop(self, name: str) -> None:
        """Stop one part; the others stay."""
        with self._lock:
            self._stoppable(name).stop()

    def kill(self, name: str) -> None:
        """Kill one part with its children (SIGKILL): it ends in the middle of whatever it does."""
        with self._lock:
            self._stoppable(name).kill()

    def crash(self, name: str) -> None:
        """Kill a part and start it again, unless it is abandoned."""
        with self._lock:
            self.kill(name)
            if name not in self.abandoned:
                self.start(name)

    def abandon(self, name: str) -> None:
        """Have a part stay down after its next crash."""
        with self._lock:
            self._stoppable(name)
            self.abandoned.add(name)

    def _stoppable(self, name: str) -> Process:
        if self._known(name).volatile:
            raise StackError(f"{name} keeps what it knows in memory", "allowed: pause, resume")
        return self.processes[name]

    def restart(self, name: str) -> None:
        """Stop a part and start it again."""
        self.stop(name)
        self.start(name)

    def pause(self, name: str) -> None:
        """Freeze a part: its port still accepts, nothing answers.

        Raises StackError for one that the kernel ends with another signal than SIGKILL: frozen, it would
        not notice, and would outlive an owner that is killed.
        """
        with self._lock:
            if self._known(name).command.death_signal != signal.SIGKILL:
                raise StackError(f"{name} would outlive the stack when frozen", "allowed: stop, restart")
            self.processes[name].pause()

    def resume(self, name: str) -> None:
        """Let a frozen part go on."""
        with self._lock:
            self._known(name)
            self.processes[name].resume()

    def shutdown(self) -> None:
        """End everything at once, as the kernel does when the owner is gone: nobody reads what is left."""
        with self._lock:
            for process in self.processes.values():
                process.end()
            for process in self.processes.values():
                process.stop()
            self._spawner.shutdown()

    def _known(self, name: str) -> Part:
        part = self._parts.get(name)
        if part is None or part.ready is None:
            raise StackError(
                f"no part named {name!r} runs here", "known: " + ", ".join(sorted(self.services()))
            )
        return part

    def _spawn(self, part: Part) -> Process:
        log = self.logs / f"{part.name}.log"
        try:
            process = self._spawner.submit(start, part.name, part.command, log).result()
        except OSError as error:
            raise StackError(f"{part.name} cannot be started: {error}") from error
        self.processes[part.name] = process
        return process

    def _await(self, part: Part, process: Process, deadline: float) -> None:
        probe = part.ready
        ended = wait_until(lambda: not process.running or (probe is not None and probe()), deadline)
        if ended and process.running:
            return
        if ended and probe is None and process.popen.returncode == 0:
            return
        state = f"ended with exit code {process.popen.returncode}" if ended else "was not ready in time"
        words = " | ".join(process.last_words()) or "it wrote nothing"
        raise StackError(f"{part.name} {state} while starting", words, f"log: {process.log}")
