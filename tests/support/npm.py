"""The real clients of chat frontends, from npm, each installed once into a cache outside of the repository."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

AI_SDK = ("ai@5", "ai@6", "ai@7")
AG_UI = "@ag-ui/client@1"
HERE = Path(__file__).parent
CACHE = Path(os.environ.get("STREAMKIT_NPM_CACHE") or Path(tempfile.gettempdir()) / "streamkit-npm")
needs_node = pytest.mark.skipif(
    shutil.which("node") is None or shutil.which("npm") is None, reason="the clients of browsers need node and npm"
)


def installed(package: str) -> Path:
    """The folder in which a package is installed, by name and version."""
    folder = CACHE / package.replace("@", "-").replace("/", "-").strip("-")
    if not folder.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as made:
            (Path(made) / "package.json").write_text('{"private": true, "type": "module"}', encoding="utf-8")
            options = ("--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--silent")
            subprocess.run(["npm", "install", *options, package], cwd=made, check=True)  # noqa: S603, S607
            try:
                Path(made).rename(folder)
            except OSError:  # another process was faster
                assert folder.exists()
            else:
                Path(made).mkdir()  # which the context manager removes
    return folder


def read_with(package: str, requests: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a client makes of each request: `body`, and whatever else its script takes."""
    lines = [json.dumps({"id": number, **request}) for number, request in enumerate(requests)]
    script = "ag_ui.mjs" if package == AG_UI else "ai_sdk.mjs"
    folder = installed(package)
    with tempfile.NamedTemporaryFile(dir=folder, suffix=f"-{script}", delete=False) as copy:
        # In the folder of the package, as a module finds packages from its own folder.
        copy.write((HERE / script).read_bytes() + (HERE / "each_line.mjs").read_bytes())
    try:
        done = subprocess.run(  # noqa: S603
            ["node", copy.name],  # noqa: S607
            input="\n".join(lines),
            capture_output=True,
            encoding="utf-8",
            timeout=600,
            check=False,
        )
    finally:
        Path(copy.name).unlink()
    assert done.returncode == 0, (done.returncode, done.stderr, done.stdout)
    found = [json.loads(line) for line in done.stdout.split("\n") if line]
    assert [one["id"] for one in found] == list(range(len(lines))), done.stderr
    return found
