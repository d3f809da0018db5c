#!/bin/sh
# Brings a Vulkan driver for the tests of binconv.metal where there is none: Mesa's lavapipe, which
# runs on the CPU. Does nothing where that is not possible; the tests then skip by name.
set -eu

for folder in /usr/share/vulkan/icd.d /etc/vulkan/icd.d; do
    if ls "$folder"/*.json >/dev/null 2>&1; then
        exit 0
    fi
done
if [ "$(uname -s)" != Linux ] || [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "no Vulkan driver found; on Debian: apt-get install mesa-vulkan-drivers" >&2
    exit 0
fi
apt-get update -q
apt-get install -q -y --no-install-recommends mesa-vulkan-drivers libvulkan1
