"""The checks that a change must pass: `uvx nox -s lint` runs one of them, `.ci/run` all, in the order of this file.

What stands after `--` goes to pytest or the benchmark: `uvx nox -s coverage -- tests/core`.
"""

import os
import re
import sys
import tempfile
import zipfile
from pathlib import Path

import nox

nox.needs_version = ">=2024.10.9"
nox.options.default_venv_backend = "none"  # `uv run` keeps one environment up to date for all sessions
nox.options.stop_on_first_error = True

README = Path(__file__).with_name("README.md")
COVERAGE = ("--cov=streamkit", "--cov-branch", "--cov-fail-under=100", "--cov-report=term-missing:skip-covered")


def uv_run(session: nox.Session, *arguments: str) -> None:
    """Run a command in the project's environment."""
    session.run("uv", "run", "--quiet", *arguments)


@nox.session
def lint(session: nox.Session) -> None:
    """Check formatting and lint."""
    uv_run(session, "--only-group", "lint", "ruff", "format", "--check", ".")
    uv_run(session, "--only-group", "lint", "ruff", "check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types of the code, the examples and the pages with mypy and pyright, and that public names have one."""
    uv_run(session, "--group", "typing", "mypy")
    uv_run(session, "--group", "typing", "pyright")
    uv_run(session, "--group", "typing", "pyright", "--verifytypes", "streamkit", "--ignoreexternal")
    # Each Python block of a page becomes a module, in which it has the line numbers of the page.
    with tempfile.TemporaryDirectory() as folder:
        uv_run(session, "--group", "typing", "python", "-m", "tests.support.pages", folder)
        uv_run(session, "--group", "typing", "mypy", "--strict", folder)
        uv_run(session, "--group", "typing", "pyright", "--project", folder)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site, without network and without a warning, and check its pages, links and search."""
    uv_run(session, "--group", "docs", "pytest", "-n", "0", "tests/docs/test_site.py", *session.posargs)


@nox.session
def readme(session: nox.Session) -> None:
    """Run the quickstart and the tests by the README's own commands, as they stand there, and each example.

    `PYTEST_ADDOPTS` adds the coverage to the tests' command: they have to cover every line and branch.
    """
    commands = re.findall(r"^python3 .*(?:quickstart\.py|pytest)$", README.read_text(encoding="utf-8"), re.MULTILINE)
    if len(commands) != 2:
        session.error("expected two commands in the README, for the quickstart and for the tests")
    # The commands are for a plain shell: without an environment chosen elsewhere, and with a python3 that has pip,
    # which the environment of nox itself may lack.
    path = os.environ["PATH"].split(os.pathsep)
    if sys.prefix != sys.base_prefix:
        path = [folder for folder in path if not Path(folder).is_relative_to(sys.prefix)]
    env = {"UV_PROJECT_ENVIRONMENT": None, "PATH": os.pathsep.join(path), "ANTHROPIC_API_KEY": None}
    session.run("bash", "-c", commands[0], env=env)
    for example in sorted(README.parent.glob("examples/[!_]*.py")):
        session.run("bash", "-c", 'uv run --quiet "$0" < /dev/null', str(example), env=env)  # chat.py reads lines
    session.run("uv", "run", "--quiet", "examples/web_chat/__main__.py", "--help", env=env)  # else it goes on
    env["PYTEST_ADDOPTS"] = " ".join(COVERAGE)
    session.run("bash", "-c", f'{commands[1]} "$@"', "pytest", *session.posargs, env=env)


@nox.session(default=False)  # `readme` does the same for the whole
def coverage(session: nox.Session) -> None:
    """Run tests, and tell which lines and branches of the package they do not cover."""
    uv_run(session, "--group", "test", "pytest", *COVERAGE, *session.posargs)


@nox.session
def slow(session: nox.Session) -> None:
    """Run the long variants of the tests."""
    uv_run(session, "--group", "test", "pytest", "-m", "slow", *session.posargs)


@nox.session
def benchmark(session: nox.Session) -> None:
    """Measure the cost of an event. One of three runs has to reach the goals, as other programs blur the ratios."""
    command = ("--group", "bench", "python", "tests/benchmarks/cpu_per_event.py", "--check", *session.posargs)
    for _ in range(2):
        try:
            return uv_run(session, *command)
        except nox.command.CommandFailed:
            session.log("measuring again")
    return uv_run(session, *command)


@nox.session
def matrix(session: nox.Session) -> None:
    """Test the wheel on the oldest and the newest of the supported Pythons and SDKs."""
    session.run("python3", "tests/matrix.py", *session.posargs)


@nox.session
def package(session: nox.Session) -> None:
    """Build the package, check it, and run the quickstart with the wheel alone. A folder after `--` keeps it."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = session.posargs[0] if session.posargs else temporary
        session.run("uv", "build", "--quiet", "--out-dir", folder)
        wheel, sdist = (str(next(Path(folder).glob(pattern))) for pattern in ("*.whl", "*.tar.gz"))
        session.run("uv", "tool", "run", "--quiet", "twine", "check", "--strict", wheel, sdist)
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
        strangers = [name for name in names if not re.match(r"streamkit/.*\.(py|typed)$|anthropic_streamkit-", name)]
        if strangers or "streamkit/py.typed" not in names or not any(name.endswith("/LICENSE") for name in names):
            session.error(f"expected streamkit with py.typed and a licence in the wheel, and nothing else; got {names}")
        quickstart = ("python", "-W", "error", "examples/quickstart.py")
        environment = {"UV_PROJECT_ENVIRONMENT": None, "ANTHROPIC_API_KEY": None}
        session.run("uv", "run", "--quiet", "--isolated", "--no-project", "--with", wheel, *quickstart, env=environment)
