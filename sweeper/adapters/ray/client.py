"""Ray Client: this process at one end, the cluster's head node at the other."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import socket
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

from sweeper.adapters.ray.address import host_and_port
from sweeper.adapters.ray.remote_driver import RemoteDriver, Told, find, release, reserve
from sweeper.adapters.ray.versions import installed, standing_alone
from sweeper.core.errors import InputError, SweeperError

_NAMESPACE: Final = "sweeper"
_ON_HEAD: Final = {"node:__internal_head__": 0.001}
"""The head node has this resource (Ray 2.60), and nobody uses it up."""
_KNOCK_S: Final = 10.0
_TRIES: Final = 3
"""Ray forks a server for each client out of a process with gRPC threads. Two of some thirty died of that before they
began (Ray 2.60, grpcio 1.85); the next one does not know of it."""
_START_S: Final = 180.0
"""The first call waits for a worker process; on a busy head node for long."""
_ANSWER_S: Final = 60.0
_UNPACK_S: Final = 600.0
"""Before a driver starts, its working directory is unpacked, on what may be a slow disk of the network."""
_SETTINGS: Final = {
    "RAY_CLIENT_INITIAL_CONNECTION_TIMEOUT_S": "5",  # three tries of which the second and third took longer: 30 s
    "RAY_CLIENT_MAX_CONNECTION_TIMEOUT_S": "5",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # under `uv run` it ships the current folder to all workers
}
"""Read by Ray when it is imported."""


class LostError(SweeperError):
    """The cluster does not answer any more."""


class GoneError(LostError):
    """The keeper of a driver has ended, or was ended."""


class Driver(Protocol):
    """A driver on the cluster, seen from here; methods are those of ``RemoteDriver`` and raise LostError."""

    def read(self, out_at: int, err_at: int) -> Told: ...

    def interrupt(self) -> None: ...


class Client:
    """A connection to a cluster. Use it inside ``connected``."""

    def reserve(self, home: str, space_name: str, wanted: str | None) -> str:
        """Make the folder of a new sweep on the cluster and return its name; raises InputError."""
        return self._named(reserve, home, space_name, wanted)

    def find(self, home: str, sweep: str | None) -> str:
        """Return the name of a sweep on the cluster, of the latest if None; raises InputError."""
        return self._named(find, home, sweep)

    def release(self, home: str, sweep: str) -> None:
        """Remove the folder of a sweep that was reserved and has not begun, if the cluster can still be asked."""
        with contextlib.suppress(LostError):
            _on_head(release, home, sweep)

    def keeper(self, home: str, sweep: str) -> Keeper | None:
        """Return what keeps the driver of this sweep; None where none is kept over Ray Client. Raises LostError."""
        import ray

        try:
            keeper = Keeper(ray.get_actor(_actor_name(home, sweep), namespace=_NAMESPACE))
            keeper.attend()
        except (ValueError, GoneError):  # ValueError: there is no such name
            return None
        return keeper

    def new_keeper(self, home: str, sweep: str) -> Keeper:
        """Start a keeper for the driver of this sweep; raises LostError."""
        import ray

        options = ray.remote(RemoteDriver).options(
            name=_actor_name(home, sweep),
            namespace=_NAMESPACE,
            lifetime="detached",
            num_cpus=0,
            resources=_ON_HEAD,
            max_concurrency=16,
        )
        with _translated():
            keeper = Keeper(options.remote(_actor_name(home, sweep)))
            keeper.attend(timeout_s=_START_S)
        return keeper

    def _named(self, function: Callable[..., tuple[str, str]], *arguments: object) -> str:
        name, complaint = _on_head(function, *arguments)
        if complaint:
            raise InputError(complaint)
        return str(name)


class Keeper:
    """The actor that keeps a driver, seen from here. Every method raises LostError where it has gone."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def receive(self, piece: bytes) -> None:
        self._ask(self._actor.receive, piece)

    def start(self, words: Sequence[str], variables: Mapping[str, str]) -> tuple[int, int]:
        out_at, err_at = self._ask(self._actor.start, list(words), dict(variables), timeout_s=_UNPACK_S)
        return out_at, err_at

    def attend(self, timeout_s: float = _ANSWER_S) -> tuple[int, int]:
        out_at, err_at = self._ask(self._actor.attend, timeout_s=timeout_s)
        return out_at, err_at

    def read(self, out_at: int, err_at: int) -> Told:
        return Told(*self._ask(self._actor.read, out_at, err_at))

    def interrupt(self) -> None:
        self._ask(self._actor.interrupt)

    def end(self) -> None:
        """End the actor, and the driver if it runs; one that has ended takes no harm."""
        import ray

        with contextlib.suppress(Exception):
            ray.kill(self._actor)

    def _ask(self, method: Any, *arguments: object, timeout_s: float = _ANSWER_S) -> Any:
        import ray

        with _translated():
            return ray.get(method.remote(*arguments), timeout=timeout_s)


