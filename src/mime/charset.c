#include <errno.h>
#include <iconv.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "mime/charset.h"
#include "util/text.h"

#define NAME_MAX_LEN 32
#define FALLBACK     "CP1252"
#define CHUNK        4096

struct alias {
	const char *key;  /* letters and digits alone, in small letters */
	const char *name; /* for iconv(3) */
};

/* Sorted by key. */
static const struct alias aliases[] = {
	{"big5", "BIG5-HKSCS"},
	{"big5hkscs", "BIG5-HKSCS"},
	{"cnbig5", "BIG5-HKSCS"},
	{"cngb", "GB18030"},
	{"cp10000", "MACINTOSH"},
	{"cp10007", "MAC-CYRILLIC"},
	{"cp10029", "MAC-CENTRALEUROPE"},
	{"cp1125", "CP1125"},
	{"cp1250", "CP1250"},
	{"cp1251", "CP1251"},
	{"cp1252", "CP1252"},
	{"cp1253", "CP1253"},
	{"cp1254", "CP1254"},
	{"cp1255", "CP1255"},
	{"cp1256", "CP1256"},
	{"cp1257", "CP1257"},
	{"cp1258", "CP1258"},
	{"cp1361", "JOHAB"},
	{"cp437", "CP437"},
	{"cp65000", "UTF-7"},
	{"cp65001", "UTF-8"},
	{"cp737", "CP737"},
	{"cp775", "CP775"},
	{"cp819", "CP1252"},
	{"cp850", "CP850"},
	{"cp852", "CP852"},
	{"cp855", "CP855"},
	{"cp857", "CP857"},
	{"cp858", "CP858"},
	{"cp860", "CP860"},
	{"cp861", "CP861"},
	{"cp862", "CP862"},
	{"cp863", "CP863"},
	{"cp864", "CP864"},
	{"cp865", "CP865"},
	{"cp866", "CP866"},
	{"cp869", "CP869"},
	{"cp874", "CP874"},
	{"cp932", "CP932"},
	{"cp936", "GB18030"},
	{"cp943", "CP932"},
	{"cp949", "CP949"},
	{"cp950", "BIG5-HKSCS"},
	{"cseuckr", "CP949"},
	{"csgb2312", "GB18030"},
	{"csiso2022jp", "ISO-2022-JP-2"},
	{"csksc56011987", "CP949"},
	{"csshiftjis", "CP932"},
	{"euccn", "GB18030"},
	{"eucjp", "EUC-JP-MS"},
	{"eucjpms", "EUC-JP-MS"},
	{"euckr", "CP949"},
	{"euctw", "EUC-TW"},
	{"gb18030", "GB18030"},
	{"gb2312", "GB18030"},
	{"gb231280", "GB18030"},
	{"gbk", "GB18030"},
	{"georgianps", "GEORGIAN-PS"},
	{"ibm437", "CP437"},
	{"ibm850", "CP850"},
	{"ibm852", "CP852"},
	{"ibm855", "CP855"},
	{"ibm858", "CP858"},
	{"ibm862", "CP862"},
	{"ibm866", "CP866"},
	{"iso10646ucs2", "UTF-16BE"},
	{"iso10646ucs4", "UTF-32BE"},
	{"iso2022cn", "ISO-2022-CN"},
	{"iso2022jp", "ISO-2022-JP-2"},
	{"iso2022jp1", "ISO-2022-JP-2"},
	{"iso2022jp2", "ISO-2022-JP-2"},
	{"iso2022kr", "ISO-2022-KR"},
	{"iso88591", "CP1252"},
	{"iso885910", "ISO-8859-10"},
	{"iso885911", "CP874"},
	{"iso885913", "ISO-8859-13"},
	{"iso885914", "ISO-8859-14"},
	{"iso885915", "ISO-8859-15"},
	{"iso885916", "ISO-8859-16"},
	{"iso88592", "ISO-8859-2"},
	{"iso88593", "ISO-8859-3"},
	{"iso88594", "ISO-8859-4"},
	{"iso88595", "ISO-8859-5"},
	{"iso88596", "ISO-8859-6"},
	{"iso88596e", "ISO-8859-6"},
	{"iso88596i", "ISO-8859-6"},
	{"iso88597", "ISO-8859-7"},
	{"iso88598", "ISO-8859-8"},
	{"iso88598e", "ISO-8859-8"},
	{"iso88598i", "ISO-8859-8"},
	{"iso88599", "CP1254"},
	{"iso8859i", "CP1252"},
	{"isolatin1", "CP1252"},
	{"isolatin2", "ISO-8859-2"},
	{"johab", "JOHAB"},
	{"koi7", "KOI-7"},
	{"koi8r", "KOI8-R"},
	{"koi8ru", "KOI8-RU"},
	{"koi8t", "KOI8-T"},
	{"koi8u", "KOI8-U"},
	{"ksc5601", "CP949"},
	{"ksc56011987", "CP949"},
	{"ksc56011989", "CP949"},
	{"latin1", "CP1252"},
	{"latin2", "ISO-8859-2"},
	{"latin5", "CP1254"},
	{"latin9", "ISO-8859-15"},
	{"macintosh", "MACINTOSH"},
	{"macroman", "MACINTOSH"},
	{"ms932", "CP932"},
	{"ms936", "GB18030"},
	{"ms949", "CP949"},
	{"ms950", "BIG5-HKSCS"},
	{"mskanji", "CP932"},
	{"shiftjis", "CP932"},
	{"sjis", "CP932"},
	{"tcvn", "TCVN5712-1"},
	{"tis620", "CP874"},
	{"ucs2", "UTF-16"},
	{"uhc", "CP949"},
	{"unicode", "UTF-16"},
	{"unicode11utf7", "UTF-7"},
	{"unicode11utf8", "UTF-8"},
	{"unicode20utf7", "UTF-7"},
	{"unicode20utf8", "UTF-8"},
	{"utf16", "UTF-16"},
	{"utf16be", "UTF-16BE"},
	{"utf16le", "UTF-16LE"},
	{"utf32", "UTF-32"},
	{"utf32be", "UTF-32BE"},
	{"utf32le", "UTF-32LE"},
	{"utf7", "UTF-7"},
	{"utf8", "UTF-8"},
	{"viscii", "VISCII"},
	{"win1250", "CP1250"},
	{"win1251", "CP1251"},
	{"win1252", "CP1252"},
	{"windows1250", "CP1250"},
	{"windows1251", "CP1251"},
	{"windows1252", "CP1252"},
	{"windows1253", "CP1253"},
	{"windows1254", "CP1254"},
	{"windows1255", "CP1255"},
	{"windows1256", "CP1256"},
	{"windows1257", "CP1257"},
	{"windows1258", "CP1258"},
	{"windows31j", "CP932"},
	{"windows874", "CP874"},
	{"windows932", "CP932"},
	{"windows936", "GB18030"},
	{"windows949", "CP949"},
	{"windows950", "BIG5-HKSCS"},
	{"xbig5", "BIG5-HKSCS"},
	{"xcp1250", "CP1250"},
	{"xcp1251", "CP1251"},
	{"xcp1252", "CP1252"},
	{"xeucjp", "EUC-JP-MS"},
	{"xeuckr", "CP949"},
	{"xeuctw", "EUC-TW"},
	{"xgb2312", "GB18030"},
	{"xgbk", "GB18030"},
	{"xmacce", "MAC-CENTRALEUROPE"},
	{"xmaccentraleurroman", "MAC-CENTRALEUROPE"},
	{"xmaccyrillic", "MAC-CYRILLIC"},
	{"xmacroman", "MACINTOSH"},
	{"xmacukrainian", "MAC-CYRILLIC"},
	{"xsjis", "CP932"},
	{"xwindows949", "CP949"},
};

