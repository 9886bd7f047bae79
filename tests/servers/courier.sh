#!/bin/sh
# Courier in namespaces of its own: /etc/courier and /run/courier, which are built into its programs,
# are the test's there, and all its processes end with this one, which ends with its standard input.
#
#   unshare --mount --pid --fork courier.sh FOLDER IMAP-PORT IMAPS-PORT
set -eu
folder=$1 imap=$2 imaps=$3

mount --make-rprivate /
mount --bind "$folder/etc" /etc/courier
if [ ! -d /run/courier ]; then
	# Made at boot, and this system has not been booted since Courier came.
	mount -t tmpfs tmpfs /run
	mkdir /run/courier
fi
mount --bind "$folder/run" /run/courier

(
	set -a
	. "$folder/etc/authdaemonrc"
	exec /usr/lib/courier/courier-authlib/authdaemond
) &

# tcpd PORT [WRAPPER...]: one listener; the wrapper speaks TLS for imaplogin.
tcpd() {
	/usr/sbin/couriertcpd -address=127.0.0.1 -maxprocs=600 -maxperip=600 \
		-nodnslookup -noidentlookup "$@" \
		"$folder/root/usr/lib/courier/courier/imaplogin" "$folder/root/usr/bin/imapd" Maildir
}
(
	set -a
	. "$folder/environment"
	export IMAP_STARTTLS=YES
	tcpd "$imap"
) &
(
	set -a
	. "$folder/environment"
	export IMAP_TLS=1
	tcpd "$imaps" /usr/bin/couriertls -server -tcpd -user=courier
) &

while read -r _; do :; done
