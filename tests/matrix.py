"""Run the tests against the wheel, on several Pythons and with several releases of the SDK.

    python tests/matrix.py [--full] [--write] [arguments for pytest]

By default on the oldest Python that is installed with the oldest SDK and extras that are allowed, and on the newest
with the newest. `--full` takes every Python that is installed, each with the SDK releases around every change of the
major version; `--write` puts the outcome into docs/compatibility.md. Without arguments for pytest, the tests run that
depend on Python and the SDK the most; in the full matrix fewer of them, as there are many runs.
"""

from __future__ import annotations

import argparse
import datetime
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "compatibility.md"
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14", "3.15")
OLDEST, NEWEST = "anthropic==0.80.0", "anthropic<3"
OLDEST_EXTRAS = ("rich==13.8.0", "markdown-it-py==2.2.0", "redis==5.0.1")  # tested with the oldest SDK
SDKS = (OLDEST, "anthropic<1", "anthropic==1.0.0", "anthropic<2", NEWEST)
TESTS = [
    "tests/core",
    "tests/sdk",
    "tests/streams",
    *(f"tests/robustness/test_{k}_over_http.py" for k in ("cuts", "fuzz")),
    "tests/rich/test_equality.py",
    "tests/rich/test_scrolled.py",
    "tests/web/test_redis.py",
]
STREAMS = ("iteration", "faults", "retries", "history", "streamed", "structured_output", "opened_streams", "cancel")
FULL_TESTS = ["tests/core", "tests/sdk", *(f"tests/streams/test_{name}.py" for name in STREAMS)]
TABLE = re.compile(r"(?<=<!-- table -->\n).*?(?=<!-- end -->)", re.DOTALL)


def find_python(version: str) -> str | None:
    """Return the interpreter of a version. `uv` does not look behind pyenv's shims."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    for found in pyenv.glob(f"versions/{version}.*/bin/python"):
        return str(found)
    command = ["uv", "python", "find", "--no-python-downloads", "--no-project", version]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout.strip() if done.returncode == 0 else None


def run_tests(python: str, sdk: str, wheel: Path, arguments: list[str]) -> tuple[str, int | None]:
    """Run the quickstart with the wheel alone, then the tests, in a fresh environment.

    Returns the SDK's version, and how many tests passed, or `None` if one failed.
    """
    with tempfile.TemporaryDirectory() as env:
        inner = f"{env}/bin/python"
        install = ("uv", "pip", "install", "--quiet", "--python", inner)
        subprocess.run(["uv", "venv", "--quiet", "--clear", "--python", python, env], check=True)  # noqa: S603, S607
        subprocess.run([*install, str(wheel), sdk], check=True)  # noqa: S603
        subprocess.run([inner, "-W", "error", ROOT / "examples" / "quickstart.py"], check=True)  # noqa: S603
        extras = OLDEST_EXTRAS if sdk == OLDEST else ()
        subprocess.run([*install, "--group", "test", *extras], check=True, cwd=ROOT)  # noqa: S603
        show = "from importlib.metadata import version; print(version('anthropic'))"
        version = subprocess.run([inner, "-c", show], capture_output=True, text=True, check=True)  # noqa: S603
        command = [inner, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as tests:  # noqa: S603
            assert tests.stdout is not None
            last = ""
            for line in tests.stdout:
                print(line, end="", flush=True)
                last = line
        passed = re.search(r"(\d+) passed", last)
        return version.stdout.strip(), int(passed[1]) if passed and tests.returncode == 0 else None


def cell(passed: int | None) -> str:
    """Return what the table says of a run."""
    return "failed" if passed is None else f"{passed:,} passed"


def make_table(found: dict[tuple[str, str], int | None]) -> str:
    """Make the Markdown table: a row for each Python, a column for each release of the SDK."""
    versions = list(dict.fromkeys(version for _, version in found))
    lines = [
        "| | " + " | ".join(f"`anthropic` {version}" for version in versions) + " |",
        "|---|" + "---|" * len(versions),
    ]
    for python in dict.fromkeys(python for python, _ in found):
        cells = (cell(found[python, version]) if (python, version) in found else "" for version in versions)
        lines.append(f"| Python {python} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the pairs one after another, and return 1 if a test failed in one of them."""
    parser = argparse.ArgumentParser(description="Run the tests against the wheel.")
    parser.add_argument(
        "--full", action="store_true", help="every Python that is installed, with five releases of the SDK"
    )
    parser.add_argument("--write", action="store_true", help="put the outcome into docs/compatibility.md")
    options, arguments = parser.parse_known_args()
    pythons = {version: path for version in PYTHONS if (path := find_python(version))}
    pairs = [(min(pythons, key=PYTHONS.index), OLDEST), (max(pythons, key=PYTHONS.index), NEWEST)]
    if options.full:
        pairs = [(python, sdk) for python in pythons for sdk in SDKS]
    found: dict[tuple[str, str], int | None] = {}
    with tempfile.TemporaryDirectory() as dist:
        subprocess.run(["uv", "build", "--quiet", "--wheel", "--out-dir", dist], check=True, cwd=ROOT)  # noqa: S603, S607
        (wheel,) = Path(dist).glob("*.whl")
        for python, sdk in pairs:
            print(f"-- Python {python}, {sdk}", flush=True)
            version, passed = run_tests(
                pythons[python], sdk, wheel, arguments or (FULL_TESTS if options.full else TESTS)
            )
            found[python, version] = passed
    table = make_table(found)
    print(table)
    if options.write:
        page, count = TABLE.subn(
            f"\nMeasured on {datetime.date.today()}:\n\n{table}\n", PAGE.read_text(encoding="utf-8")
        )
        assert count == 1, "the page has one table"
        PAGE.write_text(page, encoding="utf-8")
    return int(None in found.values())


if __name__ == "__main__":
    sys.exit(main())
