#include <errno.h>
#include <fcntl.h>
#include <gnutls/crypto.h>
#include <gnutls/x509.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "net/tls_trust.h"
#include "util/clock.h"
#include "util/list.h"
#include "util/log.h"

/* No SHA-1 signatures; the profile asks for 112 bits, RSA and DH of 2048, in the chain, too.
 * Renegotiation is refused, but a server has to be safe from its being spliced in (RFC 5746). */
#define PRIORITIES \
	"NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:-SIGN-RSA-SHA1:-SIGN-ECDSA-SHA1" \
	":%SAFE_RENEGOTIATION:%PROFILE_MEDIUM"

/* So long after the last handshake the burst is over. */
#define REST_USEC USEC_PER_SEC

struct tls_trust {
	struct list node;
	unsigned int n_references;
	struct turn *turn; /* borrowed */
	struct task task;  /* the burst is over */
	char *ca_file;
	char *fingerprint;
	char *client_certificate;
	char *client_key;
	gnutls_certificate_credentials_t credentials; /* NULL before the first handshake */
	bool has_authorities;
	struct tls_mark mark; /* of those that are loaded */
	uint64_t loaded;      /* when, µs */
};

static struct {
	struct list trusts;
	gnutls_priority_t priorities; /* while there are trusts */
} shared = {
	.trusts = {.next = &shared.trusts, .prev = &shared.trusts},
};

/* Where systems keep their authorities: a file, or folders of p11-kit, whose times change when
 * something is put into them or taken out. */
static const char *const system_places[] = {
	"/etc/ssl/certs/ca-certificates.crt",
	"/etc/ssl/ca-bundle.pem",
	"/etc/ssl/cert.pem",
	"/etc/pki/tls/certs/ca-bundle.crt",
	"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
	"/etc/pki/ca-trust/source",
	"/etc/pki/ca-trust/source/anchors",
	"/etc/pki/ca-trust/source/blocklist",
	"/usr/share/pki/ca-trust-source",
	"/usr/share/pki/ca-trust-source/anchors",
	"/usr/share/pki/ca-trust-source/blocklist",
	"/etc/ca-certificates/trust-source",
	"/etc/ca-certificates/trust-source/anchors",
	"/etc/ca-certificates/trust-source/blocklist",
	"/usr/share/ca-certificates/trust-source",
	"/etc/pki/trust",
	"/etc/pki/trust/anchors",
	"/etc/pki/trust/blocklist",
	"/usr/share/pki/trust",
	"/usr/share/pki/trust/anchors",
	"/usr/share/pki/trust/blocklist",
	"/var/lib/ca-certificates/ca-bundle.pem",
};

