#include <gmime/gmime.h>
#include <stdlib.h>
#include <string.h>

#include "mime/header.h"

/* Beyond this nothing of a date is said. */
#define DATE_MAX    256

#define DAY_SECONDS 86400

/* RFC 5322 section 4.3: names of zones that say how far off they are, in minutes. */
static const struct {
	const char *name;
	int minutes;
} zones[] = {
	{"UT", 0},
	{"GMT", 0},
	{"EST", -300},
	{"EDT", -240},
	{"CST", -360},
	{"CDT", -300},
	{"MST", -420},
	{"MDT", -360},
	{"PST", -480},
	{"PDT", -420},
};

static const char months[][4] = {
	"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

struct date {
	int year;
	int month; /* 1 to 12 */
	int day;
	int hour;
	int minute;
	int second;
	int offset; /* minutes east of Greenwich */
};

static bool is_letter(uint8_t c)
{
	return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
}

static bool is_digit(uint8_t c)
{
	return c >= '0' && c <= '9';
}

static void advance(struct span *text, size_t n)
{
	text->data += n;
	text->len -= n;
}

/* White space and comments, which may stand within each other (RFC 5322 section 3.2.2). */
static void skip_cfws(struct span *text)
{
	size_t depth = 0;

	while (text->len > 0) {
		const uint8_t c = text->data[0];

		if (c == '(') {
			depth++;
		} else if (depth > 0 && c == ')') {
			depth--;
		} else if (depth > 0 && c == '\\' && text->len > 1) {
			advance(text, 1);
		} else if (depth == 0 && c != ' ' && (c < '\t' || c > '\r')) {
			return;
		}
		advance(text, 1);
	}
}

static bool take_char(struct span *text, char c)
{
	if (text->len == 0 || text->data[0] != c) {
		return false;
	}
	advance(text, 1);
	skip_cfws(text);
	return true;
}

/* A word of letters; empty when none is there. */
static struct span take_word(struct span *text)
{
	struct span word = {.data = text->data};

	while (word.len < text->len && is_letter(text->data[word.len])) {
		word.len++;
	}
	advance(text, word.len);
	skip_cfws(text);
	return word;
}

/* From one to max_digits digits. ret_n_digits may be NULL. */
static bool take_number(struct span *text, size_t max_digits, int *ret_number, size_t *ret_n_digits)
{
	int number = 0;
	size_t n = 0;

	while (n < text->len && is_digit(text->data[n])) {
		if (n == max_digits) {
			return false;
		}
		number = number * 10 + (text->data[n] - '0');
		n++;
	}
	if (n == 0) {
		return false;
	}
	advance(text, n);
	skip_cfws(text);
	*ret_number = number;
	if (ret_n_digits != NULL) {
		*ret_n_digits = n;
	}
	return true;
}

static bool take_month(struct span *text, int *ret_month)
{
	struct span word = take_word(text);

	if (word.len < 3) {
		return false;
	}
	word.len = 3; /* "June", "Sept" */
	for (size_t i = 0; i < sizeof(months) / sizeof(months[0]); i++) {
		if (span_equal_nocase(word, months[i])) {
			*ret_month = (int)i + 1;
			return true;
		}
	}
	return false;
}

/* RFC 5322 section 4.3: two digits are 1950 to 2049, three count from 1900. */
static bool take_year(struct span *text, int *ret_year)
{
	size_t n_digits;
	int year;

	if (!take_number(text, 4, &year, &n_digits) || n_digits < 2) {
		return false;
	}
	if (n_digits == 2 && year < 50) {
		year += 2000;
	} else if (n_digits < 4) {
		year += 1900;
	}
	*ret_year = year;
	return year >= 1900;
}

static bool take_time(struct span *text, struct date *date)
{
	date->second = 0;
	if (!take_number(text, 2, &date->hour, NULL) || !take_char(text, ':') ||
		!take_number(text, 2, &date->minute, NULL)) {
		return false;
	}
	if (take_char(text, ':') && !take_number(text, 2, &date->second, NULL)) {
		return false;
	}
	return date->hour < 24 && date->minute < 60 && date->second <= 60;
}

/* What is unknown or absurd stands for UTC, as "-0000" does. */
static int take_zone(struct span *text)
{
	const bool is_west = text->len > 0 && text->data[0] == '-';
	struct span word;
	size_t n_digits;
	int zone;

	if (is_west || (text->len > 0 && text->data[0] == '+')) {
		advance(text, 1);
		if (!take_number(text, 4, &zone, &n_digits) || n_digits != 4 || zone % 100 >= 60 ||
			zone >= 2400) {
			return 0;
		}
		zone = zone / 100 * 60 + zone % 100;
		return is_west ? -zone : zone;
	}
	word = take_word(text);
	for (size_t i = 0; i < sizeof(zones) / sizeof(zones[0]); i++) {
		if (span_equal_nocase(word, zones[i].name)) {
			return zones[i].minutes;
		}
	}
	return 0;
}

static bool is_leap(int year)
{
	return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static int days_of_month(int year, int month)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

	return month == 2 && is_leap(year) ? 29 : days[month - 1];
}

/* For years from 1 on. */
static int64_t days_since_1970(int year, int month, int day)
{
	const int before = year - 1;
	int64_t days = 365LL * before + before / 4 - before / 100 + before / 400;

	for (int m = 1; m < month; m++) {
		days += days_of_month(year, m);
	}
	return days + day - 1 - 719162; /* days from 0001-01-01 to 1970-01-01 */
}

/* RFC 5322 section 3.3, with the obsolete forms of 4.3, and without regard to the name of the day.
 */
static bool parse(struct span text, int64_t *ret_seconds)
{
	struct date date;

	skip_cfws(&text);
	take_word(&text);
	take_char(&text, ',');
	if (!take_number(&text, 2, &date.day, NULL) || !take_month(&text, &date.month) ||
		!take_year(&text, &date.year) || !take_time(&text, &date)) {
		return false;
	}
	date.offset = take_zone(&text);
	if (date.day < 1 || date.day > days_of_month(date.year, date.month)) {
		return false;
	}
	*ret_seconds = days_since_1970(date.year, date.month, date.day) * DAY_SECONDS +
		date.hour * 3600 + date.minute * 60 + date.second - date.offset * 60;
	return true;
}

/* What programs write that have not read the RFC: asctime(3) and the like. */
static bool parse_broken(struct span text, int64_t *ret_seconds)
{
	char *copy = span_dup(text);
	GDateTime *date;

	if (copy == NULL) {
		return false;
	}
	date = g_mime_utils_header_decode_date(copy);
	free(copy);
	if (date == NULL) {
		return false;
	}
	*ret_seconds = g_date_time_to_unix(date);
	g_date_time_unref(date);
	return true;
}

bool mime_date_parse(struct span raw, int64_t *ret_seconds)
{
	if (raw.len > DATE_MAX) {
		raw.len = DATE_MAX;
	}
	return parse(raw, ret_seconds) || parse_broken(raw, ret_seconds);
}
