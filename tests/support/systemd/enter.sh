# The first process of new namespaces: make a root of its own over FILES, where nothing outside is
# written but in the directory SHARED, which is /srv/test in here; PROJECT is seen. Become systemd.
set -eu
PATH=/usr/sbin:/usr/bin:/sbin:/bin
base=$1 shared=$2 files=$3 project=$4
mount -t tmpfs none "$base"
mkdir "$base/upper" "$base/work" "$base/root"
mount -t overlay overlay -o "lowerdir=$files,upperdir=$base/upper,workdir=$base/work" "$base/root"
cd "$base/root"
mkdir -p srv/test
mount --bind "$shared" srv/test
mount -t proc proc proc
# The machine's settings are not this systemd's to change.
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
# It may lie in what is hidden, or on a disk of its own.
if [ ! -e ".$project/setup.cfg" ]; then
    mkdir -p ".$project"
    mount --bind "$project" ".$project"
    mount -o remount,bind,ro ".$project"
fi
mount -t tmpfs tmpfs dev
for device in null zero full random urandom tty; do
    touch "dev/$device"
    mount --bind "/dev/$device" "dev/$device"
done
mkdir dev/shm dev/pts
mount -t tmpfs tmpfs dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
# Nothing of this machine's own is started in here, nor what is for a whole machine.
rm -rf etc/systemd/system/*.wants etc/systemd/system/*.requires
for unit in systemd-sysctl.service systemd-modules-load.service systemd-remount-fs.service \
    systemd-journald-audit.socket dbus.socket systemd-tmpfiles-clean.timer; do
    ln -sf /dev/null "etc/systemd/system/$unit"
done
pivot_root . .
umount -l .
# As at a machine's start: what systemd mounts for a service, its credentials, is seen by all.
mount --make-rshared /
exec env -i container=securemqtt PATH="$PATH" /lib/systemd/systemd --system --unit=basic.target \
    --log-target=console --show-status=0
