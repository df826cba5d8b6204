"""Sweeps over Ray Client: the driver runs on the cluster, and this process follows it.

Study, record and judge lie with the driver, so that it needs nobody here: the connection may break, and this process
may be killed, and the sweep goes on.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from sweeper.adapters.ray.client import Client, GoneError, Keeper, LostError, connected
from sweeper.adapters.ray.follow import Following
from sweeper.core.errors import InputError
from sweeper.core.travel import home_on_cluster, travelling
from sweeper.shipment import shipment_of

EXIT_INTERRUPTED: Final = 3
_PIECE_BYTES: Final = 1 << 20
_THERE: Final = ("--address", "auto", "--plain")


def run(address: str, name: str, space: Path, *, overrides: Sequence[str] = (), sweep: str | None = None) -> int:
    """Start a sweep on the cluster at ``ray://HOST:PORT``, follow it to its end and return its exit code.

    Args:
        address: of the cluster's Ray Client server.
        name: the search space's own.
        space: a search space that was read without fault: a file, or the name of one that ships.
        overrides: changes to it, ``key=value``.
        sweep: name of the sweep; None means the space's name and a number.

    Raises:
        InputError: the cluster cannot be used, the name is taken or the working directory is too large; nothing was
            written.
        LostError: the cluster was lost before the driver began.
    """
    home = home_on_cluster(os.environ)
    shipment = shipment_of(Path.cwd(), space)
    with tempfile.TemporaryFile() as archive, connected(address) as client:
        shipment.pack(archive)
        sweep = client.reserve(home, name, sweep)
        print(f"sweep {sweep} is driven on the cluster; shipped: {shipment}", flush=True)
        words = ["run", shipment.space, "--sweep", sweep, *_THERE]
        words += [f"--set={override}" for override in overrides]
        with _new_keeper(client, home, sweep) as keeper:
            archive.seek(0)
            for piece in _pieces(archive):
                keeper.receive(piece)
            at = keeper.start(words, travelling(os.environ))
        return _follow(keeper, at, sweep, address)


def resume(address: str, sweep: str | None) -> int:
    """Follow a sweep's driver on the cluster where one runs, else start it anew; return its exit code.

    Raises:
        InputError: the cluster cannot be used, or there is no such sweep.
        LostError: the cluster was lost before the driver began.
    """
    home = home_on_cluster(os.environ)
    with connected(address) as client:
        sweep = client.find(home, sweep)
        keeper = client.keeper(home, sweep)
        if keeper is None:
            return _start(client, home, sweep, ["resume", sweep], address)
        print(f"sweep {sweep} is being driven on the cluster; what it said last:", flush=True)
        return _follow(keeper, keeper.attend(), sweep, address)


def confirm(address: str, sweep: str | None, *, top: int, seeds: int) -> int:
    """Run the ``top`` configurations of a sweep on the cluster again, with ``seeds`` fresh seeds; as ``resume``.

    Raises:
        InputError: as ``resume``, or the sweep's driver runs.
        LostError: the cluster was lost before the driver began.
    """
    home = home_on_cluster(os.environ)
    with connected(address) as client:
        sweep = client.find(home, sweep)
        if client.keeper(home, sweep) is not None:
            mend = f"follow it: sweeper resume {sweep} --address {address}"
            raise InputError("is being driven on the cluster", where="SWEEP", got=sweep, mend=mend)
        words = ["confirm", sweep, "--top", str(top), "--seeds", str(seeds)]
        return _start(client, home, sweep, words, address)


def _start(client: Client, home: str, sweep: str, words: Sequence[str], address: str) -> int:
    with _new_keeper(client, home, sweep) as keeper:
        at = keeper.start([*words, *_THERE], travelling(os.environ))
    return _follow(keeper, at, sweep, address)


@contextmanager
def _new_keeper(client: Client, home: str, sweep: str) -> Iterator[Keeper]:
    """Yield a keeper whose driver is to be started; end it where that goes wrong."""
    keeper = None
    try:
        keeper = client.new_keeper(home, sweep)
        yield keeper
    except BaseException:  # Ctrl-C too
        if keeper is not None:
            keeper.end()
        client.release(home, sweep)
        raise


def _pieces(archive: IO[bytes]) -> Iterator[bytes]:
    while piece := archive.read(_PIECE_BYTES):
        yield piece


def _follow(keeper: Keeper, at: tuple[int, int], sweep: str, address: str) -> int:
    again = f"sweeper resume {sweep} --address {address}"
    try:
        code = Following(keeper, at, sys.stdout, sys.stderr).to_the_end()
    except GoneError:
        print(f"the driver on the cluster has gone; go on: {again}", file=sys.stderr)
        return EXIT_INTERRUPTED
    except LostError as error:
        print(f"lost the connection: {error}; the sweep goes on; follow it: {again}", file=sys.stderr)
        return EXIT_INTERRUPTED
    except KeyboardInterrupt:
        print(f"not followed any more; follow it again: {again}", file=sys.stderr)
        return EXIT_INTERRUPTED
    keeper.end()
    if code < 0:
        print(f"the driver on the cluster was ended by signal {-code}; go on: {again}", file=sys.stderr)
        return EXIT_INTERRUPTED
    if code == EXIT_INTERRUPTED:
        print(f"on the cluster: {again}", flush=True)
    return code
