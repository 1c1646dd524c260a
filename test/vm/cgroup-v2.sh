#!/bin/sh
# Runs native/test/cgroup_test on a pure cgroup version 2 machine: a small virtual one, emulated (no KVM needed).
#
# The controllers of a machine on version 1 or hybrid are taken, so version 2's limits, device programs and delegation cannot be
# tried there. This boots Debian's kernel with a RAM disk of busybox and the static test program, mounts cgroup2 alone, runs
# the tests and hands on their verdict. 10 to 20 seconds on two cores, nearly all of it emulation.
#
# Needs: apt-get install --no-install-recommends qemu-system-x86 linux-image-cloud-amd64 cpio busybox-static
#   (on a machine that boots its own kernel, any readable /boot/vmlinuz-* will do)
# Usage: test/vm/cgroup-v2.sh [path of the static cgroup_test; default: made with `make -C native`]
#   KERNEL=/path/to/vmlinuz   another kernel; its modules are looked for in /lib/modules/<version of the file's name>
# Exit: 0 passed, 1 failed, 77 skipped (the reason is printed).
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
skip() { echo "skipped cgroup version 2 in a virtual machine: $1"; exit 77; }

for tool in qemu-system-x86_64 cpio busybox gzip; do
	command -v $tool >/dev/null || skip "$tool is not installed"
done
[ "$(uname -m)" = x86_64 ] || skip "the test program is not for x86-64"
kernel=${KERNEL:-$(ls -1 /boot/vmlinuz-* 2>/dev/null | sort -V | tail -n 1)}
[ -n "$kernel" ] || skip "no kernel in /boot"
[ -r "$kernel" ] || skip "$kernel is not readable"
program=${1:-$root/native/build/test/cgroup_test}
[ $# -gt 0 ] || make -s -C "$root/native" build/test/cgroup_test

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
mkdir -p "$work/disk/bin" "$work/disk/proc" "$work/disk/sys" "$work/disk/dev" "$work/disk/tmp"
cp "$(command -v busybox)" "$work/disk/bin/busybox"
cp "$program" "$work/disk/cgroup_test"

# Debian's kernel has the loop driver, the test's disk, as a module. Without it that one test is skipped.
module=$(find "/lib/modules/${kernel##*/vmlinuz-}" -name 'loop.ko*' 2>/dev/null | head -n 1)
case $module in
*.ko) cp "$module" "$work/disk/loop.ko" ;;
*.xz) xz -dc "$module" >"$work/disk/loop.ko" ;;
*.zst) zstd -qdc "$module" >"$work/disk/loop.ko" ;;
esac

cat >"$work/disk/init" <<'INIT'
#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmp /tmp
[ ! -f /loop.ko ] || insmod /loop.ko
echo "kernel $(uname -r), controllers: $(cat /sys/fs/cgroup/cgroup.controllers)"
/cgroup_test v2
echo "verdict $?"
poweroff -f
INIT
chmod 755 "$work/disk/init"
(cd "$work/disk" && find . | cpio --quiet -o -H newc | gzip -1) >"$work/initrd"

timeout 240 qemu-system-x86_64 -machine accel=tcg -cpu max -smp 2 -m 512 -nodefaults -no-reboot -display none -serial stdio \
	-kernel "$kernel" -initrd "$work/initrd" \
	-append "console=ttyS0 quiet loglevel=1 panic=-1 mitigations=off cgroup_no_v1=all rdinit=/init" \
	</dev/null | tr -d '\r' | tee "$work/output"
if ! grep -q '^verdict 0$' "$work/output"; then
	echo "failed: control groups on pure version 2 (kernel $kernel)"
	exit 1
fi
