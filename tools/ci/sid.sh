#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The tests on the newest CPythons, which come with Debian sid: a tree of it in the cache, entered by chroot. Needs root and
# debootstrap; exit status 77: skipped.
set -euo pipefail
[ "$(id -u)" = 0 ] || { echo "skipped: chroot needs root"; exit 77; }
command -v debootstrap > /dev/null || { echo "skipped: no debootstrap"; exit 77; }
tree=${XDG_CACHE_HOME:-$HOME/.cache}/slabmalloc/sid
versions=(3.14 3.15)

if [ ! -e "$tree/.made" ]; then
    # The mirror is whichever this machine's apt uses.
    mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | head -n 1)
    rm -rf "$tree"
    mkdir -p "$tree"
    packages=gcc,libc6-dev,ca-certificates
    for version in "${versions[@]}"; do packages+=,python$version,python$version-venv,python$version-dev; done
    debootstrap --variant=minbase --no-check-gpg --include="$packages" sid "$tree" "$mirror" > "$tree.log" 2>&1 ||
        { tail -n 20 "$tree.log" >&2; exit 1; }
    touch "$tree/.made"
fi

mounted=()
cleanup() { for place in "${mounted[@]}"; do umount -l "$place"; done; }
trap cleanup EXIT
mount_at() { # mount_at OPTIONS SOURCE: the same place in the tree
    mkdir -p "$tree$2"
    mount $1 "$2" "$tree$2"
    mounted+=("$tree$2")
}
mount_at "-t proc" /proc 2> /dev/null || { mount -t proc proc "$tree/proc"; mounted+=("$tree/proc"); }
mount_at "--bind" /dev
mkdir -p "$tree/dev/shm"

# pip's configuration, and the folders that it names, as this machine has them.
for config in $(python3 -m pip config debug | sed -n 's/^ *\(\/[^,]*\), exists: True$/\1/p'); do
    mkdir -p "$tree$(dirname "$config")"
    cp "$config" "$tree$config"
done
for folder in $( (python3 -m pip config list; env) | grep -oE 'file://[^ "'"'"',\]]+|find.links=.?/[^ "'"'"']+' | sed -E 's#^file://##; s#^[^/]*##' | sort -u); do
    [ -d "$folder" ] && mount_at "--bind -o ro" "$folder"
done
cp -L /etc/resolv.conf /etc/hosts "$tree/etc/" 2> /dev/null || true

rm -rf "$tree/source"
mkdir -p "$tree/source"
git ls-files -z --cached --others --exclude-standard | tar -c --null --files-from=- | tar -x -C "$tree/source"

failed=0
for version in "${versions[@]}"; do
    [ -x "$tree/usr/bin/python$version" ] || { echo "== no CPython $version in sid"; continue; }
    echo "== CPython $version"
    chroot "$tree" /usr/bin/env HOME=/root bash -euo pipefail -c "
        cd /source
        python$version -m venv --clear /venv-$version
        pip=/venv-$version/bin/pip
        \$pip install --quiet --disable-pip-version-check --prefer-binary '.'
        for package in pytest hypothesis; do \$pip install --quiet --disable-pip-version-check \$package; done
        \$pip install --quiet --disable-pip-version-check --only-binary :all: numpy || echo 'no wheel of NumPy: its tests skip'
        /venv-$version/bin/python -m pytest -q --hypothesis-seed=0 -p no:cacheprovider
    " || failed=1
done
exit $failed
