/* Streams with TLS, against a server of GnuTLS in a thread of this process: all ways to trust, and
 * what is refused, in which words.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <gnutls/x509.h>
#include <netdb.h>
#include <semaphore.h>
#include <time.h>

#include "net/stream.h"
#include "net/ticket.h"
#include "net/tls_trust.h"
#include "streaming.h"

#define TLS_1_2 "NORMAL:-VERS-ALL:+VERS-TLS1.2"
#define TLS_1_3 "NORMAL:-VERS-ALL:+VERS-TLS1.3"

static char fingerprint[128];

/* Where a server waits until the test has looked. */
static sem_t gate;

/* In place of the C library's: names that no /etc/hosts has are on this machine. */
int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
	struct addrinfo **ret_result)
{
	int (*ask)(const char *, const char *, const struct addrinfo *, struct addrinfo **) = NULL;
	*(void **)&ask = dlsym(RTLD_NEXT, "getaddrinfo");
	bool is_ours = !(hints->ai_flags & AI_NUMERICHOST) && strstr(name, ".org");
	return ask(is_ours ? "127.0.0.1" : name, service, hints, ret_result);
}

/* In place of the C library's, also for GnuTLS: it is later than it is. */
static time_t ahead;

time_t time(time_t *ret_time)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	if (ret_time) {
		*ret_time = now.tv_sec + ahead;
	}
	return now.tv_sec + ahead;
}

/* Nobody can tell whether a file has changed. */
static bool is_blind;

int stat(const char *restrict path, struct stat *restrict status)
{
	if (is_blind) {
		errno = EACCES;
		return -1;
	}
	return fstatat(AT_FDCWD, path, status, 0);
}

/* How often a chain was checked. */
static unsigned int n_checks;

int gnutls_certificate_verify_peers(gnutls_session_t session, gnutls_typed_vdata_st *data,
	unsigned int elements, unsigned int *status)
{
	int (*check)(gnutls_session_t, gnutls_typed_vdata_st *, unsigned int, unsigned int *) =
		NULL;
	*(void **)&check = dlsym(RTLD_NEXT, "gnutls_certificate_verify_peers");
	n_checks++;
	return check(session, data, elements, status);
}

static void note_bindings(struct peer *peer)
{
	struct server *server = peer->server;
	gnutls_datum_t binding = {0};
	bool is_1_3 = gnutls_protocol_get_version(peer->session) == GNUTLS_TLS1_3;
	if (gnutls_session_channel_binding(peer->session,
		    is_1_3 ? GNUTLS_CB_TLS_EXPORTER : GNUTLS_CB_TLS_UNIQUE, &binding) == 0) {
		server->binding_len = binding.size;
		memcpy(server->binding, binding.data, binding.size);
		gnutls_free(binding.data);
	}
	char name[64] = "";
	size_t len = sizeof(name) - 1;
	unsigned int type;
	if (gnutls_server_name_get(peer->session, name, &len, &type, 0) == 0) {
		snprintf(server->text, sizeof(server->text), "%s", name);
	} else {
		strcpy(server->text, "-");
	}
	peer_linger(peer);
}

static void test_trusts_ca_file(void **state)
{
	(void)state;
	struct streaming streaming;
	streaming_init(&streaming);
	connect_and_await(&streaming);
	assert_open(&streaming);
	assert_string_equal(stream_tls_version(streaming.stream), "TLS1.3");
	assert_false(stream_is_resumed(streaming.stream));
	assert_non_null(strstr(stream_peer(streaming.stream), "127.0.0.1:"));
	assert_echoes(&streaming, "hello\r\n");
	assert_int_equal(stream_start_tls(streaming.stream), -EBUSY);
	streaming_done(&streaming);
}

static void test_binds_channel(void **state)
{
	(void)state;
	for (int is_1_3 = 0; is_1_3 < 2; is_1_3++) {
		struct streaming streaming;
		streaming_init(&streaming);
		streaming.server.priorities = is_1_3 ? TLS_1_3 : TLS_1_2;
		streaming.server.serve = note_bindings;
		connect_and_await(&streaming);
		assert_open(&streaming);
		assert_string_equal(
			stream_tls_version(streaming.stream), is_1_3 ? "TLS1.3" : "TLS1.2");
		struct span unique = stream_tls_unique(streaming.stream);
		struct span exporter = stream_tls_exporter(streaming.stream);
		uint8_t copy[64];
		struct span span = is_1_3 ? exporter : unique;
		memcpy(copy, span.data, span.len);
		assert_int_equal(exporter.len, 32);
		assert_int_equal(unique.len, is_1_3 ? 0 : 12);
		streaming.stream = stream_free(streaming.stream);
		server_stop(&streaming.server);
		assert_int_equal(streaming.server.binding_len, span.len);
		assert_memory_equal(streaming.server.binding, copy, span.len);
		assert_string_equal(streaming.server.text, "localhost");
		turning_done(&streaming.turning);
	}
}

