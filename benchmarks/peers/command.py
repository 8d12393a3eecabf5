"""What the commands of this folder share: their options, and where their tables go."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from environments import Peer
from report import write_between_markers

HERE = Path(__file__).parent


def parser(description: str | None, peers: Sequence[Peer]) -> argparse.ArgumentParser:
    """With the options that every command has."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [peer.name for peer in peers]
    made.add_argument("--peer", nargs="+", choices=names, default=names, help="default: all")
    made.add_argument("--threads", type=int, default=1)
    made.add_argument("--environments", type=Path, default=HERE / ".environments")
    made.add_argument("--out", type=Path, help="write all figures into this file, as JSON")
    made.add_argument("--write", action="store_true", help="put the tables between the markers of benchmarks/README.md")
    return made


def parsed(made: argparse.ArgumentParser) -> argparse.Namespace:
    """The user's options, with torch on as many threads as they say."""
    options = made.parse_args()
    torch.set_num_threads(options.threads)
    return options


def publish(text: str, results: dict[str, Any], options: argparse.Namespace, markers: str) -> None:
    """Print the tables; write figures and tables where the options say."""
    print(text)
    if options.out is not None:
        options.out.write_text(json.dumps(results, indent=1) + "\n")
    if options.write:
        write_between_markers(HERE.parent / "README.md", markers, text)
