"""``python -m benchmarks.sft_grid [WORLD ...]``: record complete grids of fine-tuning runs as ``curves/1`` files.

Every cell runs to its end, whatever it does: no pruner, no guard. One process and one rank on one thread, cells in grid
order. A cell that stands in the file is not run again, so a recording can be broken off and taken up.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

GRIDS = Path(__file__).parent / "grids"


def record(world: str, seed: int, *, data: Path, out: Path, most: int | None) -> None:
    """Append every cell of a world that its file lacks."""
    from benchmarks.sft_grid.lines import header_line, trial_line
    from benchmarks.sft_grid.worlds import cells_of
    from trials.session import TrialSession

    space, cells = cells_of(world, seed, data)
    out.mkdir(parents=True, exist_ok=True)
    file = out / f"sft-grid_{world}_seed{seed}.jsonl"
    done = finished(file)
    if not file.exists():
        file.write_text(header_line(space, world, seed, len(cells), "recorded by benchmarks/sft_grid"))
    session, began = TrialSession(rank=0, world_size=1, device="cpu"), time.perf_counter()
    session.connect("")
    try:
        for cell in cells[:most]:
            if cell.name in done:
                continue
            session.start(cell.config)
            measured = []
            while not session.is_over:
                measurement = session.advance()
                assert measurement is not None, "rank 0 gets every measurement"
                measured.append(measurement)
            with file.open("a", encoding="utf-8") as lines:
                lines.write(trial_line(cell, measured, space.objective.metric))
            print(f"{file.stem}: {cell.name}  {time.perf_counter() - began:.0f} s", flush=True)
    finally:
        session.close()


def finished(file: Path) -> set[str]:
    """Return the trials in the file; a line that a killed process left torn is cut off."""
    if not file.exists():
        return set()
    text = file.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        file.write_text(whole, encoding="utf-8")
    return {json.loads(line)["trial"] for line in whole.split("\n")[1:] if line}


def main() -> int:
    # One thread: worlds can be recorded side by side, and sums do not depend on the number of cores.
    os.environ["OMP_NUM_THREADS"] = "1"
    from benchmarks.sft_grid.worlds import WORLDS

    parser = argparse.ArgumentParser(prog="python -m benchmarks.sft_grid", description=__doc__)
    parser.add_argument("worlds", nargs="*", choices=[*WORLDS, []], help="all where none is named")
    parser.add_argument("--data", type=Path, help="folder of the real data sets; without it their worlds are left out")
    parser.add_argument("--out", type=Path, default=GRIDS, help="folder of the files")
    parser.add_argument("--cells", type=int, help="only the first so many cells of each world and seed")
    args = parser.parse_args()
    for name in args.worlds or WORLDS:
        if WORLDS[name].is_real and args.data is None:
            print(f"{name}: left out, it needs --data FOLDER", flush=True)
            continue
        for seed in WORLDS[name].seeds:
            record(name, seed, data=args.data or Path(), out=args.out, most=args.cells)
    return 0


if __name__ == "__main__":
    sys.exit(main())