static void test_names_and_literals(void **state)
{
	(void)state;
	static const struct {
		const char *host;
		int family;
		const char *server_name;
	} cases[] = {
		{"127.0.0.1", AF_INET, "-"},
		{"mail.example.org", AF_INET, "mail.example.org"},
		{"mail.example.org.", AF_INET, "mail.example.org"},
		{"any.wild.example.org", AF_INET, "any.wild.example.org"},
		{"::1", AF_INET6, "-"},
		{"0:0:0:0:0:0:0:1", AF_INET6, "-"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint16_t port = 0;
		int probe = server_listen(cases[i].family, 1, &port);
		if (probe < 0) {
			continue;
		}
		close(probe);
		struct streaming streaming;
		streaming_init(&streaming);
		streaming.server.family = cases[i].family;
		streaming.server.serve = note_bindings;
		streaming.target.host = cases[i].host;
		connect_and_await(&streaming);
		assert_open(&streaming);
		streaming.stream = stream_free(streaming.stream);
		server_stop(&streaming.server);
		assert_string_equal(streaming.server.text, cases[i].server_name);
		turning_done(&streaming.turning);
	}
}

struct bad {
	const char *name;
	const char *host;
	const char *words;
};

static const struct bad bads[] = {
	{"self-signed", "localhost", "it is self-signed and not trusted"},
	{"expired", "localhost", "it expired on 2024-01-01 00:00 UTC"},
	{"not-yet-valid", "localhost", "it is not valid before 2099-01-01 00:00 UTC"},
	{"wrong-host", "localhost",
		"localhost is not among its names (imap.elsewhere.example, "
		"smtp.elsewhere.example)"},
	{"name-only", "localhost", "localhost is not among its names"},
	{"dns-only", "127.0.0.1", "127.0.0.1 is not among its names (localhost, 127.0.0.1)"},
	{"any-name", "localhost", "localhost is not among its names (*, *.org)"},
	{"any-name", "mail.org", "mail.org is not among its names (*, *.org)"},
	{"client-only", "localhost", "it is not meant for a TLS server"},
	{"rsa-1024", "localhost", "it uses too weak a key or signature"},
	{"sha-1", "localhost", "it uses too weak a key or signature"},
	{"unknown-issuer", "localhost",
		"its issuer is unknown or not trusted (CN=a stranger's root)"},
	{"expired-intermediate", "localhost", "an issuer's expired on 2024-01-01 00:00 UTC"},
};

static void use_bad(
	struct streaming *streaming, const struct bad *bad, char chain[64], char key[64])
{
	snprintf(chain, 64, "bad/%s.pem", bad->name);
	snprintf(key, 64, "bad/%s.key", bad->name);
	streaming->server.chain = chain;
	streaming->server.key = key;
	streaming->target.host = bad->host;
}

static void test_bad_certificates_are_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < 2 * sizeof(bads) / sizeof(bads[0]); i++) {
		char chain[64];
		char key[64];
		struct streaming streaming;
		streaming_init(&streaming);
		use_bad(&streaming, &bads[i / 2], chain, key);
		streaming.server.priorities = i % 2 ? TLS_1_3 : TLS_1_2;
		connect_and_await(&streaming);
		assert_closed(&streaming, FAILURE_CERTIFICATE_INVALID, bads[i / 2].words);
		assert_non_null(strstr(stream_failure(streaming.stream)->text, "; sha256:"));
		streaming_done(&streaming);
		assert_string_equal(streaming.server.text, "");
	}
}

static void fingerprint_of(const char *certificate, char text[static 128])
{
	char command[1024];
	char path[512];
	snprintf(command, sizeof(command),
		"openssl x509 -in '%s' -outform DER | openssl dgst -sha256 -r | cut -c 1-64",
		peer_path(certificate, path));
	FILE *pipe = popen(command, "r");
	assert_non_null(pipe);
	strcpy(text, "sha256:");
	assert_non_null(fgets(text + strlen(text), 65, pipe));
	assert_int_equal(pclose(pipe), 0);
	assert_int_equal(strlen(text), 71);
}

