#!/bin/sh
# Run by test_cage.py in mount and PID namespaces of its own: a service manager of an ordinary user,
# with an installed unit. Its /run and /home are empty and of this moment.
#
#   cage.sh MATERIAL UID CGROUP...    MATERIAL: a folder to be the home; a line in its fifo ends it
set -eu
material=$1 uid=$2
shift 2
home=/home/jo
mount --make-rprivate /
mount -t tmpfs -o mode=755 none /run
mount -t tmpfs -o mode=755 none /home
mkdir -p /run/systemd/system /run/systemd/unit-root "/run/user/$uid"
cp -R "$material" $home
chown -R "$uid:$uid" $home "/run/user/$uid" "$@"
chmod 700 $home "/run/user/$uid"
for cgroup; do
	echo $$ >"$cgroup/cgroup.procs"
done
as_user() {
	setpriv --reuid "$uid" --regid "$uid" --clear-groups env -i PATH="$PATH" LANG=C.UTF-8 \
		HOME=$home USER=jo XDG_RUNTIME_DIR="/run/user/$uid" "$@"
}
as_user /lib/systemd/systemd --user --log-target=console &
manager=$!
for _ in $(seq 100); do
	[ ! -S "/run/user/$uid/systemd/private" ] || break
	kill -0 $manager
	sleep 0.1
done
if ! as_user systemctl --user start mailidled.service; then
	as_user systemctl --user status --no-pager mailidled.service
	cat $home/log
	exit 1
fi
# The test says when.
read -r _ <"$material/fifo" || true
as_user systemctl --user stop mailidled.service
as_user systemctl --user show --property=Result mailidled.service
kill -s RTMIN+14 "$manager"
wait "$manager" || true
