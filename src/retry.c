#include "retry.h"
#include "util/clock.h"

#define MOST_USEC (5 * USEC_PER_MINUTE)

/* The least wait after the first, second and every further one of those ends in a row that mean
 * that the server has had too much of us. */
static const uint64_t long_usec[] = {USEC_PER_MINUTE, 2 * USEC_PER_MINUTE, MOST_USEC};

void retry_init(struct retry *retry, uint64_t seed)
{
	*retry = (struct retry){0};
	backoff_init(&retry->backoff, seed);
}

static uint64_t wait_for_server(struct retry *retry, uint64_t retry_after_usec)
{
	uint64_t least = long_usec[retry->n_long];
	if (retry->n_long + 1 < sizeof(long_usec) / sizeof(long_usec[0])) {
		retry->n_long++;
	}
	least = retry_after_usec > least ? retry_after_usec : least;
	uint64_t wait = backoff_next_long_usec(&retry->backoff, least);
	return wait < MOST_USEC ? wait : MOST_USEC;
}

static uint64_t wait_for_key(struct retry *retry, enum key_verdict verdict)
{
	switch (verdict) {
	case KEY_AGAIN:
		return 0;
	case KEY_LATER:
		return backoff_next_long_usec(&retry->backoff, KEY_REST_USEC);
	case KEY_NEVER:
		break;
	}
	return USEC_NEVER;
}

uint64_t retry_wait_usec(
	struct retry *retry, enum imap_end end, uint64_t retry_after_usec, enum key_verdict verdict)
{
	switch (end) {
	case IMAP_END_TOKEN:
		if (!retry->is_token_renewed) {
			retry->is_token_renewed = true;
			return 0;
		}
		break;
	case IMAP_END_THROTTLED:
	case IMAP_END_LIMIT:
		return wait_for_server(retry, retry_after_usec);
	case IMAP_END_CREDENTIALS:
		return wait_for_key(retry, verdict);
	case IMAP_END_STUMBLED:
		return 0;
	case IMAP_END_ORDINARY:
		break;
	}
	return backoff_next_usec(&retry->backoff);
}

void retry_forgive(struct retry *retry)
{
	backoff_reset(&retry->backoff);
	retry->n_long = 0;
	retry->is_token_renewed = false;
}