static void test_fingerprint_replaces_all_checks(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(bads) / sizeof(bads[0]); i++) {
		char chain[64];
		char key[64];
		char pinned[128];
		struct streaming streaming;
		streaming_init(&streaming);
		use_bad(&streaming, &bads[i], chain, key);
		fingerprint_of(chain, pinned);
		streaming.target.trust = (struct stream_trust){.fingerprint = pinned};
		connect_and_await(&streaming);
		assert_open(&streaming);
		assert_echoes(&streaming, "pinned\r\n");
		streaming_done(&streaming);
	}
}

static void test_other_fingerprint_is_refused(void **state)
{
	(void)state;
	struct streaming streaming;
	streaming_init(&streaming);
	char pinned[128];
	fingerprint_of("bad/expired.pem", pinned);
	/* Although the authority is trusted. */
	streaming.target.trust.fingerprint = pinned;
	connect_and_await(&streaming);
	assert_closed(
		&streaming, FAILURE_CERTIFICATE_INVALID, "fingerprint is not the configured one");
	assert_non_null(strstr(stream_failure(streaming.stream)->text, fingerprint));
	streaming_done(&streaming);
}

static void test_system_does_not_trust_us(void **state)
{
	(void)state;
	struct streaming streaming;
	streaming_init(&streaming);
	streaming.target.trust = (struct stream_trust){0};
	connect_and_await(&streaming);
	assert_closed(
		&streaming, FAILURE_CERTIFICATE_INVALID, "its issuer is unknown or not trusted");
	streaming_done(&streaming);
}

static void note_client(struct peer *peer)
{
	unsigned int n = 0;
	const gnutls_datum_t *chain = gnutls_certificate_get_peers(peer->session, &n);
	peer->server->n_octets = chain && n > 0 ? (int)chain[0].size : 0;
	peer_echo(peer);
}

static void test_client_certificate(void **state)
{
	(void)state;
	char certificate[512];
	char key[512];
	for (int is_1_3 = 0; is_1_3 < 2; is_1_3++) {
		struct streaming streaming;
		streaming_init(&streaming);
		streaming.server.client_ca = "ca.pem";
		streaming.server.priorities = is_1_3 ? TLS_1_3 : TLS_1_2;
		streaming.server.serve = note_client;
		streaming.target.trust.client_certificate = peer_path("client.pem", certificate);
		streaming.target.trust.client_key = peer_path("client.key", key);
		connect_and_await(&streaming);
		assert_open(&streaming);
		assert_echoes(&streaming, "known\r\n");
		streaming_done(&streaming);
		assert_true(streaming.server.n_octets > 0);
	}
}

static void test_server_asks_for_certificate(void **state)
{
	(void)state;
	struct streaming streaming;
	streaming_init(&streaming);
	streaming.server.client_ca = "ca.pem";
	streaming.server.priorities = TLS_1_2;
	connect_and_await(&streaming);
	assert_int_equal(stream_state(streaming.stream), STREAM_CLOSED);
	streaming_done(&streaming);
}

static void test_files_that_cannot_be_used(void **state)
{
	(void)state;
	char missing[512];
	char certificate[512];
	char key[512];
	peer_path("missing.pem", missing);
	const struct {
		struct stream_trust trust;
		const char *words;
	} cases[] = {
		{{.ca_file = missing}, "missing.pem cannot be used: No such file or directory"},
		{{.ca_file = peer_path("srv.key", key)}, "ca-file "},
		{{.ca_file = ca_file, .client_certificate = missing}, "client-certificate "},
		{{.ca_file = ca_file, .client_certificate = peer_path("client.pem", certificate)},
			"client-certificate "},
		{{.ca_file = ca_file,
			 .client_certificate = peer_path("client.pem", certificate),
			 .client_key = missing},
			"client-key "},
		{{.ca_file = ca_file,
			 .client_certificate = peer_path("client.pem", certificate),
			 .client_key = peer_path("srv.key", key)},
			"client-key "},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct streaming streaming;
		streaming_init(&streaming);
		streaming.target.trust = cases[i].trust;
		connect_and_await(&streaming);
		assert_closed(&streaming, FAILURE_CONFIG_INVALID, cases[i].words);
		streaming_done(&streaming);
	}
}

static void serve_starttls(struct peer *peer)
{
	if (peer_say(peer, "* OK hello\r\n") && peer_hear(peer) &&
		peer_say(peer, "1 OK begin\r\n")) {
		sem_wait(&gate);
		if (peer_start_tls(peer)) {
			peer_echo(peer);
		}
	}
}

