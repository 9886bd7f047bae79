#include "net/address.h"
#include "terms.h"
#include "util/clock.h"

#define CONNECT_USEC (30 * USEC_PER_SEC)

static bool is_tunnel(const struct config_account *config)
{
	return config->security == CONFIG_SECURITY_PLAIN && config->proxy_command;
}

struct stream_target terms_target(const struct config_account *config)
{
	return (struct stream_target){
		.host = config->host,
		.port = config->port,
		.proxy_command = config->proxy_command,
		.tls = config->security == CONFIG_SECURITY_TLS,
		.loopback_only = config->security == CONFIG_SECURITY_PLAIN && !is_tunnel(config),
		.trust.ca_file = config->ca_file,
		.trust.fingerprint = config->certificate_fingerprint,
		.trust.client_certificate = config->client_certificate,
		.trust.client_key = config->client_key,
		.deadline_usec = CONNECT_USEC,
	};
}

bool terms_is_local(const struct config_account *config)
{
	return address_is_local_name(config->host);
}

static enum imap_transport transport(const struct config_account *config)
{
	switch (config->security) {
	case CONFIG_SECURITY_TLS:
		return IMAP_TRANSPORT_TLS;
	case CONFIG_SECURITY_STARTTLS:
		return IMAP_TRANSPORT_STARTTLS;
	case CONFIG_SECURITY_PLAIN:
		break;
	}
	return is_tunnel(config) ? IMAP_TRANSPORT_TUNNEL : IMAP_TRANSPORT_PLAIN;
}

struct imap_client_options terms_options(
	const struct config_account *config, enum imap_secret_kind kind, bool without_plus)
{
	return (struct imap_client_options){
		.transport = transport(config),
		.auth = config->auth,
		.secret_kind = kind,
		.without_plus = without_plus,
		.idle_timeout_usec = config->idle_timeout_usec,
		.poll_interval_usec = config->poll_interval_usec,
		.preview = config->preview,
		.compress = config->compress,
	};
}

struct imap_credentials terms_credentials(const struct config_account *config,
	enum imap_secret_kind kind, const char *secret, const struct stream *stream)
{
	return (struct imap_credentials){
		.user = config->user,
		.kind = kind,
		.secret = secret,
		.host = config->host,
		.port = config->port,
		.tls_unique = stream_tls_unique(stream),
		.tls_exporter = stream_tls_exporter(stream),
	};
}
