#!/usr/bin/env bash
# Run the tests against the wheel on Pythons that this machine lacks and Debian's testing suite has, in a chroot.
# Arguments go to pytest. Run on demand, as root on Debian with `debootstrap` installed; `.ci/run` does not run this.
#
#   FOLDER=/path     keep the chroot there and use it again (a temporary folder, removed at the end, without it)
#   PYTHONS="3.14"   run these versions only
#   SDK="anthropic==0.80.0"   with this SDK in place of the newest that is allowed
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -z "${IN_NAMESPACE:-}" ]; then
  # Mounts made in a mount namespace of their own vanish with its last process, and `--kill-child` ends what runs in
  # there together with this script. An aborted run leaves neither a mount nor a process.
  root=${FOLDER:-$(mktemp -d)}
  mkdir -p "$root"
  if [ -z "${FOLDER:-}" ]; then trap 'rm -rf --one-file-system "$root"' EXIT; fi
  IN_NAMESPACE=1 FOLDER="$root" unshare --mount --pid --fork --kill-child "$0" "$@"
  exit
fi
root=$FOLDER
command -v debootstrap >/dev/null || { echo "debootstrap is missing: apt-get install debootstrap" >&2 && exit 1; }
read -ra versions <<<"${PYTHONS:-3.14 3.15}"

if [ ! -e "$root/etc/debian_version" ]; then
  mirror=$(apt-get indextargets --format '$(REPO_URI)' "Created-By: Packages" "Label: Debian" | head -n 1)
  echo "-- Debian testing in $root"
  timeout 900 debootstrap --variant=minbase --include=ca-certificates testing "$root" "$mirror" >"$root.log" 2>&1 ||
    { tail -n 20 "$root.log" && exit 1; }
  rm "$root.log"
fi

mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
share() { # make a file or folder of this machine readable at the same place in the chroot
  if [ -d "$1" ]; then mkdir -p "$root$1"; else mkdir -p "$root$(dirname "$1")" && touch "$root$1"; fi
  mount --bind -o ro "$1" "$root$1"
}
cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
apt-config dump Acquire >"$root/etc/apt/apt.conf.d/99machine"
share /etc/ssl/certs
# pip's settings, and the local files and folders that they name. The pages of a local index link to files beside it.
settings=(/etc/pip.conf /etc/xdg/pip "$HOME/.config/pip")
mapfile -t named < <(python3 -m pip config list | grep -oE "(file://|')/[^' ]+" |
  sed -E "s#^(file://|')##; s#/simple/?\$##" | grep -v '^/etc/' | sort -u)
for path in "${settings[@]}" "${named[@]}"; do
  if [ -e "$path" ]; then share "$path"; fi
done

inside() { # SECONDS COMMAND...: run a command in the chroot, for so long at most
  timeout "$1" chroot "$root" /usr/bin/env DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 TMPDIR=/tmp "${@:2}"
}
install_python() { # from testing, or from where Debian puts what is newer
  local suite mirror
  mirror=$(awk '$1 == "deb" { print $2; exit }' "$root/etc/apt/sources.list")
  for suite in testing unstable experimental; do
    if [ "$suite" != testing ]; then
      echo "deb $mirror $suite main" >"$root/etc/apt/sources.list.d/$suite.list"
      printf 'Package: *\nPin: release a=%s\nPin-Priority: 50\n' "$suite" >"$root/etc/apt/preferences.d/$suite"
    fi
    inside 300 apt-get update -qq
    if inside 60 apt-cache show "python$1-venv" >/dev/null 2>&1; then
      inside 600 apt-get install -qq --no-install-recommends "python$1" "python$1-venv" >/dev/null
      return
    fi
  done
  return 1
}

# The tests read the project's files; `streamkit` itself is imported from the wheel, as the copy is not on the path.
rm -rf "$root/project"
mkdir "$root/project"
git -c safe.directory='*' ls-files -z --cached --others --exclude-standard |
  tar --create --null --files-from=- --ignore-failed-read --warning=no-failed-read |
  tar --extract --directory "$root/project" --no-same-owner

failed=()
for version in "${versions[@]}"; do
  if ! install_python "$version"; then
    echo "-- Debian has no Python $version, also not in unstable and experimental"
    failed+=("$version (not available)")
    continue
  fi
  venv=/venvs/$version
  if [ ! -x "$root$venv/bin/python" ]; then inside 120 "python$version" -m venv "$venv"; fi
  rm -rf "$root/dist"
  inside 300 "$venv/bin/python" -m pip wheel --quiet --no-deps --wheel-dir /dist /project
  inside 120 "$venv/bin/python" -m pip uninstall --quiet --yes anthropic-streamkit 2>/dev/null
  wheel=$(basename "$root"/dist/*.whl)
  inside 900 "$venv/bin/python" -m pip install --quiet "/dist/$wheel" "${SDK:-anthropic<3}" \
    --group /project/pyproject.toml:test
  echo "-- $(inside 20 "$venv/bin/python" -VV), $(inside 20 "$venv/bin/python" -m pip freeze | grep '^anthropic==')"
  inside 1500 bash -c 'cd /project && exec "$@"' - "$venv/bin/python" -m pytest -p no:cacheprovider "$@" ||
    failed+=("$version")
done
if [ ${#failed[@]} -gt 0 ]; then
  printf 'failed: %s\n' "${failed[@]}"
  exit 1
fi