static void test_starttls(void **state)
{
	(void)state;
	struct streaming streaming;
	char text[64] = "";
	streaming_init(&streaming);
	streaming.server.tls_at_once = false;
	streaming.server.serve = serve_starttls;
	streaming.target.tls = false;
	server_start(&streaming.server);
	dial(&streaming);
	assert_int_equal(stream_start_tls(streaming.stream), -EBUSY);
	await_settled(&streaming);
	assert_int_equal(stream_state(streaming.stream), STREAM_OPEN);
	assert_false(stream_is_secure(streaming.stream));
	assert_string_equal(stream_tls_version(streaming.stream), "");
	assert_true(read_exactly(&streaming, text, strlen("* OK hello\r\n"), 64));
	assert_int_equal(stream_write(streaming.stream, span_of("1 STARTTLS\r\n")), 12);
	assert_true(read_exactly(&streaming, text, strlen("1 OK begin\r\n"), 64));
	assert_int_equal(stream_start_tls(streaming.stream), 0);
	assert_int_equal(stream_state(streaming.stream), STREAM_HANDSHAKING);
	assert_int_equal(stream_start_tls(streaming.stream), -EBUSY);
	assert_int_equal(stream_write(streaming.stream, span_of("too early")), 0);
	sem_post(&gate);
	await_settled(&streaming);
	assert_open(&streaming);
	assert_echoes(&streaming, "secret\r\n");
	streaming_done(&streaming);
}

static void test_starttls_with_bad_certificate(void **state)
{
	(void)state;
	struct streaming streaming;
	char text[64] = "";
	streaming_init(&streaming);
	streaming.server.chain = "bad/expired.pem";
	streaming.server.key = "bad/expired.key";
	streaming.server.tls_at_once = false;
	streaming.server.serve = serve_starttls;
	streaming.target.tls = false;
	connect_and_await(&streaming);
	assert_true(read_exactly(&streaming, text, strlen("* OK hello\r\n"), 64));
	assert_int_equal(stream_write(streaming.stream, span_of("1 STARTTLS\r\n")), 12);
	assert_true(read_exactly(&streaming, text, strlen("1 OK begin\r\n"), 64));
	assert_int_equal(stream_start_tls(streaming.stream), 0);
	sem_post(&gate);
	await_settled(&streaming);
	assert_closed(&streaming, FAILURE_CERTIFICATE_INVALID, "it expired on 2024-01-01");
	streaming_done(&streaming);
}

static void test_sessions_are_resumed(void **state)
{
	(void)state;
	for (int i = 0; i < 4; i++) {
		struct streaming streaming;
		streaming_init(&streaming);
		streaming.server.priorities = i % 2 ? TLS_1_3 : TLS_1_2;
		if (i >= 2) {
			streaming.target.trust = (struct stream_trust){.fingerprint = fingerprint};
		}
		connect_and_await(&streaming);
		assert_open(&streaming);
		assert_false(stream_is_resumed(streaming.stream));
		assert_echoes(&streaming, "first\r\n");
		for (int again = 0; again < 3; again++) {
			stream_free(streaming.stream);
			dial(&streaming);
			await_settled(&streaming);
			assert_open(&streaming);
			assert_true(stream_is_resumed(streaming.stream));
			assert_echoes(&streaming, "again\r\n");
		}
		/* Other trust is another session. */
		streaming.stream = stream_free(streaming.stream);
		streaming.target.trust.fingerprint = i >= 2 ? NULL : fingerprint;
		streaming.target.trust.ca_file = i >= 2 ? ca_file : NULL;
		dial(&streaming);
		await_settled(&streaming);
		assert_open(&streaming);
		assert_false(stream_is_resumed(streaming.stream));
		streaming_done(&streaming);
	}
}

static void copy_file(const char *from, const char *to)
{
	char path[512];
	char octets[16384];
	FILE *in = fopen(peer_path(from, path), "r");
	FILE *out = fopen(peer_path(to, path), "w");
	assert_true(in && out);
	size_t len = fread(octets, 1, sizeof(octets), in);
	assert_int_equal(fwrite(octets, 1, len, out), len);
	fclose(in);
	assert_int_equal(fclose(out), 0);
}

/* Once more, after the first connection has got its ticket. */
static void connect_again(struct streaming *streaming)
{
	stream_free(streaming->stream);
	dial(streaming);
	await_settled(streaming);
}

static void connect_first(struct streaming *streaming, int is_1_3)
{
	streaming->server.priorities = is_1_3 ? TLS_1_3 : TLS_1_2;
	connect_and_await(streaming);
	assert_open(streaming);
	assert_false(stream_is_resumed(streaming->stream));
	assert_echoes(streaming, "first\r\n");
}

