#include <errno.h>
#include <gnutls/x509-ext.h>
#include <gnutls/x509.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "net/address.h"
#include "net/tls_certificate.h"
#include "util/bytes.h"

#define DIGEST_SIZE 32
#define FINGERPRINT_SIZE \
	sizeof("sha256:" \
	       "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")

/* More names than a person reads. */
#define N_NAMES_TOLD  4
#define NAME_TOLD_LEN 40
#define NAME_SIZE     256
#define TIME_SIZE     sizeof("2026-01-31 23:59 UTC")

static void release_certificate(gnutls_x509_crt_t *certificate)
{
	if (*certificate) {
		gnutls_x509_crt_deinit(*certificate);
	}
}

static int import(const gnutls_datum_t *der, gnutls_x509_crt_t *ret_certificate)
{
	gnutls_x509_crt_t certificate;
	if (gnutls_x509_crt_init(&certificate) < 0) {
		return -ENOMEM;
	}
	if (gnutls_x509_crt_import(certificate, der, GNUTLS_X509_FMT_DER) < 0) {
		gnutls_x509_crt_deinit(certificate);
		return -EINVAL;
	}
	*ret_certificate = certificate;
	return 0;
}

static int print_fingerprint(const gnutls_datum_t *der, char text[static FINGERPRINT_SIZE])
{
	static const char digits[] = "0123456789abcdef";
	unsigned char digest[DIGEST_SIZE];
	size_t len = sizeof(digest);
	if (gnutls_fingerprint(GNUTLS_DIG_SHA256, der, digest, &len) < 0 || len != sizeof(digest)) {
		return -EINVAL;
	}
	char *to = stpcpy(text, "sha256:");
	for (size_t i = 0; i < len; i++) {
		*to++ = digits[digest[i] >> 4];
		*to++ = digits[digest[i] & 15];
	}
	*to = '\0';
	return 0;
}

static void print_time(time_t time, char text[static TIME_SIZE])
{
	struct tm tm;
	if (!gmtime_r(&time, &tm) || strftime(text, TIME_SIZE, "%Y-%m-%d %H:%M UTC", &tm) == 0) {
		strcpy(text, "an unknown date");
	}
}

static void put_separator(struct bytes *words)
{
	if (bytes_len(words) > 0) {
		bytes_put_str(words, ", and ");
	}
}

/* Which of the chain it is, since an intermediate one expires, too. */
static void put_dates(struct bytes *words, const gnutls_datum_t *chain, unsigned int n_chain)
{
	time_t now = time(NULL);
	for (unsigned int i = 0; i < n_chain; i++) {
		__attribute__((cleanup(release_certificate))) gnutls_x509_crt_t certificate = NULL;
		if (import(&chain[i], &certificate) < 0) {
			continue;
		}
		time_t first = gnutls_x509_crt_get_activation_time(certificate);
		time_t last = gnutls_x509_crt_get_expiration_time(certificate);
		char text[TIME_SIZE];
		if (last < now) {
			print_time(last, text);
			put_separator(words);
			bytes_printf(
				words, "%s expired on %s", i == 0 ? "it" : "an issuer's", text);
		} else if (first > now) {
			print_time(first, text);
			put_separator(words);
			bytes_printf(words, "%s is not valid before %s",
				i == 0 ? "it" : "an issuer's", text);
		}
	}
}

/* Parsed once: asking the certificate for one name after the other costs quadratic time. NULL when
 * there are none, or none that can be read. */
static gnutls_subject_alt_names_t names_of(gnutls_x509_crt_t leaf)
{
	gnutls_datum_t der = {0};
	gnutls_subject_alt_names_t names;
	if (gnutls_x509_crt_get_extension_by_oid2(leaf, GNUTLS_X509EXT_OID_SAN, 0, &der, NULL) <
		0) {
		return NULL;
	}
	int r = gnutls_subject_alt_names_init(&names);
	if (r == 0) {
		r = gnutls_x509_ext_import_subject_alt_names(&der, names, 0);
		if (r < 0) {
			gnutls_subject_alt_names_deinit(names);
		}
	}
	gnutls_free(der.data);
	return r < 0 ? NULL : names;
}

