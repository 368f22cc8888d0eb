#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# sid.sh PYTHON: the tests on the newest CPythons, which come with Debian sid: a tree of it in the cache, entered by chroot.
# Needs root and debootstrap. Wheels are fetched out here, by PYTHON, whose pip is configured; nothing inside needs a network.
set -euo pipefail
versions=(3.14 3.15)
[ "$(id -u)" = 0 ] || { echo "skipped: chroot needs root"; exit 77; }
command -v debootstrap > /dev/null || { echo "skipped: no debootstrap"; exit 77; }
cache=${XDG_CACHE_HOME:-$HOME/.cache}/slabmalloc
tree=$cache/sid

# Mounts live in a name space of this script's own: they end with it, however it ends.
[ "${SLABMALLOC_SID:-}" = inside ] || exec env SLABMALLOC_SID=inside unshare --mount --propagation private "$0" "$@"

mkdir -p "$cache"
exec {lock}> "$cache/sid.lock"
flock "$lock"

if [ ! -d "$tree" ]; then
    mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Label: Debian' | sort -u | head -n 1)
    [ -n "$mirror" ] || { echo "skipped: this machine's apt knows no mirror of Debian"; exit 77; }
    echo "== debootstrap of sid"
    rm -rf "$tree.partial"
    debootstrap --variant=minbase sid "$tree.partial" "$mirror"
    # Signatures are checked; but a mirror that rests for a while is later than its Release file promises.
    chroot "$tree.partial" bash -euo pipefail -c '
        export DEBIAN_FRONTEND=noninteractive
        apt-get -qq -o Acquire::Check-Valid-Until=false update
        apt-get -qq install -y --no-install-recommends gcc libc6-dev make \
            $(printf "python%s\n" "$@" "${@/%/-venv}" "${@/%/-dev}")
        apt-get clean' - "${versions[@]}"
    mkdir "$tree.partial/wheels"
    mv "$tree.partial" "$tree"
fi

# For each version what the build and the tests require, as wheels.
mapfile -t wanted < <(for extra in build test; do "$1" tools/extra.py "$extra"; done)
for version in "${versions[@]}"; do
    "$1" -m pip download --quiet --disable-pip-version-check --only-binary :all: --python-version "$version" \
        --dest "$tree/wheels" "${wanted[@]}"
done

rm -rf "$tree/source"
mkdir "$tree/source"
comm -z -23 <(git ls-files -z --cached --others --exclude-standard | sort -zu) <(git ls-files -z --deleted | sort -z) |
    tar -c --null --files-from=- | tar -x -C "$tree/source"
mount --rbind /proc "$tree/proc"
mount --rbind /dev "$tree/dev"

failed=()
for version in "${versions[@]}"; do
    echo "== CPython $(chroot "$tree" "python$version" --version)"
    env -i PATH=/usr/bin:/usr/sbin:/bin:/sbin HOME=/root LANG=C.UTF-8 PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels \
        chroot "$tree" make --no-print-directory -C /source test \
        PYTHON="python$version" VENV=".venv-$version" || failed+=("$version")
done
echo "on CPython of sid: ${versions[*]}; failed: ${failed[*]:-none}"
[ ${#failed[@]} = 0 ]