/* What was found out by a full handshake, and only that. */
static void test_resumed_chain_is_vouched_for(void **state)
{
	(void)state;
	for (int is_1_3 = 0; is_1_3 < 2; is_1_3++) {
		struct streaming streaming;
		streaming_init(&streaming);
		n_checks = 0;
		connect_first(&streaming, is_1_3);
		assert_int_equal(n_checks, 1);
		for (int again = 0; again < 3; again++) {
			connect_again(&streaming);
			assert_open(&streaming);
			assert_true(stream_is_resumed(streaming.stream));
			assert_echoes(&streaming, "again\r\n");
		}
		assert_int_equal(n_checks, 1);
		/* The same server by another name, though its certificate has both. */
		streaming.target.host = "mail.example.org";
		connect_again(&streaming);
		assert_open(&streaming);
		assert_false(stream_is_resumed(streaming.stream));
		assert_int_equal(n_checks, 2);
		streaming_done(&streaming);
	}
}

/* What was trusted when the ticket came is no longer when it could be used. */
static void test_authorities_are_others_now(void **state)
{
	(void)state;
	for (int i = 0; i < 4; i++) {
		char changing[512];
		struct streaming streaming;
		streaming_init(&streaming);
		copy_file("ca.pem", "changing.pem");
		streaming.target.trust.ca_file = peer_path("changing.pem", changing);
		connect_first(&streaming, i / 2);
		n_checks = 0;
		copy_file(i % 2 ? "ca.pem" : "client.pem", "changing.pem");
		connect_again(&streaming);
		assert_int_equal(n_checks, 1);
		if (i % 2) {
			assert_open(&streaming);
			assert_false(stream_is_resumed(streaming.stream));
		} else {
			assert_closed(
				&streaming, FAILURE_CERTIFICATE_INVALID, "its issuer is unknown");
		}
		streaming_done(&streaming);
	}
}

static void test_nobody_can_tell_about_authorities(void **state)
{
	(void)state;
	for (int is_1_3 = 0; is_1_3 < 2; is_1_3++) {
		char changing[512];
		struct streaming streaming;
		streaming_init(&streaming);
		copy_file("ca.pem", "changing.pem");
		streaming.target.trust.ca_file = peer_path("changing.pem", changing);
		is_blind = true;
		connect_first(&streaming, is_1_3);
		n_checks = 0;
		connect_again(&streaming);
		assert_open(&streaming);
		assert_true(stream_is_resumed(streaming.stream));
		assert_int_equal(n_checks, 1);
		assert_echoes(&streaming, "again\r\n");
		copy_file("client.pem", "changing.pem");
		connect_again(&streaming);
		assert_closed(&streaming, FAILURE_CERTIFICATE_INVALID, "its issuer is unknown");
		is_blind = false;
		streaming_done(&streaming);
	}
}

static void test_time_goes_by(void **state)
{
	(void)state;
	static const time_t day = 24 * 60 * 60;
	for (int is_1_3 = 0; is_1_3 < 2; is_1_3++) {
		struct streaming streaming;
		streaming_init(&streaming);
		connect_first(&streaming, is_1_3);
		/* Each time with a ticket that came of the one before. */
		for (int i = 0; i < 3; i++) {
			ahead += day / 4;
			connect_again(&streaming);
			assert_open(&streaming);
			assert_true(stream_is_resumed(streaming.stream));
			assert_echoes(&streaming, "again\r\n");
		}
		ahead += day / 4 + 60;
		connect_again(&streaming);
		assert_open(&streaming);
		assert_false(stream_is_resumed(streaming.stream));
		assert_echoes(&streaming, "anew\r\n");
		/* Back before the check. */
		ahead -= day;
		connect_again(&streaming);
		assert_open(&streaming);
		assert_false(stream_is_resumed(streaming.stream));
		assert_echoes(&streaming, "anew\r\n");
		ahead = 0;
		streaming_done(&streaming);
	}
	for (int is_1_3 = 0; is_1_3 < 2; is_1_3++) {
		struct streaming streaming;
		streaming_init(&streaming);
		connect_first(&streaming, is_1_3);
		ahead = 200 * 365 * day;
		connect_again(&streaming);
		assert_closed(&streaming, FAILURE_CERTIFICATE_INVALID, " expired on ");
		ahead = 0;
		streaming_done(&streaming);
	}
}

