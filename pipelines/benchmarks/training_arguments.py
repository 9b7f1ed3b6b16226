"""What benchmarks that train have in common on their command lines."""

import argparse
from typing import Any

from pipelines.report_file import report_file

NAMES = ("size", "batch", "frames", "points", "steps", "workers", "device")
"""What decides a training, apart from encoder and objective."""


def make_parser(description: str | None, **defaults: Any) -> argparse.ArgumentParser:
    """A command line with `NAMES`, `--json`, and `--child` for the processes that a benchmark starts."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", help="of the encoder")
    parser.add_argument("--batch", type=int, help="clips a step")
    parser.add_argument("--frames", type=int, help="of a clip")
    parser.add_argument("--points", type=int, help="of a frame")
    parser.add_argument("--steps", type=int, help="that are looked at")
    parser.add_argument("--workers", type=int, default=0, help="loader processes of each device")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--json", type=report_file, help="write everything to this file, after every row what there is")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.set_defaults(**defaults)
    return parser
