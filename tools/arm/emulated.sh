#!/usr/bin/env bash
# The C tests on other processors, under qemu: x86-64 without AVX (no instruction may leak out of the files that need
# more), with AVX2 but no AVX-512, and 32-bit Arm on the portable kernels. With Clang's aarch64 code as well where
# BUILD_PYTHON has ziglang or can install it.
set -euo pipefail
cd "$(dirname "$0")/../.."
source tools/arm/common.sh

root=$PWD/build/emulated

# run_as NAME PROGRAM ISAS EMULATOR...: runs the tests and checks that just these instruction sets were tested.
run_as() {
    local name=$1 program=$2 expected=$3 log=$root/$1.log tested
    section "$name"
    "${@:4}" "$program" >"$log" 2>&1 || { cat "$log"; exit 1; }
    tested=$(awk '$2 == "xorpop" { printf "%s%s", separator, $1; separator = " " }' "$log")
    tail -n 1 "$log"
    if [[ $tested != "$expected" ]]; then
        echo "tested were: $tested; expected: $expected" >&2
        exit 1
    fi
}

need_tools x86_64-linux-gnu-gcc:gcc-x86-64-linux-gnu,libc6-dev-amd64-cross \
    arm-linux-gnueabihf-gcc:gcc-arm-linux-gnueabihf,libc6-dev-armhf-cross qemu-x86_64-static:qemu-user-static

build_c_tests x86_64-linux-gnu-gcc "$root/x86-64" -march=x86-64
run_as x86-64-nehalem "$root/x86-64" "scalar" "$(qemu x86_64)" -cpu Nehalem
run_as x86-64-oldest "$root/x86-64" "scalar" "$(qemu x86_64)" -cpu qemu64

# qemu's vpmaskmovd also reads the lanes that are masked off, unlike any processor, and these two kernels rely on that it
# does not: the tests put what must not be read into pages that cannot be.
section "x86-64-haswell, but for pack_f32, terms_f32 and what uses them"
for kernel in $(sed -n 's/^BC_KERNEL(\([a-z0-9_]*\),.*/\1/p' csrc/kernels.def); do
    [[ $kernel == pack_f32 || $kernel == terms_f32 ]] ||
        "$(qemu x86_64)" -cpu Haswell "$root/x86-64" --isa avx2 --kernel "$kernel" 2>"$root/haswell.err" | grep "^avx2 $kernel .* 0 failed"
done

build_c_tests arm-linux-gnueabihf-gcc "$root/armv7" -march=armv7-a -mfpu=neon -mfloat-abi=hard
run_as armv7 "$root/armv7" "scalar" "$(qemu arm)" -cpu cortex-a15

zig=$(tools/zig.sh)
build_c_tests "$zig cc -target aarch64-linux-musl" "$root/aarch64-clang"
run_as aarch64-clang "$root/aarch64-clang" "scalar neon asimddp" "$(qemu aarch64)"
# Without the dot product, as on Cortex-A53 and A72.
run_as aarch64-cortex-a72 "$root/aarch64-clang" "scalar neon" "$(qemu aarch64)" -cpu cortex-a72
