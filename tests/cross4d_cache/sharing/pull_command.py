"""A pull as a process of its own, without the slow imports of the command line."""

import sys
from pathlib import Path

from cross4d_cache.sharing.pull import Pull

if __name__ == "__main__":
    for _ in Pull(sys.argv[1], Path(sys.argv[2])).run():
        pass
