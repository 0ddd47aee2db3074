"""The processes of one run: they join, and where one is lost, or fails, the others soon end too, with a word.

JAX alone leaves the others waiting for its heartbeat, aborts them, and prints pages. Here every process holds a
connection to process 0: the system closes it when its process is killed, a silent one is given up after some time, and
a process that fails says why. To end at once is safe, since what a run saves is whole at every moment.
"""

import contextlib
import ctypes
import os
import re
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from multiprocessing import connection

import jax
import numpy as np
from jax.experimental import multihost_utils

LOST = 75  # exit code where a process is gone: the same command continues
PATIENCE = 60  # seconds of silence after which a process counts as gone
ARRIVAL = 300  # seconds to wait for the others at the start
GRACE = 3.0  # seconds in which the connections explain what else went wrong
SLACK = 30  # seconds that JAX's own heartbeat waits longer: ours has the word
NEVER = 10**6  # seconds that JAX waits at the end, as process 0 may have plots to draw
NAME = 256  # bytes for the name of process 0's host
EARLY = "not all processes met: one is gone, or never came; the same command continues"


def announced(environment: Mapping[str, str] = os.environ) -> int:
    """How many processes SLURM (`srun`) or Open MPI say that they started; 1 outside of them."""
    names = ["OMPI_COMM_WORLD_SIZE"]
    if "SLURM_STEP_NODELIST" in environment:  # not a mere allocation
        names.append("SLURM_NTASKS")
    found = [environment.get(name, "") for name in names]
    return max([1, *(int(n) for n in found if n.isdecimal())])


def beside(environment: Mapping[str, str] = os.environ) -> int:
    """How many of the announced processes are on this machine, whose cores they share; all, where nothing says so."""
    local = environment.get("OMPI_COMM_WORLD_LOCAL_SIZE", "")
    if local.isdecimal():
        return max(1, int(local))
    counts: list[int] = []  # of each node: "2(x3),1" is 2, 2, 2, 1
    for part in environment.get("SLURM_STEP_TASKS_PER_NODE", "").split(","):
        if found := re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part):
            counts += [int(found[1])] * int(found[2] or 1)
    node = environment.get("SLURM_NODEID", "")
    if node.isdecimal() and int(node) < len(counts):
        return max(1, counts[int(node)])
    return announced(environment)


class Lost(Exception):
    """A process went away before all had met; the message says so."""


def join(address: str | None, count: int | None, number: int | None, patience: float) -> None:
    """Meet the other processes, and hold the roll from now on.

    What is None is asked of the cluster. Raises ValueError or RuntimeError where the processes do not meet, Lost where
    one of them is lost meanwhile.
    """
    _take_aborts()
    # Its handler would keep a SIGTERM from us until ours is there.
    jax.config.update("jax_enable_preemption_service", False)
    given = None not in (address, count, number)
    jax.distributed.initialize(
        address,
        count,
        number,
        # Told everything, it asks no cluster, which would leave each process one device only.
        cluster_detection_method="deactivate" if given else None,
        initialization_timeout=ARRIVAL,
        heartbeat_timeout_seconds=int(patience) + SLACK,
        shutdown_timeout_seconds=NEVER,
    )
    if jax.process_count() > 1:
        _hold(address, patience)


# --- the roll of this process, where it is one of several

_roll: "Roll | None" = None


def alone() -> bool:
    """Whether there are no other processes to tell."""
    return _roll is None


def leave(code: int) -> None:
    """This process is done, as all are: each may be gone from now on."""
    if _roll:
        _roll.leave(code)


def explain() -> None:
    """After a failure: time for the connections to end this process, where the end of another was the reason."""
    if _roll:
        time.sleep(GRACE if _roll.number else GRACE / 3)  # process 0 hears of all first


def fail(code: int, text: str) -> None:
    """Tell the others why this process ends, and end it; returns where there are no others."""
    if _roll:
        _roll.fail(code, text)


def _hold(address: str | None, patience: float) -> None:
    """Connect with process 0; where that cannot be done, say so, and leave it to JAX."""
    global _roll
    number, count = jax.process_index(), jax.process_count()
    server = _server() if number == 0 else None
    port = server.getsockname()[1] if server else 0
    name = np.frombuffer(socket.gethostname().encode()[:NAME].ljust(NAME), np.uint8)
    secret = np.frombuffer(secrets.token_bytes(16), np.uint8)
    jax.devices()  # where there are none, that is said as what it is
    try:
        port, name, secret = multihost_utils.broadcast_one_to_all((np.int32(port), name, secret))
    except Exception:  # of many kinds
        raise Lost(EARLY) from None
    host = address.rpartition(":")[0].strip("[]") if address else bytes(name).decode().strip()
    hello = f"hello {bytes(secret).hex()}"
    try:
        if server:
            connections = answer(server, hello, count - 1)
        else:
            connections = {0: connect(host, int(port), f"{hello} {number}")}
    except OSError as error:
        _say(f"no connection with process 0 ({error}): JAX alone notices a lost process")
        return
    _roll = Roll(connections, number, count, patience)
    threading.Thread(target=_roll.listen, name="roll", daemon=True).start()


def _server() -> socket.socket:
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", 0))


