"""``python tests/fuzz [TARGET ...] --cases N``: coverage-guided fuzzing of the parsers with atheris.

Each target runs in a process of its own, for atheris never returns. Ends with 1 where a target raised anything but
InputError, or took longer than 10 s of processor time for one input; the input is then shown.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from json_mutator import mutated

HANG_S = 10
"""Of processor time: on a machine that is busy with other work, any input may take as long on the clock."""
STUCK_S = 300
"""On the clock, for what waits and does not work."""
MAX_BYTES = 4096


def fuzz(name: str, cases: int, seed: int) -> None:
    """Fuzz one target in this process and exit."""
    import atheris

    with atheris.instrument_imports(include=["sweeper", "trials", "yaml"]):
        from targets import TARGETS

    from sweeper.core.errors import InputError

    target = TARGETS[name]
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        corpus = Path(folder, "corpus")
        corpus.mkdir()
        for number, text in enumerate(target.seeds):
            (corpus / str(number)).write_text(text, encoding="utf-8")
        words = Path(folder, "words")
        words.write_text("".join(f'"{_escaped(word)}"\n' for word in target.words))
        file = Path(folder, f"input{target.suffix}")

        def one(data: bytes) -> None:
            file.write_bytes(data)
            began = time.process_time()
            with contextlib.suppress(InputError):
                target.read(file)
            assert time.process_time() - began < HANG_S, "takes too long"

        def mutate(data: bytes, max_bytes: int, seed: int) -> bytes:
            # As many by bytes: what is no JSON must be refused as well.
            found = mutated(data, max_bytes, seed) if seed % 2 else None
            return atheris.Mutate(data, max_bytes) if found is None else found

        limits = [f"-runs={cases}", f"-max_len={MAX_BYTES}", f"-timeout={STUCK_S}", f"-seed={seed}"]
        arguments = [sys.argv[0], *limits, f"-dict={words}", f"-artifact_prefix={folder}/", str(corpus)]
        atheris.Setup(arguments, one, custom_mutator=mutate)
        atheris.Fuzz()


def _escaped(word: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word.encode("utf-8"))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python tests/fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", help="all where none is named")
    parser.add_argument("--cases", type=int, default=25_000, help="inputs for each target")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.here:
        # Nothing of ours may have been imported before: atheris instruments modules as they are imported.
        fuzz(args.targets[0], args.cases, args.seed)
    from targets import TARGETS

    broken = []
    for name in args.targets or TARGETS:
        began = time.perf_counter()
        command = [sys.executable, __file__, name, "--here", f"--cases={args.cases}", f"--seed={args.seed}"]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
        verdict = "ok" if done.returncode == 0 else "BROKEN"
        print(f"{name}: {args.cases} cases in {time.perf_counter() - began:.0f} s, {verdict}", flush=True)
        if done.returncode:
            broken.append(name)
            print(done.stdout[-4000:])
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
