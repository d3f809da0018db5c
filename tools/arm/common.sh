# Sourced by the scripts beside it, from the root of the checkout.

warnings=(-Wall -Wextra -Wpedantic -Werror)

section() {
    printf -- '--- %s (%dm%02ds)\n' "$1" $((SECONDS / 60)) $((SECONDS % 60))
}

# need_tools TOOL:PACKAGE,PACKAGE ...: installs the Debian packages of tools that are not here.
need_tools() {
    local pair missing=()
    for pair in "$@"; do
        command -v "${pair%%:*}" >/dev/null || missing+=(${pair#*:})
    done
    ((${#missing[@]})) || return 0
    apt-get update -q
    # shellcheck disable=SC2046
    apt-get install -q -y --no-install-recommends $(tr , ' ' <<<"${missing[*]}")
}

# The emulator of a processor.
qemu() {
    command -v "qemu-$1-static" || command -v "qemu-$1"
}

# build_c_tests COMPILER PROGRAM [FLAG...]: statically linked, so that no library of the target is needed.
build_c_tests() {
    local compiler=$1 program=$2
    mkdir -p "$(dirname "$program")"
    # shellcheck disable=SC2086
    $compiler -O2 -g -std=c11 -ffp-contract=off -Icsrc/include -Icsrc "${warnings[@]}" "${@:3}" -static \
        csrc/*.c csrc/tests/*.c -lm -o "$program"
}