static bool is_same(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

static bool copy_string(const char *source, char **ret_copy)
{
	*ret_copy = source ? strdup(source) : NULL;
	return !source || *ret_copy;
}

static bool is_same_mark(const struct tls_mark *a, const struct tls_mark *b)
{
	return a->is_known && b->is_known && memcmp(a->digest, b->digest, sizeof(a->digest)) == 0;
}

/* The authorities of a system take some megabytes. */
static void unload(struct tls_trust *trust)
{
	gnutls_x509_trust_list_t none;
	if (trust->has_authorities && gnutls_x509_trust_list_init(&none, 0) == 0) {
		/* Frees the list that was there. */
		gnutls_certificate_set_trust_list(trust->credentials, none, 0);
		trust->has_authorities = false;
		log_debug(NULL, NULL, "authorities=%s freed",
			trust->ca_file ? trust->ca_file : "system");
	}
}

/* A second without a handshake: what they took, the heap's holes included, goes back. */
static void run(struct task *task)
{
	unload(list_entry(task, struct tls_trust, task));
#ifdef __GLIBC__
	malloc_trim(0);
#endif
}

void tls_trust_rest(struct tls_trust *trust)
{
	/* Without memory for a deadline it is the next handshake that ends. */
	(void)task_set_deadline(&trust->task, turn_now(trust->turn) + REST_USEC, 0);
}

struct tls_trust *tls_trust_unref(struct tls_trust *trust)
{
	if (!trust || --trust->n_references > 0) {
		return NULL;
	}
	list_remove(&trust->node);
	task_done(&trust->task);
	if (trust->credentials) {
		gnutls_certificate_free_credentials(trust->credentials);
	}
	free(trust->ca_file);
	free(trust->fingerprint);
	free(trust->client_certificate);
	free(trust->client_key);
	free(trust);
	if (list_is_empty(&shared.trusts) && shared.priorities) {
		gnutls_priority_deinit(shared.priorities);
		shared.priorities = NULL;
	}
	return NULL;
}

struct tls_trust *tls_trust_ref(struct tls_trust *trust)
{
	trust->n_references++;
	return trust;
}

int tls_trust_get(
	struct turn *turn, const struct stream_trust *wanted, struct tls_trust **ret_trust)
{
	LIST_FOR_EACH (node, &shared.trusts) {
		struct tls_trust *trust = list_entry(node, struct tls_trust, node);
		if (trust->turn == turn && is_same(trust->ca_file, wanted->ca_file) &&
			is_same(trust->fingerprint, wanted->fingerprint) &&
			is_same(trust->client_certificate, wanted->client_certificate) &&
			is_same(trust->client_key, wanted->client_key)) {
			*ret_trust = tls_trust_ref(trust);
			return 0;
		}
	}
	struct tls_trust *trust = calloc(1, sizeof(*trust));
	if (!trust) {
		return -ENOMEM;
	}
	trust->n_references = 1;
	trust->turn = turn;
	task_init(&trust->task, turn, run);
	list_append(&shared.trusts, &trust->node);
	if (!copy_string(wanted->ca_file, &trust->ca_file) ||
		!copy_string(wanted->fingerprint, &trust->fingerprint) ||
		!copy_string(wanted->client_certificate, &trust->client_certificate) ||
		!copy_string(wanted->client_key, &trust->client_key)) {
		tls_trust_unref(trust);
		return -ENOMEM;
	}
	*ret_trust = trust;
	return 0;
}

/* GnuTLS has no words for a file that is not there. */
static int fail_file(struct failure *failure, const char *option, const char *path, int r)
{
	const char *reason = gnutls_strerror(r);
	if (!strstr(path, "pkcs11:")) {
		int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
		if (fd < 0) {
			reason = strerror(errno);
		} else {
			close(fd);
		}
	}
	failure_set(failure, FAILURE_CONFIG_INVALID, "%s %.120s cannot be used: %s", option, path,
		reason);
	return -EINVAL;
}

static int load_client_certificate(struct tls_trust *trust, struct failure *failure)
{
	const char *key = trust->client_key ? trust->client_key : trust->client_certificate;
	int r = gnutls_certificate_set_x509_key_file2(
		trust->credentials, trust->client_certificate, key, GNUTLS_X509_FMT_PEM, NULL, 0);
	if (r >= 0) {
		return 0;
	}
	bool is_key = trust->client_key && access(trust->client_certificate, R_OK) == 0;
	return is_key ? fail_file(failure, "client-key", key, r)
		      : fail_file(failure, "client-certificate", trust->client_certificate, r);
}

int tls_trust_credentials(struct tls_trust *trust,
	gnutls_certificate_credentials_t *ret_credentials, struct failure *failure)
{
	if (!trust->credentials) {
		if (gnutls_certificate_allocate_credentials(&trust->credentials) < 0) {
			trust->credentials = NULL;
			return -ENOMEM;
		}
		int error = trust->client_certificate ? load_client_certificate(trust, failure) : 0;
		if (error < 0) {
			/* The next attempt reads the files again. */
			gnutls_certificate_free_credentials(trust->credentials);
			trust->credentials = NULL;
			return error;
		}
	}
	*ret_credentials = trust->credentials;
	return 0;
}

int tls_trust_priorities(gnutls_priority_t *ret_priorities)
{
	if (!shared.priorities &&
		gnutls_priority_init2(&shared.priorities, PRIORITIES, NULL, 0) < 0) {
		shared.priorities = NULL;
		return -ENOMEM;
	}
	*ret_priorities = shared.priorities;
	return 0;
}

const char *tls_trust_fingerprint(const struct tls_trust *trust)
{
	return trust->fingerprint;
}

void tls_trust_put_key(const struct tls_trust *trust, struct bytes *bytes)
{
	const char *parts[] = {
		trust->ca_file,
		trust->fingerprint,
		trust->client_certificate,
		trust->client_key,
	};
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		bytes_put_str(bytes, parts[i] ? "\n" : "\n-");
		bytes_put_str(bytes, parts[i] ? parts[i] : "");
	}
}

