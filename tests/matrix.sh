#!/usr/bin/env bash
# Run the tests against the wheel: on the oldest Python that is installed with the oldest SDK that is allowed, and on the
# newest with the newest. Arguments go to pytest; without any, the tests run that depend on Python and the SDK the most: the
# core, what is known of the SDK, and a stream's life. `MATRIX=full` takes every Python with the SDKs at each change of the major version.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ $# -eq 0 ]; then
  set -- tests/core tests/sdk tests/streams tests/robustness/test_{cuts,fuzz}_over_http.py
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
uv build --quiet --wheel --out-dir "$work/dist"

find_python() { # uv does not look behind pyenv's shims
  for candidate in "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python \
    "$(uv python find --no-python-downloads --no-project "$1" 2>/dev/null || true)"; do
    if [ -x "$candidate" ]; then echo "$candidate" && return; fi
  done
}
pythons=()
for version in 3.10 3.11 3.12 3.13 3.14 3.15; do
  if [ -n "$(find_python "$version")" ]; then pythons+=("$version"); fi
done
if [ "${MATRIX:-}" = full ]; then
  sdks=("anthropic==0.80.0" "anthropic<1" "anthropic==1.0.0" "anthropic<2" "anthropic<3")
  pairs=()
  for version in "${pythons[@]}"; do
    for sdk in "${sdks[@]}"; do pairs+=("$version $sdk"); done
  done
else
  pairs=("${pythons[0]} anthropic==0.80.0" "${pythons[-1]} anthropic<3")
fi

for pair in "${pairs[@]}"; do
  version=${pair%% *}
  sdk=${pair#* }
  echo "-- Python $version, $sdk"
  env="$work/$version-$sdk"
  uv venv --quiet --python "$(find_python "$version")" "$env"
  uv pip install --quiet --python "$env" "$work"/dist/*.whl "$sdk"
  uv pip install --quiet --python "$env" --group test
  "$env/bin/python" -m pytest -p no:cacheprovider "$@"
done