def answer(server: socket.socket, hello: str, count: int) -> dict[int, socket.socket]:
    """{number: connection} of so many processes that say hello; strangers are turned away. TimeoutError, an OSError."""
    found, end = {}, time.monotonic() + PATIENCE
    with server:
        while len(found) < count:
            server.settimeout(max(0.01, end - time.monotonic()))
            try:
                other, _ = server.accept()
            except OSError:  # who is there goes on without connections, and takes nobody for lost
                for other in found.values():
                    with contextlib.suppress(OSError), other:
                        other.sendall(b"bye\n")
                raise
            said, _, number = _first_line(other).rpartition(" ")
            if secrets.compare_digest(said.encode(), hello.encode()) and number.isdecimal():
                found[int(number)] = other
            else:
                other.close()
    return found


def _first_line(other: socket.socket) -> str:
    other.settimeout(5)
    content = b""
    with contextlib.suppress(OSError):
        while not content.endswith(b"\n") and len(content) < 100:
            content += other.recv(1) or b"\n"
    return content.decode(errors="replace").strip()


def connect(host: str, port: int, hello: str) -> socket.socket:
    """A connection to process 0, which says hello."""
    other = socket.create_connection((host, port), timeout=PATIENCE)
    other.sendall(f"{hello}\n".encode())
    return other


def _take_aborts() -> None:
    """Have the last word where JAX aborts this process, which it does in a thread of its own, at once."""
    # A handler of Python's would run in the main thread, which may wait for a process that is gone.
    libc = ctypes.CDLL(None)
    libc.signal.argtypes, libc.signal.restype = [ctypes.c_int, ctypes.c_void_p], ctypes.c_void_p
    libc.signal(signal.SIGABRT, ctypes.cast(_aborted, ctypes.c_void_p))


@ctypes.CFUNCTYPE(None, ctypes.c_int)
def _aborted(number: int) -> None:
    """After the return the process is aborted."""
    if _roll:
        _roll.aborted()
    else:
        _say(EARLY)
        os._exit(LOST)


class Roll:
    """The connections of one process: process 0's to all others, or another's to process 0.

    Lines go over them: `.` now and then, `bye` of who is done, `end CODE TEXT` of who fails or found another gone.
    Whoever hears of an end says the text, and ends with that code; process 0 passes it on.
    """

    def __init__(
        self,
        connections: dict[int, socket.socket],
        number: int,
        count: int,
        patience: float,
        end: Callable[[int], None] = os._exit,
        say: Callable[[str], None] | None = None,
    ):
        self.connections, self.number, self.count = connections, number, count
        self.patience, self._exit, self._say = patience, end, say or _say
        self._heard = dict.fromkeys(connections, time.monotonic())
        self._rest = dict.fromkeys(connections, b"")
        self._code: int | None = None  # of this process, once it is done
        for other in connections.values():
            other.settimeout(5)

    def leave(self, code: int) -> None:
        """This process is done."""
        self._code = code
        self._send("bye")

    def fail(self, code: int, text: str) -> None:
        """Tell the others, and end."""
        text = " ".join(text.split())[:400]
        # Who ends from now on does so because of this, and is not lost: nobody listens any more.
        told, self.connections = self.connections, {}
        self._send(
            f"end {code} process {self.number} of {self.count} ended, code {code}: {text}", told
        )
        time.sleep(0.5)  # process 0 takes JAX's service with it: the others shall hear first
        self._exit(code)

    def aborted(self) -> None:
        """What JAX does to a process that lost its service; anything else that aborts it may be the reason, too."""
        if self._code is not None:  # waiting for the others to end as well
            self._exit(self._code)
        time.sleep(GRACE)  # the other thread ends this process if another one is gone

    def listen(self) -> None:
        """Hear the others until all of them are done."""
        pulse, told = self.patience / 6, 0.0
        while self.connections:
            if time.monotonic() - told > pulse:
                told = time.monotonic()
                self._send(".")
            ready = connection.wait(list(self.connections.values()), pulse)
            for number, other in list(self.connections.items()):
                if other in ready:
                    self._hear(number, other)
                elif time.monotonic() - self._heard[number] > self.patience:
                    self._lost(number, f"said nothing for {self.patience:g} seconds")

    def _hear(self, number: int, other: socket.socket) -> None:
        try:
            content = other.recv(4096)
        except OSError:
            content = b""
        if not content:
            self._lost(number, "is gone (killed, or its machine is)")
            return
        self._heard[number] = time.monotonic()
        *lines, self._rest[number] = (self._rest[number] + content).split(b"\n")
        for line in lines:
            self._take(number, line.decode(errors="replace"))

    def _take(self, number: int, line: str) -> None:
        word, _, rest = line.partition(" ")
        if word == "bye":
            self.connections.pop(number, None)
        elif word == "end":
            code, _, text = rest.partition(" ")
            self._end(int(code), text)

    def _lost(self, number: int, how: str) -> None:
        self.connections.pop(number, None)
        if self._code is None:
            text = f"process {number} of {self.count} {how}, so all end; what is saved stays"
            self._end(LOST, f"{text}, the same command continues")

    def _end(self, code: int, text: str) -> None:
        if self.number == 0:
            self._send(f"end {code} {text}")
        self._say(text)
        self._exit(code)

    def _send(self, line: str, to: dict[int, socket.socket] | None = None) -> None:
        for other in list((self.connections if to is None else to).values()):
            with contextlib.suppress(OSError):  # its end is noticed by who listens
                other.sendall(f"{line}\n".encode())


def _say(text: str) -> None:
    """One line on stderr, past Python's buffers, which the main thread may hold."""
    with contextlib.suppress(OSError):
        os.write(2, f"cards_jax: {text}\n".encode())
