#!/bin/sh
# Installs qwen3lab from this folder without a network, on Linux and macOS: sh install.sh [FOLDER]
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
for version in $(sed -n 's/.*"python": "\([0-9.]*\)".*/\1/p' "$here/bundle.json" | sort -u); do
    if command -v "python$version" >/dev/null 2>&1; then
        exec "python$version" "$here/install.py" "$@"
    fi
done
if command -v python3 >/dev/null 2>&1; then
    exec python3 "$here/install.py" "$@"
fi
echo "Not installed: there is no Python. Install one (see README.txt), and run this again."
exit 1
