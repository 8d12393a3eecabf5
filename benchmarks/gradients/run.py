"""Vanishing and exploding gradients, and a barren plateau: every optimizer and remedy on the same tasks, beside Adam.

    OMP_NUM_THREADS=1 python benchmarks/gradients/run.py                       # minutes of one core
    OMP_NUM_THREADS=1 python benchmarks/gradients/run.py plateau --out folder

Three tasks, five seeds each, of data and start alike; every method has three rates tried, on two further seeds, and the one
with the lowest loss at the end is taken. Writes ``gradients.json``, ``gradients.md`` and ``gradients.png``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from circuits import plateau
from networks import exploding, vanishing
from racing import Result, race
from report import figure, table

TASKS = {"vanishing": vanishing, "exploding": exploding, "plateau": plateau}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", choices=[*TASKS, []], help="all, if none is named")
    parser.add_argument("--out", type=Path, default=Path("gradients"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, list[Result]] = {}
    for task in options.tasks or TASKS:
        print(f"\n{task}", flush=True)
        results[task] = race(TASKS[task]())
    figure(results, options.out / "gradients.png")
    told = "\n".join(table(task, found) for task, found in results.items())
    (options.out / "gradients.md").write_text(told)
    record = {
        task: [{"name": each.name, "rate": each.rate, "curves": [curve._asdict() for curve in each.curves]} for each in found]
        for task, found in results.items()
    }
    (options.out / "gradients.json").write_text(json.dumps(record))
    print("\n" + told)


if __name__ == "__main__":
    main()