static void release_names(gnutls_subject_alt_names_t *names)
{
	if (*names) {
		gnutls_subject_alt_names_deinit(*names);
	}
}

/* The next dNSName at or behind position *i, which is moved behind it. */
static bool next_dns_name(
	gnutls_subject_alt_names_t names, unsigned int *i, gnutls_datum_t *ret_name)
{
	unsigned int type = GNUTLS_SAN_MAX;
	while (names && gnutls_subject_alt_names_get(names, *i, &type, ret_name, NULL) == 0) {
		(*i)++;
		if (type == GNUTLS_SAN_DNSNAME) {
			return true;
		}
	}
	return false;
}

static void put_names(struct bytes *words, gnutls_x509_crt_t leaf, const char *host)
{
	put_separator(words);
	bytes_printf(words, "%.80s is not among its names", host);
	__attribute__((cleanup(release_names))) gnutls_subject_alt_names_t names = names_of(leaf);
	gnutls_datum_t name;
	unsigned int n_told = 0;
	for (unsigned int i = 0; n_told < N_NAMES_TOLD && next_dns_name(names, &i, &name);
		n_told++) {
		bytes_printf(words, "%s%.*s", n_told == 0 ? " (" : ", ",
			(int)(name.size < NAME_TOLD_LEN ? name.size : NAME_TOLD_LEN), name.data);
	}
	if (n_told > 0) {
		bytes_put_char(words, ')');
	}
}

static void put_issuer(struct bytes *words, gnutls_x509_crt_t leaf)
{
	put_separator(words);
	if (gnutls_x509_crt_check_issuer(leaf, leaf) != 0) {
		bytes_put_str(words, "it is self-signed and not trusted");
		return;
	}
	char name[NAME_SIZE];
	size_t len = sizeof(name);
	if (gnutls_x509_crt_get_issuer_dn(leaf, name, &len) < 0) {
		name[0] = '\0';
	}
	bytes_printf(words, "its issuer is unknown or not trusted (%.60s)", name);
}

/* Each thing that is wrong, in the order of what a person can do about it. */
static void put_status(struct bytes *words, unsigned int status, const gnutls_datum_t *chain,
	unsigned int n_chain, gnutls_x509_crt_t leaf, const char *host)
{
	if (status & (GNUTLS_CERT_EXPIRED | GNUTLS_CERT_NOT_ACTIVATED)) {
		put_dates(words, chain, n_chain);
	}
	if (status & GNUTLS_CERT_UNEXPECTED_OWNER) {
		put_names(words, leaf, host);
	}
	if (status & GNUTLS_CERT_PURPOSE_MISMATCH) {
		put_separator(words);
		bytes_put_str(words, "it is not meant for a TLS server");
	}
	if (status & GNUTLS_CERT_INSECURE_ALGORITHM) {
		put_separator(words);
		bytes_put_str(words, "it uses too weak a key or signature");
	}
	if (status & GNUTLS_CERT_REVOKED) {
		put_separator(words);
		bytes_put_str(words, "it was revoked");
	}
	if (status & GNUTLS_CERT_SIGNER_NOT_FOUND) {
		put_issuer(words, leaf);
	}
	if (bytes_len(words) == 0) {
		gnutls_datum_t text = {0};
		if (gnutls_certificate_verification_status_print(
			    status, GNUTLS_CRT_X509, &text, 0) >= 0) {
			bytes_put(words, text.data, text.size);
			gnutls_free(text.data);
		}
	}
}

static int refuse(
	struct failure *failure, const char *host, struct bytes *words, const char *fingerprint)
{
	char *text = bytes_steal(words);
	bytes_done(words);
	if (!text) {
		return -ENOMEM;
	}
	/* The fingerprint is what certificate-fingerprint wants to be told; it has to fit. */
	failure_set(failure, FAILURE_CERTIFICATE_INVALID,
		"the certificate of %.60s is refused: %.*s; %s", host, 140 - (int)strnlen(host, 60),
		text, fingerprint);
	free(text);
	return -EPERM;
}

/* A name of its own, not the common name: GnuTLS takes that where there is no dNSName, which RFC
 * 9525 section 2 ended. */
