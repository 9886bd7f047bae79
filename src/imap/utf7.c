#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "imap/utf7.h"

/* RFC 3501 section 5.1.3: "," instead of "/", and no padding. */
static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";

/* U+FFFD */
static const char replacement[] = "\xef\xbf\xbd";

#define NO_CHARACTER UINT32_MAX

static bool is_surrogate(uint32_t c)
{
	return c >= 0xd800 && c <= 0xdfff;
}

static bool is_control(uint32_t c)
{
	return c < 0x20 || (c >= 0x7f && c < 0xa0);
}

/* The next character, RFC 3629; NO_CHARACTER with a length of 1 when it is invalid. */
static uint32_t read_utf8(const uint8_t *data, size_t len, size_t *ret_len)
{
	static const uint32_t lowest[] = {0, 0, 0x80, 0x800, 0x10000};
	uint32_t c = data[0];
	size_t n;

	*ret_len = 1;
	if (c < 0x80) {
		return c;
	}
	if (c < 0xc2 || c > 0xf4) {
		return NO_CHARACTER;
	}
	n = c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
	if (n > len) {
		return NO_CHARACTER;
	}
	c &= 0x7f >> n;
	for (size_t i = 1; i < n; i++) {
		if ((data[i] & 0xc0) != 0x80) {
			return NO_CHARACTER;
		}
		c = c << 6 | (data[i] & 0x3f);
	}
	if (c < lowest[n] || is_surrogate(c) || c > 0x10ffff) {
		return NO_CHARACTER;
	}
	*ret_len = n;
	return c;
}

static void put_utf8(struct bytes *bytes, uint32_t c)
{
	if (c < 0x80) {
		bytes_put_char(bytes, (char)c);
		return;
	}
	if (c < 0x800) {
		bytes_put_char(bytes, (char)(0xc0 | c >> 6));
	} else {
		if (c < 0x10000) {
			bytes_put_char(bytes, (char)(0xe0 | c >> 12));
		} else {
			bytes_put_char(bytes, (char)(0xf0 | c >> 18));
			bytes_put_char(bytes, (char)(0x80 | (c >> 12 & 0x3f)));
		}
		bytes_put_char(bytes, (char)(0x80 | (c >> 6 & 0x3f)));
	}
	bytes_put_char(bytes, (char)(0x80 | (c & 0x3f)));
}

/* Base64 under way: bits that do not fill a sextet, or an octet, yet. */
struct bits {
	uint32_t value;
	unsigned int n;
};

static void put_unit(struct bytes *bytes, struct bits *bits, uint32_t unit)
{
	bits->value = bits->value << 16 | unit;
	bits->n += 16;
	while (bits->n >= 6) {
		bits->n -= 6;
		bytes_put_char(bytes, alphabet[bits->value >> bits->n & 0x3f]);
	}
	bits->value &= (1U << bits->n) - 1;
}

static void end_base64(struct bytes *bytes, struct bits *bits)
{
	if (bits->n > 0) {
		bytes_put_char(bytes, alphabet[bits->value << (6 - bits->n) & 0x3f]);
	}
	*bits = (struct bits){0};
	bytes_put_char(bytes, '-');
}

/* -EILSEQ or 0; memory is the buffer's own error. */
static int encode(struct bytes *bytes, struct span name)
{
	struct bits bits = {0};
	bool in_base64 = false;
	size_t len;

	for (size_t i = 0; i < name.len; i += len) {
		uint32_t c = read_utf8(name.data + i, name.len - i, &len);

		if (c == NO_CHARACTER) {
			return -EILSEQ;
		}
		if (c >= 0x20 && c < 0x7f) {
			if (in_base64) {
				end_base64(bytes, &bits);
				in_base64 = false;
			}
			bytes_put_char(bytes, (char)c);
			if (c == '&') {
				bytes_put_char(bytes, '-');
			}
			continue;
		}
		if (!in_base64) {
			bytes_put_char(bytes, '&');
			in_base64 = true;
		}
		if (c >= 0x10000) {
			put_unit(bytes, &bits, 0xd800 + ((c - 0x10000) >> 10));
			put_unit(bytes, &bits, 0xdc00 + ((c - 0x10000) & 0x3ff));
		} else {
			put_unit(bytes, &bits, c);
		}
	}
	if (in_base64) {
		end_base64(bytes, &bits);
	}
	return 0;
}