/* The chain ends before the day does, by its last second. */
static void test_ticket_dies_with_the_chain(void **state)
{
	(void)state;
	char path[512];
	gnutls_datum_t pem;
	gnutls_x509_crt_t root;
	assert_int_equal(gnutls_load_file(peer_path("ca.pem", path), &pem), 0);
	assert_int_equal(gnutls_x509_crt_init(&root), 0);
	assert_int_equal(gnutls_x509_crt_import(root, &pem, GNUTLS_X509_FMT_PEM), 0);
	time_t last = gnutls_x509_crt_get_expiration_time(root);
	gnutls_x509_crt_deinit(root);
	gnutls_free(pem.data);
	assert_true(last > 0);
	for (int is_1_3 = 0; is_1_3 < 2; is_1_3++) {
		struct streaming streaming;
		streaming_init(&streaming);
		ahead = 0;
		ahead = last - time(NULL) - 3600;
		connect_first(&streaming, is_1_3);
		ahead += 3000;
		connect_again(&streaming);
		assert_open(&streaming);
		assert_true(stream_is_resumed(streaming.stream));
		assert_echoes(&streaming, "again\r\n");
		ahead += 700;
		connect_again(&streaming);
		assert_closed(&streaming, FAILURE_CERTIFICATE_INVALID, " expired on ");
		ahead = 0;
		streaming_done(&streaming);
	}
}

/* A burst loads them once; when it is over they are gone, though a session goes on. */
static void test_authorities_go_when_the_burst_is_over(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		struct streaming streaming;
		struct tls_trust *trust;
		streaming_init(&streaming);
		if (i > 0) {
			streaming.target.trust.ca_file = NULL;
		}
		assert_int_equal(
			tls_trust_get(streaming.turning.turn, &streaming.target.trust, &trust), 0);
		server_start(&streaming.server);
		for (int again = 0; again < 2; again++) {
			ticket_clear();
			stream_free(streaming.stream);
			assert_true(tls_trust_has_authorities(trust) == (again > 0));
			dial(&streaming);
			await_settled(&streaming);
			assert_int_equal(stream_state(streaming.stream),
				i > 0 ? STREAM_CLOSED : STREAM_OPEN);
			assert_true(tls_trust_has_authorities(trust));
		}
		uint64_t start = clock_now_usec();
		while (tls_trust_has_authorities(trust)) {
			ev_run(turn_loop(streaming.turning.turn), EVRUN_ONCE);
		}
		assert_true(clock_now_usec() - start >= 500 * USEC_PER_MSEC);
		if (i == 0) {
			assert_echoes(&streaming, "still there\r\n");
		}
		tls_trust_unref(trust);
		streaming_done(&streaming);
	}
}

static void ask_to_renegotiate(struct peer *peer)
{
	gnutls_rehandshake(peer->session);
	peer_echo(peer);
}

static void test_renegotiation_is_refused(void **state)
{
	(void)state;
	struct streaming streaming;
	streaming_init(&streaming);
	streaming.server.priorities = TLS_1_2;
	streaming.server.serve = ask_to_renegotiate;
	connect_and_await(&streaming);
	assert_open(&streaming);
	assert_echoes(&streaming, "go on\r\n");
	streaming_done(&streaming);
}

static void ask_for_ever(struct peer *peer)
{
	while (gnutls_rehandshake(peer->session) == 0) {
	}
}

static void test_records_without_data_are_limited(void **state)
{
	(void)state;
	struct streaming streaming;
	char text[1];
	streaming_init(&streaming);
	streaming.server.priorities = TLS_1_2;
	streaming.server.serve = ask_for_ever;
	connect_and_await(&streaming);
	assert_open(&streaming);
	assert_false(read_exactly(&streaming, text, 1, 1));
	assert_closed(&streaming, FAILURE_PROTOCOL_ERROR, "TLS records without data");
	streaming_done(&streaming);
}

static void update_keys(struct peer *peer)
{
	for (int i = 0; i < 4; i++) {
		peer_hear(peer);
		gnutls_session_key_update(peer->session, GNUTLS_KU_PEER);
		peer_say(peer, peer->server->text);
	}
	peer_linger(peer);
}

static void test_keys_are_updated(void **state)
{
	(void)state;
	struct streaming streaming;
	streaming_init(&streaming);
	streaming.server.serve = update_keys;
	connect_and_await(&streaming);
	for (int i = 0; i < 4; i++) {
		assert_echoes(&streaming, "new keys\r\n");
	}
	streaming_done(&streaming);
}

static void say_in_one_record(struct peer *peer)
{
	peer_say(peer, "+ idling\r\n* 2 EXISTS\r\n");
	peer_linger(peer);
}

