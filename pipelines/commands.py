"""Running the two commands from a recipe, exactly as a user would type them."""

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any


def run(command: str, *arguments: object) -> dict[str, Any]:
    """Run `cross4d-cache` or `cross4d-train` with `--json`, show the line on stderr, and return its result.

    A command that fails ends the recipe with the command's own exit code; it has said why.
    """
    words = [str(argument) for argument in arguments]
    print(f"\n$ {command} {shlex.join(words)}", file=sys.stderr, flush=True)
    done = subprocess.run([Path(sys.executable).with_name(command), *words, "--json"], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.returncode)
    result: dict[str, Any] = json.loads(done.stdout)
    return result
