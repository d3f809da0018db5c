#!/usr/bin/env bash
# Prints the path of zig, whose C compiler has the headers of every target; installs it from PyPI into build/zig once.
set -euo pipefail
cd "$(dirname "$0")/.."
if [[ ! -x build/zig/bin/zig ]]; then
    "${BUILD_PYTHON:-python3}" -m venv build/zig >&2
    build/zig/bin/python -m pip --disable-pip-version-check install -q "ziglang>=0.13,<1" >&2
    ln -s "$(build/zig/bin/python -c 'import os, ziglang; print(os.path.dirname(ziglang.__file__))')/zig" build/zig/bin/zig
fi
echo "$PWD/build/zig/bin/zig"