/* After the first octet the socket is silent, though there is more. */
static void test_nothing_stays_in_the_record(void **state)
{
	(void)state;
	struct streaming streaming;
	char text[64] = "";
	streaming_init(&streaming);
	streaming.server.serve = say_in_one_record;
	connect_and_await(&streaming);
	assert_open(&streaming);
	assert_true(read_exactly(&streaming, text, 1, 1));
	size_t len = 1;
	for (;;) {
		ssize_t n = stream_read(streaming.stream, text + len, 1);
		assert_true(n >= 0);
		if (n == 0) {
			break;
		}
		len++;
	}
	assert_string_equal(text, "+ idling\r\n* 2 EXISTS\r\n");
	streaming_done(&streaming);
}

static void say_and_drop(struct peer *peer)
{
	peer_say(peer, "* BYE\r\n");
}

static void say_and_bye(struct peer *peer)
{
	peer_say(peer, "* BYE\r\n");
	gnutls_bye(peer->session, GNUTLS_SHUT_WR);
}

static void test_end_with_and_without_close_notify(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		struct streaming streaming;
		char text[64] = "";
		streaming_init(&streaming);
		streaming.server.serve = i ? say_and_bye : say_and_drop;
		connect_and_await(&streaming);
		assert_true(read_exactly(&streaming, text, strlen("* BYE\r\n"), 64));
		assert_string_equal(text, "* BYE\r\n");
		assert_false(read_exactly(&streaming, text, 1, 1));
		assert_closed(&streaming, FAILURE_OFFLINE, "the server closed the connection");
		streaming_done(&streaming);
	}
}

static void hear_to_the_end(struct peer *peer)
{
	char octets[65536];
	ssize_t n;
	while ((n = peer_recv(peer, octets, sizeof(octets))) > 0) {
		peer->server->n_octets += (int)n;
	}
	peer->server->result = (int)n;
}

static void test_close_sends_the_rest(void **state)
{
	(void)state;
	struct streaming streaming;
	streaming_init(&streaming);
	streaming.server.serve = hear_to_the_end;
	connect_and_await(&streaming);
	assert_open(&streaming);
	static uint8_t octets[8 * 1024 * 1024];
	ssize_t n = stream_write(
		streaming.stream, (struct span){.data = octets, .len = sizeof(octets)});
	assert_true(n > 0);
	stream_close(streaming.stream);
	assert_int_equal(stream_state(streaming.stream), STREAM_CLOSING);
	while (stream_state(streaming.stream) != STREAM_CLOSED) {
		turning_await(&streaming.turning);
	}
	assert_int_equal(stream_failure(streaming.stream)->kind, FAILURE_NONE);
	streaming_done(&streaming);
	assert_int_equal(streaming.server.n_octets, n);
	/* close_notify, not GNUTLS_E_PREMATURE_TERMINATION. */
	assert_int_equal(streaming.server.result, 0);
}

static void test_old_tls_is_refused(void **state)
{
	(void)state;
	struct streaming streaming;
	streaming_init(&streaming);
	streaming.server.priorities = "NORMAL:-VERS-ALL:+VERS-TLS1.1:+VERS-TLS1.0:+SIGN-RSA-SHA1";
	connect_and_await(&streaming);
	assert_closed(&streaming, FAILURE_CERTIFICATE_INVALID, "no version of TLS later than 1.1");
	streaming_done(&streaming);
	assert_int_equal(streaming.server.n_handshakes, 0);
}

static void greet(struct peer *peer)
{
	peer_say(peer, "* OK this is no TLS, but long enough to look like some records\r\n");
	peer_linger(peer);
}

static void test_plain_server_is_told_apart(void **state)
{
	(void)state;
	struct streaming streaming;
	streaming_init(&streaming);
	streaming.server.tls_at_once = false;
	streaming.server.serve = greet;
	connect_and_await(&streaming);
	assert_closed(&streaming, FAILURE_PROTOCOL_ERROR, "what the server says is no TLS");
	streaming_done(&streaming);
}

static void say_a_part(struct peer *peer)
{
	/* As long as 122 octets, it says. */
	static const uint8_t record[] = {0x16, 0x03, 0x03, 0x00, 0x7a, 0x02, 0x00, 0x00};
	assert_int_equal(
		send(peer->fd, record, (size_t)peer->server->n_octets, 0), peer->server->n_octets);
	shutdown(peer->fd, SHUT_WR);
	peer_linger(peer);
}

static void test_cut_in_a_record_is_no_mistake_of_the_server(void **state)
{
	(void)state;
	for (int n = 1; n <= 8; n++) {
		struct streaming streaming;
		streaming_init(&streaming);
		streaming.server.tls_at_once = false;
		streaming.server.n_octets = n;
		streaming.server.serve = say_a_part;
		connect_and_await(&streaming);
		assert_closed(&streaming, FAILURE_OFFLINE, "the server closed the connection");
		streaming_done(&streaming);
	}
}