static int compare_key(const void *key, const void *alias)
{
	return strcmp(key, ((const struct alias *)alias)->key);
}

/* NULL for a charset that is not on the list. */
static const char *find_charset(struct span name)
{
	char key[NAME_MAX_LEN];
	size_t len = 0;
	const struct alias *alias;

	/* iconv(3) gives "//" a meaning, and so do programs that write what they gave to it. */
	for (size_t i = 0; i < name.len && name.data[i] != '/'; i++) {
		uint8_t c = name.data[i];

		if (c >= 'A' && c <= 'Z') {
			c |= 0x20;
		}
		if ((c < 'a' || c > 'z') && (c < '0' || c > '9')) {
			continue;
		}
		if (len == sizeof(key) - 1) {
			return NULL;
		}
		key[len++] = (char)c;
	}
	key[len] = '\0';
	alias = bsearch(key, aliases, sizeof(aliases) / sizeof(aliases[0]), sizeof(aliases[0]),
		compare_key);
	return alias != NULL ? alias->name : NULL;
}

/* Without the beginning of a character of UTF-8 whose rest has been cut off. */
static struct span without_cut_character(struct span octets)
{
	for (size_t n = 1; n <= 3 && n <= octets.len; n++) {
		const uint8_t c = octets.data[octets.len - n];
		const size_t wanted = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 1;

		if (c >= 0x80 && c < 0xc0) {
			continue;
		}
		if (wanted > n) {
			octets.len -= n;
		}
		break;
	}
	return octets;
}

