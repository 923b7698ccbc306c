"""What benchmarks share: a line about the machine that they ran on, and tables beside them."""

import datetime
import importlib.metadata
import json
import os
import platform
from pathlib import Path
from typing import Any


def machine(*packages: str) -> str:
    """Processor, cores that this process may use, load now, versions of packages, and the date."""
    versions = [f"{name} {importlib.metadata.version(name)}" for name in packages]
    return (
        f"{platform.processor() or platform.machine()}, {len(os.sched_getaffinity(0))} cores, "
        f"load {os.getloadavg()[0]:.1f}; Python {platform.python_version()}, "
        f"{', '.join(versions)}; {datetime.date.today()}."
    )


def write(name: str, found: dict[str, Any], text: str) -> None:
    """Write what was found (name.json) and its table (name.md) beside this file, and print that."""
    path = Path(__file__).parent / name
    path.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    path.with_suffix(".md").write_text(text)
    print(text)
