#!/usr/bin/env bash
# Compiles all of csrc for the machines that wheels are made for and that are not here, warnings as errors.
set -euo pipefail
cd "$(dirname "$0")/.."

targets=(aarch64-macos x86_64-macos x86_64-windows-gnu aarch64-windows-gnu aarch64-linux-musl x86_64-linux-musl)
flags=(-O2 -std=c11 -ffp-contract=off -fvisibility=hidden -Icsrc/include -Icsrc -Wall -Wextra -Wpedantic -Werror)

zig=$(tools/zig.sh)
"$zig" version
for target in "${targets[@]}"; do
    folder=build/cross/$target
    mkdir -p "$folder"
    for source in csrc/*.c; do
        "$zig" cc -target "$target" "${flags[@]}" -c "$source" -o "$folder/$(basename "$source" .c).o"
    done
    echo "$target: $(ls csrc/*.c | wc -l) files"
done
