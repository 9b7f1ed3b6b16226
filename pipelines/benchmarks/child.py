"""A measurement in a process of its own, so that its memory, and whatever it sets, is its own."""

import json
import subprocess
import sys
from typing import Any


def in_a_process(module: str, *request: Any) -> dict[str, Any]:
    """What `python -m MODULE --child REQUEST`, a JSON array, prints as a JSON object.

    Raises:
        SystemExit: it failed, and has said why.
    """
    answer = subprocess.run([sys.executable, "-m", module, "--child", json.dumps(request)], stdout=subprocess.PIPE, check=False)
    if answer.returncode:
        raise SystemExit(answer.returncode)
    return dict(json.loads(answer.stdout))
