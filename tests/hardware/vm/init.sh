#!/bin/busybox sh
# The first process of the virtual machine: modules in, the host's files under a scratch layer, the command, the end.
B=/bin/busybox
export PATH=/bin
for applet in $($B --list); do [ -e /bin/$applet ] || $B ln -s busybox /bin/$applet; done
mkdir -p /proc /sys /dev /host /scratch /root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
load() { while read -r module; do insmod $module || echo "vm: insmod $module failed"; done <"$1"; }
load /boot-modules
share=trans=virtio,version=9p2000.L,msize=512000
mount -t 9p -o $share,ro,cache=loose host /host
mount -t tmpfs scratch /scratch
mkdir /scratch/upper /scratch/work
mount -t overlay -o lowerdir=/host,upperdir=/scratch/upper,workdir=/scratch/work over /root
for folder in proc sys dev; do mount --bind /$folder /root/$folder; done
ln -s /proc/self/fd /dev/fd
mkdir -p /dev/shm /dev/pts /root/out
mount -t tmpfs shm /root/dev/shm
mount -t devpts devpts /root/dev/pts
mount -t tmpfs run /root/run
chmod 1777 /root/dev/shm
mount -t 9p -o $share,rw out /root/out
ip link set lo up
ip addr add 10.0.2.15/24 dev eth0
ip link set eth0 up
load /late-modules
echo "vm: up $(cut -d' ' -f1 /proc/uptime)"
chroot /root /bin/sh /out/command >/root/out/log 2>&1 </dev/null
echo $? >/root/out/status
echo "vm: end $(cut -d' ' -f1 /proc/uptime)"
sync
poweroff -f
