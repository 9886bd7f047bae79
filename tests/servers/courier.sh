#!/bin/sh
# Courier in namespaces of its own: /etc/courier and /run/courier, which are built into its programs,
# are the test's there, and all its processes end with this one, which ends with its standard input.
#
#   unshare --mount --pid --fork courier.sh FOLDER ROOT IMAP-PORT IMAPS-PORT
set -eu
folder=$1 root=$2 imap=$3 imaps=$4

mount --make-rprivate /
mount --bind "$folder/etc" /etc/courier
mount --bind "$folder/run" /run/courier

(
	set -a
	. /etc/courier/authdaemonrc
	exec /usr/lib/courier/courier-authlib/authdaemond
) &

# tcpd PORT [WRAPPER...]: one listener; the wrapper speaks TLS for imaplogin.
tcpd() {
	/usr/sbin/couriertcpd -address=127.0.0.1 -maxprocs=600 -maxperip=600 \
		-nodnslookup -noidentlookup "$@" \
		"$root/usr/lib/courier/courier/imaplogin" "$root/usr/bin/imapd" Maildir
}
(
	set -a
	. "$folder/environment"
	IMAP_STARTTLS=YES
	tcpd "$imap"
) &
(
	set -a
	. "$folder/environment"
	IMAP_TLS=1
	tcpd "$imaps" /usr/bin/couriertls -server -tcpd -user=courier
) &

while read -r _; do :; done