@contextlib.contextmanager
def connected(address: str) -> Iterator[Client]:
    """Connect to ``ray://HOST:PORT``.

    Raises:
        InputError: nobody answers there, another Ray or Python, no sweeper there or another one, or no token.
    """
    host, port = host_and_port(address)
    if importlib.util.find_spec("grpc") is None:
        raise InputError(
            "Ray Client is not installed", where="--address", got=address, mend="pip install 'ray[client]'"
        )
    try:
        socket.create_connection((host, port), timeout=_KNOCK_S).close()
    except OSError as error:
        mend = f"on the head node: ray start --head --ray-client-server-port={port}, with ray[client] installed"
        raise InputError(f"does not answer: {error}", where="--address", got=address, mend=mend) from None
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    import ray

    try:
        _connect(address)
        _refuse_other_sweeper()
        yield Client()
    finally:
        ray.shutdown()


def complaint(address: str, told: str, overheard: str) -> InputError:
    """Return what to say where Ray Client could not connect: ``told`` by it at last, and ``overheard`` meanwhile."""
    at = {"where": "--address", "got": address}
    if "ersion mismatch" in told:
        rule = f"the cluster runs other versions: {' '.join(told.split())}"
        return InputError(rule, **at, mend="use the Python and the Ray of the cluster here")
    if "oken" in overheard or "UNAUTHENTICATED" in overheard:
        mend = "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH"
        return InputError(f"the cluster refuses: {overheard}", **at, mend=mend)
    last = (overheard or told).strip().splitlines()
    mend = "the port of Ray Client is 10001 where it was not set; Ray's log on the head node: ray_client_server.err"
    return InputError(f"no Ray Client server answers: {last[-1] if last else 'nothing was said'}", **at, mend=mend)


class _Overheard(logging.Handler):
    """Keeps the last reason that Ray Client gives while it tries: at last it only tells of a timeout."""

    last = ""

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if text.startswith("Received when checking init: "):
            self.last = text.partition(": ")[2]


def _connect(address: str) -> None:
    import ray

    heard = _Overheard()
    logger = logging.getLogger("ray.util.client.worker")
    logger.addHandler(heard)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for left in reversed(range(_TRIES)):
                try:
                    ray.init(address, namespace=_NAMESPACE, log_to_driver=False, logging_level=logging.CRITICAL)
                    return
                except ConnectionAbortedError:
                    ray.shutdown()
                    if not left:
                        raise
    except Exception as error:  # ConnectionError, RuntimeError, and whatever the server raised
        raise complaint(address, str(error), heard.last) from error
    finally:
        logger.removeHandler(heard)
        logging.getLogger("ray.util.client").setLevel(logging.CRITICAL)


def _refuse_other_sweeper() -> None:
    there = _on_head(standing_alone(), ("sweeper",)).get("sweeper", "missing")
    here = installed().get("sweeper", "missing")
    if there != here:
        mend = "install the same here and on all nodes"
        raise InputError(f"the cluster's head node has sweeper {there}, here is {here}", where="--address", mend=mend)


def _on_head(function: Any, *arguments: object) -> Any:
    import ray

    with _translated():
        task = ray.remote(num_cpus=0, resources=_ON_HEAD)(function)
        return ray.get(task.remote(*arguments), timeout=_START_S)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Raise LostError for whatever Ray raises."""
    from ray.exceptions import GetTimeoutError, RayActorError, RayError

    try:
        yield
    except GetTimeoutError as error:
        raise LostError("the cluster does not answer") from error
    except RayActorError as error:
        raise GoneError("the keeper of the driver has gone") from error
    except (RayError, ConnectionError, ValueError, _rpc_error()) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise LostError(lines[-1]) from error


def _rpc_error() -> type[Exception]:
    grpc = sys.modules["grpc"]
    found: type[Exception] = grpc.RpcError
    return found


def _actor_name(home: str, sweep: str) -> str:
    """Return the name of a sweep's keeper, which is the path of the sweep's folder."""
    return f"{home.rstrip('/')}/{sweep}"
