"""Shared helpers of the stack's tests: polling, HTTP, and a look at processes and sockets through /proc."""

import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import httpx

LISTEN = "0A"
Aws = Callable[[str], Any]


def poll(condition: Callable[[], Any], within: float, what: str) -> Any:
    """Return the first true value of `condition`; fail after `within` seconds."""
    deadline = time.monotonic() + within
    pause = threading.Event()
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {within} s: {what}"
        pause.wait(0.02)
    return value


def request(method: str, url: str, body: Any = None, timeout: float = 60) -> tuple[int, Any]:
    """Send a JSON request and return (status, parsed answer)."""
    answer = httpx.request(method, url, json=body, timeout=timeout)
    return answer.status_code, answer.json()


def listen(aws: Aws, topic: str) -> str:
    """Subscribe a new queue to an SNS topic and return the queue's URL."""
    queue: str = aws("sqs").create_queue(QueueName="listener")["QueueUrl"]
    attributes = aws("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]
    aws("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=attributes["QueueArn"])
    return queue


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def listening_addresses(pids: Iterable[int]) -> set[str]:
    """Return the local addresses, as /proc writes them, on which the processes listen or receive."""
    inodes = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            target = str(link.readlink()) if link.is_symlink() else ""
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    found = set()
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[9] in inodes and (fields[3] == LISTEN or table.startswith("udp")):
                found.add(fields[1].rpartition(":")[0])
    return found