static bool has_dns_name(gnutls_x509_crt_t leaf)
{
	__attribute__((cleanup(release_names))) gnutls_subject_alt_names_t names = names_of(leaf);
	gnutls_datum_t name;
	unsigned int i = 0;
	return next_dns_name(names, &i, &name);
}

static int check_chain(gnutls_session_t session, gnutls_x509_crt_t leaf, const char *host,
	unsigned int *ret_status)
{
	unsigned char address[16];
	size_t address_len = 0;
	bool is_literal = address_is_literal(host, address, &address_len);
	gnutls_typed_vdata_st wanted[] = {
		{
			.type = GNUTLS_DT_KEY_PURPOSE_OID,
			.data = (unsigned char *)GNUTLS_KP_TLS_WWW_SERVER,
		},
		{
			.type = is_literal ? GNUTLS_DT_IP_ADDRESS : GNUTLS_DT_DNS_HOSTNAME,
			.data = is_literal ? address : (unsigned char *)host,
			.size = is_literal ? (unsigned int)address_len : 0,
		},
	};
	unsigned int status = GNUTLS_CERT_INVALID;
	int r = gnutls_certificate_verify_peers(
		session, wanted, sizeof(wanted) / sizeof(wanted[0]), &status);
	if (r < 0) {
		return r == GNUTLS_E_MEMORY_ERROR ? -ENOMEM : -EINVAL;
	}
	if (!is_literal && !has_dns_name(leaf)) {
		status |= GNUTLS_CERT_INVALID | GNUTLS_CERT_UNEXPECTED_OWNER;
	}
	*ret_status = status;
	return 0;
}

int tls_certificate_check(gnutls_session_t session, const char *host, const char *fingerprint,
	struct failure *failure)
{
	unsigned int n_chain = 0;
	const gnutls_datum_t *chain = gnutls_certificate_get_peers(session, &n_chain);
	char actual[FINGERPRINT_SIZE];
	if (!chain || n_chain == 0 || print_fingerprint(&chain[0], actual) < 0) {
		failure_set(
			failure, FAILURE_CERTIFICATE_INVALID, "%.100s has no certificate", host);
		return -EPERM;
	}
	struct bytes words;
	bytes_init(&words);
	if (fingerprint) {
		if (strcasecmp(fingerprint, actual) == 0) {
			return 0;
		}
		bytes_put_str(&words, "its fingerprint is not the configured one");
		return refuse(failure, host, &words, actual);
	}
	__attribute__((cleanup(release_certificate))) gnutls_x509_crt_t leaf = NULL;
	unsigned int status = 0;
	int error = import(&chain[0], &leaf);
	if (error == 0) {
		error = check_chain(session, leaf, host, &status);
	}
	if (error == -ENOMEM) {
		return error;
	}
	if (error < 0) {
		bytes_put_str(&words, "it is malformed");
		return refuse(failure, host, &words, actual);
	}
	if (status == 0) {
		return 0;
	}
	put_status(&words, status, chain, n_chain, leaf, host);
	return refuse(failure, host, &words, actual);
}

static time_t earlier(time_t end, gnutls_x509_crt_t certificate)
{
	time_t other = gnutls_x509_crt_get_expiration_time(certificate);
	if (other < 0) {
		return 0;
	}
	return other < end ? other : end;
}

/* More than the path that was taken, perhaps: never later than its end. */
time_t tls_certificate_end(gnutls_session_t session)
{
	unsigned int n_chain = 0;
	const gnutls_datum_t *chain = gnutls_certificate_get_peers(session, &n_chain);
	time_t end = INT64_MAX;
	void *credentials;
	if (gnutls_credentials_get(session, GNUTLS_CRD_CERTIFICATE, &credentials) < 0) {
		return 0;
	}
	for (unsigned int i = 0; i < n_chain; i++) {
		__attribute__((cleanup(release_certificate))) gnutls_x509_crt_t certificate = NULL;
		gnutls_x509_crt_t issuer; /* borrowed */
		if (import(&chain[i], &certificate) < 0) {
			return 0;
		}
		end = earlier(end, certificate);
		if (gnutls_certificate_get_issuer(credentials, certificate, &issuer, 0) == 0) {
			end = earlier(end, issuer);
		}
	}
	return n_chain > 0 ? end : 0;
}
