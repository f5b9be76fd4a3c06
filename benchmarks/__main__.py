"""Runs the parts of the benchmark, each in a process of its own.

python -m benchmarks              # all of them
python -m benchmarks factorize    # some
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

PARTS = (
    "engine",
    "rewriters",
    "compile",
    "planned",
    "files",
    "factorize",
    "svd",
    "minilm",
    "crepe",
    "resnet",
    "mixing",
    "orbit",
    "diagrams",
    "sixteen",
    "bilinear",
    "finite",
    "inference",
    "quantise",
)
"""Modules of this package, in the order in which they run."""


def main() -> int:
    """Run the parts that are named, or all. Returns 1 when one of them fails."""
    known = [part for part in PARTS if importlib.util.find_spec(f"benchmarks.{part}")]
    asked = sys.argv[1:] or known
    unknown = [part for part in asked if part not in known]
    if unknown:
        print(f"there is no part {', '.join(unknown)}; there are {', '.join(known)}", file=sys.stderr)
        return 1
    failed = []
    for part in asked:
        print(f"── {part}", flush=True)
        environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
        if subprocess.run([sys.executable, "-m", f"benchmarks.{part}"], env=environment).returncode:
            failed.append(part)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
