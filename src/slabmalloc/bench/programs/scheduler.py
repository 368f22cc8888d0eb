# SPDX-License-Identifier: MIT
"""A small operating system, in the manner of Richards: tasks of several priorities hand packets to each other.

A worker makes packets, handlers cut them up and send the pieces to devices, devices sit on a piece until the idle task
wakes them, and the pieces come back.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Packet:
    """What tasks hand on."""

    def __init__(self, kind: str, sender: int, data: list[int]) -> None:
        self.kind, self.sender, self.data = kind, sender, data
        self.piece = 0


class Task:
    """Runs when it has a packet, or was woken; `state` is its own."""

    def __init__(self, number: int, priority: int, step: Callable[[Kernel, Task, Packet | None], None]) -> None:
        self.number, self.priority, self.step = number, priority, step
        self.inbox: deque[Packet] = deque()
        self.awake = False
        self.state: dict[str, Any] = {"seen": 0}

    @property
    def ready(self) -> bool:
        """Whether the kernel may choose it."""
        return self.awake or bool(self.inbox)


class Kernel:
    """Chooses the ready task of highest priority until none is left."""

    def __init__(self) -> None:
        self.tasks: dict[int, Task] = {}
        self.order: list[Task] = []
        self.switches = 0

    def add(self, task: Task) -> None:
        """One more task."""
        self.tasks[task.number] = task
        self.order = sorted([*self.order, task], key=lambda task: -task.priority)

    def send(self, receiver: int, packet: Packet) -> None:
        """Into its inbox."""
        self.tasks[receiver].inbox.append(packet)

    def run(self) -> None:
        """Until nobody is ready."""
        while (task := next((task for task in self.order if task.ready), None)) is not None:
            self.switches += 1
            packet = task.inbox.popleft() if task.inbox else None
            task.awake = False
            task.step(self, task, packet)


IDLE, WORKER, HANDLERS, DEVICES = 0, 1, (2, 3), (4, 5)


def idle(kernel: Kernel, task: Task, _packet: Packet | None) -> None:
    """Wakes one of the devices, by the bits of a shift register, so many times."""
    left, register = task.state["left"], task.state["register"]
    task.state["left"], task.state["register"] = left - 1, (register >> 1) ^ (0xD008 if register & 1 else 0)
    kernel.tasks[DEVICES[register & 1]].awake = True
    task.awake = left > 1


def worker(kernel: Kernel, task: Task, packet: Packet | None) -> None:
    """Fills a packet and sends it to one of the handlers by turns; takes the answers in."""
    if packet is not None:
        task.state["seen"] += sum(packet.data)
    turn = task.state["turn"] = task.state.get("turn", 0) + 1
    kernel.send(HANDLERS[turn % 2], Packet("work", WORKER, [(turn + place) % 26 + 65 for place in range(4)]))


def handler(kernel: Kernel, task: Task, packet: Packet | None) -> None:
    """Sends a packet's pieces to its device one after the other, then the packet back."""
    if packet is None:
        return
    if packet.kind == "piece":
        packet = task.state["open"].pop(packet.data[1])
        packet.piece += 1
    task.state["seen"] += 1
    if packet.piece < len(packet.data):
        ticket = task.state["seen"]
        task.state.setdefault("open", {})[ticket] = packet
        piece = Packet("piece", task.number, [packet.data[packet.piece], ticket])
        kernel.send(DEVICES[task.number % 2], piece)
    else:
        kernel.send(packet.sender, Packet("answer", task.number, [value + 1 for value in packet.data]))


def device(kernel: Kernel, task: Task, packet: Packet | None) -> None:
    """Takes a piece and holds it; woken, it sends the oldest one back."""
    held = task.state.setdefault("held", deque())
    if packet is not None:
        held.append(packet)
        task.state["seen"] += 1
    elif held:
        piece = held.popleft()
        kernel.send(piece.sender, Packet("piece", task.number, list(piece.data)))


def simulate(wakings: int) -> int:
    """One run of the system."""
    kernel = Kernel()
    steps = [(IDLE, 0, idle), (WORKER, 10, worker)]
    steps += [(number, 20, handler) for number in HANDLERS] + [(number, 40, device) for number in DEVICES]
    for number, priority, step in steps:
        kernel.add(Task(number, priority, step))
    kernel.tasks[IDLE].state.update(left=wakings, register=1)
    kernel.tasks[IDLE].awake = kernel.tasks[WORKER].awake = True
    for _ in range(5):
        kernel.send(WORKER, Packet("answer", WORKER, [0]))
    kernel.run()
    return kernel.switches + int(sum(task.state["seen"] for task in kernel.order))


def run(scale: int) -> int:
    """Twenty systems of 100 wakings per unit of scale."""
    return sum(simulate(100) for _ in range(20 * scale))
