"""Brings parts up in the order of their needs, as much at once as the order allows, and takes them down."""

import queue
import signal
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from stack import StackError
from stack.process import BOOT_DEADLINE_S, Command, Process, start, wait_until


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
            process = self.processes[name]
            if process.running:
                process.resume()
            else:
                process = self._spawn(part)
            self._await(part, process, time.monotonic() + within_s)

    def stop(self, name: str) -> None:
        """Stop one part; the others stay."""
        with self._lock:
            if self._known(name).volatile:
                raise StackError(f"{name} keeps what it knows in memory", "allowed: pause, resume")
            self.processes[name].stop()

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
        """Stop everything, dependants before what they need, and end the spawner."""
        with self._lock:
            left = {name: self._parts[name].needs for name in self.processes}
            while left:
                needed = frozenset().union(*left.values())
                layer = [name for name in left if name not in needed] or list(left)
                stoppers = [threading.Thread(target=self.processes[name].stop) for name in layer]
                for stopper in stoppers:
                    stopper.start()
                for stopper in stoppers:
                    stopper.join()
                for name in layer:
                    del left[name]
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