/* Whether there is a character beyond ASCII that is good UTF-8: chance makes none where the octets
 * are something else. */
static bool has_utf8_character(struct span octets)
{
	while (octets.len > 0) {
		const uint32_t c = text_next(&octets);

		if (c >= 0x80 && c != TEXT_INVALID) {
			return true;
		}
	}
	return false;
}

static void put_utf8(struct bytes *text, struct span octets)
{
	char buffer[4];

	if (octets.len >= 3 && memcmp(octets.data, "\xef\xbb\xbf", 3) == 0) {
		octets.data += 3;
		octets.len -= 3;
	}
	octets = without_cut_character(octets);
	while (octets.len > 0) {
		const size_t n = text_plain_len(octets);

		if (n > 0) {
			bytes_put(text, octets.data, n);
			octets.data += n;
			octets.len -= n;
		} else {
			bytes_put(text, buffer, text_encode(text_next(&octets), buffer));
		}
	}
}

/* UTF-16 and UTF-32 without a byte order mark: RFC 2781 section 4.3 says big-endian, programs say
 * either. In most scripts the octet that is often 0 tells. */
static const char *byte_order(const char *charset, struct span octets)
{
	size_t n_zeros[2] = {0};
	const bool is_utf16 = strcmp(charset, "UTF-16") == 0;

	if (!is_utf16 && strcmp(charset, "UTF-32") != 0) {
		return charset;
	}
	if (octets.len >= 2 &&
		(memcmp(octets.data, "\xff\xfe", 2) == 0 ||
			memcmp(octets.data, "\xfe\xff", 2) == 0 ||
			memcmp(octets.data, "\0", 2) == 0)) {
		return charset;
	}
	for (size_t i = 0; i < octets.len && i < 512; i++) {
		n_zeros[i % 2] += octets.data[i] == 0;
	}
	if (n_zeros[1] > n_zeros[0]) {
		return is_utf16 ? "UTF-16LE" : "UTF-32LE";
	}
	return is_utf16 ? "UTF-16BE" : "UTF-32BE";
}

static void put_replacement(struct bytes *text)
{
	bytes_put_str(text, "\xef\xbf\xbd");
}

static void convert(iconv_t descriptor, struct span octets, size_t unit, struct bytes *text)
{
	char *in = (char *)(uintptr_t)octets.data;
	size_t in_len = octets.len;
	bool is_flushing = false;

	while (text->error == 0) {
		char *room = bytes_reserve(text, CHUNK);
		char *out = room;
		size_t out_len = CHUNK;
		size_t r;

		if (room == NULL) {
			return;
		}
		if (is_flushing) {
			iconv(descriptor, NULL, NULL, &out, &out_len);
			bytes_commit(text, CHUNK - out_len);
			return;
		}
		r = iconv(descriptor, &in, &in_len, &out, &out_len);
		bytes_commit(text, CHUNK - out_len);
		if (r != (size_t)-1 || errno == EINVAL) {
			is_flushing = true;
		} else if (errno == EILSEQ) {
			put_replacement(text);
			r = in_len < unit ? in_len : unit;
			in += r;
			in_len -= r;
		} else if (errno != E2BIG || out_len == CHUNK) {
			return;
		}
	}
}

/* false when iconv(3) has no such charset after all. */
static bool put_converted(struct bytes *text, const char *charset, struct span octets)
{
	const iconv_t descriptor = iconv_open("UTF-8", byte_order(charset, octets));
	const size_t unit = strncmp(charset, "UTF-16", 6) == 0 ? 2
		: strncmp(charset, "UTF-32", 6) == 0           ? 4
							       : 1;

	if (descriptor == (iconv_t)-1) {
		return false;
	}
	convert(descriptor, octets, unit, text);
	iconv_close(descriptor);
	return true;
}

void mime_charset_put(struct bytes *text, struct span name, struct span octets)
{
	const char *charset = find_charset(name);

	if (octets.len == 0) {
		return;
	}
	/* Without a charset, or with the name of a smaller one, UTF-8 is what is sent; but its good
	 * name is given to the others, too. */
	if (charset == NULL || strcmp(charset, "UTF-8") == 0) {
		if (text_is_utf8(octets) || has_utf8_character(octets)) {
			put_utf8(text, octets);
			return;
		}
		charset = FALLBACK;
	}
	if (!put_converted(text, charset, octets) &&
		(text_is_utf8(octets) || !put_converted(text, FALLBACK, octets))) {
		put_utf8(text, octets);
	}
}