/* By the time of its last change, too, which nobody can set. */
static bool put_state(struct bytes *bytes, const char *path)
{
	struct stat status;
	if (stat(path, &status) < 0) {
		return false;
	}
	bytes_printf(bytes, "%s %ju %ju %jd %jd.%09ld %jd.%09ld\n", path, (uintmax_t)status.st_dev,
		(uintmax_t)status.st_ino, (intmax_t)status.st_size, (intmax_t)status.st_mtim.tv_sec,
		status.st_mtim.tv_nsec, (intmax_t)status.st_ctim.tv_sec, status.st_ctim.tv_nsec);
	return true;
}

void tls_trust_look(const struct tls_trust *trust, struct tls_mark *ret_mark)
{
	struct bytes states;
	bytes_init(&states);
	struct tls_mark mark = {.is_known = trust->fingerprint != NULL};
	if (trust->ca_file && !trust->fingerprint) {
		mark.is_known = put_state(&states, trust->ca_file);
	} else if (!trust->fingerprint) {
		for (size_t i = 0; i < sizeof(system_places) / sizeof(system_places[0]); i++) {
			mark.is_known = put_state(&states, system_places[i]) || mark.is_known;
		}
	}
	struct span span = bytes_span(&states);
	if (states.error < 0 ||
		(span.len > 0 &&
			gnutls_hash_fast(GNUTLS_DIG_SHA256, span.data, span.len, mark.digest) <
				0)) {
		mark.is_known = false;
	}
	bytes_done(&states);
	*ret_mark = mark;
}

static int read_authorities(struct tls_trust *trust, struct failure *failure)
{
	if (!trust->ca_file) {
		/* None at all is no mistake of the file: then no certificate is good. */
		(void)gnutls_certificate_set_x509_system_trust(trust->credentials);
		return 0;
	}
	int r = gnutls_certificate_set_x509_trust_file(
		trust->credentials, trust->ca_file, GNUTLS_X509_FMT_PEM);
	return r > 0 ? 0
		     : fail_file(failure, "ca-file", trust->ca_file,
			       r < 0 ? r : GNUTLS_E_NO_CERTIFICATE_FOUND);
}

/* Where nobody can tell whether they have changed, they serve no longer than a burst does. */
static bool is_current(const struct tls_trust *trust, const struct tls_mark *now)
{
	if (!trust->has_authorities) {
		return false;
	}
	if (now->is_known || trust->ca_file) {
		return is_same_mark(&trust->mark, now);
	}
	return turn_now(trust->turn) - trust->loaded < REST_USEC;
}

int tls_trust_load(struct tls_trust *trust, struct tls_mark *ret_mark, struct failure *failure)
{
	struct tls_mark before;
	struct tls_mark after;
	tls_trust_look(trust, &before);
	if (trust->fingerprint) {
		*ret_mark = before;
		return 0;
	}
	if (!is_current(trust, &before)) {
		unload(trust);
		if (trust->has_authorities) {
			return -ENOMEM;
		}
		trust->has_authorities = true;
		int error = read_authorities(trust, failure);
		if (error < 0) {
			unload(trust);
			return error;
		}
		tls_trust_look(trust, &after);
		trust->mark = after;
		/* Which of the two was read, if they changed meanwhile, nobody knows. */
		trust->mark.is_known = is_same_mark(&before, &after);
		trust->loaded = turn_now(trust->turn);
		log_debug(NULL, NULL, "authorities=%s loaded",
			trust->ca_file ? trust->ca_file : "system");
	}
	*ret_mark = trust->mark;
	return 0;
}

bool tls_trust_has_authorities(const struct tls_trust *trust)
{
	return trust->has_authorities;
}