static void test_silent_handshake_has_a_deadline(void **state)
{
	(void)state;
	struct streaming streaming;
	streaming_init(&streaming);
	streaming.server.tls_at_once = false;
	streaming.server.serve = peer_linger;
	streaming.target.deadline_usec = 300 * USEC_PER_MSEC;
	uint64_t start = clock_now_usec();
	connect_and_await(&streaming);
	assert_true(clock_now_usec() - start >= 290 * USEC_PER_MSEC);
	assert_closed(&streaming, FAILURE_TIMEOUT, "did not finish the TLS handshake within 1 s");
	streaming_done(&streaming);
}

static void put(const char *key, uint64_t source, const char *octets)
{
	ticket_put(key, source, &(struct ticket_life){.first = 100, .last = 200}, span_of(octets));
}

static void assert_takes(const char *key, time_t now, const char *octets)
{
	struct bytes ticket;
	struct ticket_life life = {0};
	bytes_init(&ticket);
	ticket_take(key, now, &life, &ticket);
	assert_true(span_equal(bytes_span(&ticket), octets));
	assert_int_equal(life.first, *octets ? 100 : 0);
	assert_int_equal(life.last, *octets ? 200 : 0);
	bytes_wipe(&ticket);
}

static void test_tickets(void **state)
{
	(void)state;
	ticket_clear();
	put("a", 1, "a1");
	put("a", 2, "a2");
	put("a", 2, "a2 newer");
	put("b", 3, "b3");
	assert_takes("a", 150, "a2 newer");
	assert_takes("a", 150, "a1");
	assert_takes("a", 150, "");
	assert_takes("c", 150, "");
	assert_takes("b", 150, "b3");
	for (uint64_t i = 0; i <= TICKETS_MAX; i++) {
		put(i == 0 ? "oldest" : "other", 10 + i, "x");
	}
	assert_takes("oldest", 150, "");
	ticket_clear();
}

static void test_tickets_have_their_time(void **state)
{
	(void)state;
	static const time_t times[] = {99, 100, 200, 201};
	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		bool is_alive = i == 1 || i == 2;
		put("a", 1, "older");
		put("a", 2, "newer");
		assert_takes("a", times[i], is_alive ? "newer" : "");
		/* What is dead stays so. */
		assert_takes("a", 150, is_alive ? "older" : "");
		ticket_clear();
	}
}

static int setup(void **state)
{
	(void)state;
	if (sem_init(&gate, 0, 0) < 0 || certificates_make() < 0) {
		return -1;
	}
	peer_path("ca.pem", ca_file);
	fingerprint_of("srv.pem", fingerprint);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	ticket_clear();
	return certificates_remove();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_trusts_ca_file),
		cmocka_unit_test(test_binds_channel),
		cmocka_unit_test(test_names_and_literals),
		cmocka_unit_test(test_bad_certificates_are_refused),
		cmocka_unit_test(test_fingerprint_replaces_all_checks),
		cmocka_unit_test(test_other_fingerprint_is_refused),
		cmocka_unit_test(test_system_does_not_trust_us),
		cmocka_unit_test(test_client_certificate),
		cmocka_unit_test(test_server_asks_for_certificate),
		cmocka_unit_test(test_files_that_cannot_be_used),
		cmocka_unit_test(test_starttls),
		cmocka_unit_test(test_starttls_with_bad_certificate),
		cmocka_unit_test(test_sessions_are_resumed),
		cmocka_unit_test(test_resumed_chain_is_vouched_for),
		cmocka_unit_test(test_authorities_are_others_now),
		cmocka_unit_test(test_nobody_can_tell_about_authorities),
		cmocka_unit_test(test_time_goes_by),
		cmocka_unit_test(test_ticket_dies_with_the_chain),
		cmocka_unit_test(test_authorities_go_when_the_burst_is_over),
		cmocka_unit_test(test_renegotiation_is_refused),
		cmocka_unit_test(test_records_without_data_are_limited),
		cmocka_unit_test(test_keys_are_updated),
		cmocka_unit_test(test_nothing_stays_in_the_record),
		cmocka_unit_test(test_end_with_and_without_close_notify),
		cmocka_unit_test(test_close_sends_the_rest),
		cmocka_unit_test(test_old_tls_is_refused),
		cmocka_unit_test(test_plain_server_is_told_apart),
		cmocka_unit_test(test_cut_in_a_record_is_no_mistake_of_the_server),
		cmocka_unit_test(test_silent_handshake_has_a_deadline),
		cmocka_unit_test(test_tickets),
		cmocka_unit_test(test_tickets_have_their_time),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
