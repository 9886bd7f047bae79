#include "retry.h"
#include "util/clock.h"

#define LONG_USEC (60 * USEC_PER_SEC)
#define MOST_USEC (5 * USEC_PER_MINUTE)

void retry_init(struct retry *retry, uint64_t seed)
{
	*retry = (struct retry){0};
	backoff_init(&retry->backoff, seed);
}

static uint64_t wait_for_server(struct retry *retry, uint64_t retry_after_usec)
{
	uint64_t least = retry_after_usec > LONG_USEC ? retry_after_usec : LONG_USEC;
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
		return wait_for_server(retry, retry_after_usec);
	case IMAP_END_LIMIT:
		return backoff_next_long_usec(&retry->backoff, LONG_USEC);
	case IMAP_END_CREDENTIALS:
		return wait_for_key(retry, verdict);
	case IMAP_END_ORDINARY:
		break;
	}
	return backoff_next_usec(&retry->backoff);
}

void retry_forgive(struct retry *retry)
{
	backoff_reset(&retry->backoff);
	retry->is_token_renewed = false;
}