int imap_utf7_encode(const char *name, char **ret_encoded)
{
	struct bytes bytes __attribute__((cleanup(bytes_done)));
	char *encoded;
	int r;

	bytes_init(&bytes);
	r = encode(&bytes, span_of(name));
	if (r < 0) {
		return r;
	}
	encoded = bytes_steal(&bytes);
	if (!encoded) {
		return -ENOMEM;
	}
	*ret_encoded = encoded;
	return 0;
}

/* The UTF-16 of one "&...-" without its ends, as UTF-8. false: it is none, or a control character.
 */
static bool decode_base64(struct bytes *bytes, struct span base64)
{
	struct bits bits = {0};
	uint32_t high = 0;

	for (size_t i = 0; i < base64.len; i++) {
		const char *sextet = base64.data[i] ? strchr(alphabet, base64.data[i]) : NULL;
		uint32_t unit;

		if (!sextet) {
			return false;
		}
		bits.value = bits.value << 6 | (uint32_t)(sextet - alphabet);
		bits.n += 6;
		if (bits.n < 16) {
			continue;
		}
		bits.n -= 16;
		unit = bits.value >> bits.n & 0xffff;
		bits.value &= (1U << bits.n) - 1;
		if (high > 0) {
			if (unit < 0xdc00 || unit > 0xdfff) {
				return false;
			}
			put_utf8(bytes, 0x10000 + ((high - 0xd800) << 10) + (unit - 0xdc00));
			high = 0;
		} else if (unit >= 0xd800 && unit <= 0xdbff) {
			high = unit;
		} else if (is_surrogate(unit) || is_control(unit)) {
			return false;
		} else {
			put_utf8(bytes, unit);
		}
	}
	return high == 0;
}

static bool decode(struct bytes *bytes, struct span encoded)
{
	for (size_t i = 0; i < encoded.len; i++) {
		const uint8_t *end;
		struct span base64;

		if (encoded.data[i] < 0x20 || encoded.data[i] >= 0x7f) {
			return false;
		}
		if (encoded.data[i] != '&') {
			bytes_put_char(bytes, (char)encoded.data[i]);
			continue;
		}
		i++;
		end = memchr(encoded.data + i, '-', encoded.len - i);
		if (!end) {
			return false;
		}
		base64 = (struct span){
			.data = encoded.data + i, .len = (size_t)(end - (encoded.data + i))};
		if (base64.len == 0) {
			bytes_put_char(bytes, '&');
		} else if (!decode_base64(bytes, base64)) {
			return false;
		}
		i += base64.len;
	}
	return true;
}

/* As it stands, but fit for a person's eyes. */
static void put_clean(struct bytes *bytes, struct span name)
{
	size_t len;

	for (size_t i = 0; i < name.len; i += len) {
		uint32_t c = read_utf8(name.data + i, name.len - i, &len);

		if (c == NO_CHARACTER || is_control(c)) {
			bytes_put_str(bytes, replacement);
		} else {
			put_utf8(bytes, c);
		}
	}
}

int imap_utf7_decode(struct span encoded, char **ret_name)
{
	struct bytes name __attribute__((cleanup(bytes_done)));
	struct bytes again __attribute__((cleanup(bytes_done)));
	char *str;

	bytes_init(&name);
	bytes_init(&again);
	if (!decode(&name, encoded) || encode(&again, bytes_span(&name)) < 0 ||
		bytes_len(&again) != encoded.len ||
		(encoded.len > 0 &&
			memcmp(bytes_span(&again).data, encoded.data, encoded.len) != 0)) {
		bytes_clear(&name);
		put_clean(&name, encoded);
	}
	if (again.error < 0) {
		return again.error;
	}
	str = bytes_steal(&name);
	if (!str) {
		return -ENOMEM;
	}
	*ret_name = str;
	return 0;
}
