#!/usr/bin/env bash
# The C and Python tests on aarch64, under qemu: a cross-compiler, Debian's arm64 CPython, aarch64 wheels of what the
# tests import, and both extension modules. All that is fetched or built stays in build/arm, and is fetched once.
#
#   tools/arm/test.sh [c] [python]      both by default
#
# BUILD_PYTHON  a Python with pip and Cython (default .venv/bin/python)
# PYTEST_ARGS   more arguments for pytest
set -euo pipefail
cd "$(dirname "$0")/../.."
source tools/arm/common.sh

root=$PWD/build/arm
python=${BUILD_PYTHON:-.venv/bin/python}
modules=$root/site

# Tests that build things, are not about the processor, or time what an emulator is slow at.
left_out=(test_demo test_packaging test_release_wheel test_readme test_clib test_cython_api test_torch test_metal)

packages=(libc6 libgcc-s1 libstdc++6 libcrypt1 zlib1g libexpat1 libssl3 libffi8 libbz2-1.0 liblzma5
    libsqlite3-0 libuuid1 python3.11 python3.11-minimal libpython3.11-minimal libpython3.11-stdlib libpython3.11-dev)

# Debian's arm64 packages, with an apt of its own, whatever the architecture and release of this machine.
make_sysroot() {
    [[ -e $root/sysroot.done ]] && return
    section "Debian's arm64 packages"
    rm -rf "$root/apt" "$root/sysroot"
    mkdir -p "$root"/apt/{state/lists/partial,cache/archives/partial,packages} "$root/sysroot"
    echo "deb ${DEBIAN_MIRROR:-http://deb.debian.org/debian} bookworm main" >"$root/apt/sources.list"
    touch "$root/apt/status"
    cat >"$root/apt/apt.conf" <<CONF
APT::Architecture "arm64";
APT::Architectures "arm64";
APT::Sandbox::User "";
Dir::State "$root/apt/state";
Dir::State::status "$root/apt/status";
Dir::Cache "$root/apt/cache";
Dir::Etc::SourceList "$root/apt/sources.list";
Dir::Etc::SourceParts "-";
CONF
    export APT_CONFIG=$root/apt/apt.conf
    apt-get update -q
    (cd "$root/apt/packages" && apt-get download -q "${packages[@]}")
    unset APT_CONFIG
    local package
    for package in "$root"/apt/packages/*.deb; do dpkg -x "$package" "$root/sysroot"; done
    touch "$root/sysroot.done"
}

# What the tests import, as wheels for aarch64, unpacked side by side.
install_wheels() {
    local wanted
    wanted=$("$python" -c 'import sys
try:
    import tomllib
except ImportError:
    from setuptools._vendor import tomli as tomllib
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
print(*project["dependencies"], *project["optional-dependencies"]["test"], sep="\n")')
    [[ -e $root/wheels.txt && $(<"$root/wheels.txt") == "$wanted" ]] && return
    section "Wheels for aarch64"
    rm -rf "$modules"
    local arguments
    mapfile -t arguments <<<"$wanted"
    "$python" -m pip --disable-pip-version-check install -q --target "$modules" --only-binary=:all: \
        --python-version 3.11 --implementation cp --abi cp311 --abi abi3 --abi none \
        --platform manylinux_2_28_aarch64 --platform manylinux_2_17_aarch64 --platform manylinux2014_aarch64 \
        "${arguments[@]}"
    echo "$wanted" >"$root/wheels.txt"
}

build_modules() {
    # Nothing is built where nothing is newer than what was built.
    [[ -e $root/package.done && -z $(find csrc binconv tools/arm "$root/wheels.txt" -newer "$root/package.done" \
        -not -name '*.so' -not -path '*/__pycache__*' -print -quit) ]] && return
    section "Both extension modules for aarch64"
    local flags=(-O3 -std=c11 -ffp-contract=off -fvisibility=hidden -pthread -fPIC -Icsrc/include -Icsrc) object source
    local objects=()
    mkdir -p "$root/objects"
    for source in csrc/*.c; do
        object=$root/objects/$(basename "$source" .c).o
        aarch64-linux-gnu-gcc "${flags[@]}" "${warnings[@]}" -c "$source" -o "$object"
        objects+=("$object")
    done
    rm -rf "$root/package"
    mkdir -p "$root/package"
    cp -r binconv "$root/package/"
    rm -f "$root"/package/binconv/*.so
    for source in binconv/*.pyx; do
        local name generated
        name=$(basename "$source" .pyx)
        generated=$root/objects/$name.c
        "$python" -m cython -3 -I . --embed-positions "$source" -o "$generated"
        aarch64-linux-gnu-gcc "${flags[@]}" -DNPY_NO_DEPRECATED_API=NPY_1_7_API_VERSION \
            -I"$root/sysroot/usr/include/python3.11" -I"$root/sysroot/usr/include" -I"$modules/numpy/_core/include" \
            -shared "$generated" "${objects[@]}" -lm \
            -o "$root/package/binconv/$name.cpython-311-aarch64-linux-gnu.so"
    done
    touch "$root/package.done"
}

# An aarch64 Python that looks like one of this machine, so that tests may start sys.executable.
make_python() {
    cat >"$root/python" <<PYTHON
#!/bin/sh
export PYTHONHOME=$root/sysroot/usr PYTHONPATH=$root/package:$modules PYTHONDONTWRITEBYTECODE=1
exec $(qemu aarch64) -0 $root/python -L $root/sysroot $root/sysroot/usr/bin/python3.11 "\$@"
PYTHON
    chmod +x "$root/python"
}

test_c() {
    section "C tests on aarch64"
    build_c_tests aarch64-linux-gnu-gcc "$root/test_kernels"
    "$(qemu aarch64)" "$root/test_kernels"
}

# From outside the checkout, whose package has no modules for aarch64.
test_python() {
    make_sysroot
    install_wheels
    build_modules
    make_python
    section "Python tests on aarch64"
    local checkout=$PWD name ignored=()
    for name in "${left_out[@]}"; do ignored+=("--ignore-glob=$checkout/tests/$name*"); done
    (
        cd "$root"
        # shellcheck disable=SC2086
        HYPOTHESIS_PROFILE=emulated ./python -m pytest -q -c "$checkout/pyproject.toml" --rootdir "$checkout" \
            -p no:cacheprovider --timeout 900 "${ignored[@]}" ${PYTEST_ARGS:-} "$checkout/tests"
    )
}

parts=("$@")
((${#parts[@]})) || parts=(c python)
need_tools aarch64-linux-gnu-gcc:gcc-aarch64-linux-gnu,libc6-dev-arm64-cross qemu-aarch64-static:qemu-user-static
mkdir -p "$root"
for part in "${parts[@]}"; do
    case $part in
    c) test_c ;;
    python) test_python ;;
    *) echo "unknown part: $part" >&2 && exit 2 ;;
    esac
done
