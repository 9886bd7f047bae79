#include "mime/entity.h"

#include <stdlib.h>
#include <string.h>

#include "util/text.h"

#define NAME_MAX_LEN 24

struct entity {
	const char *name;
	uint16_t character;
	bool is_loose; /* known without a semicolon, too: those that were there before HTML 3 */
};

/* Sorted by name, as strcmp() does. HTML 4.01 section 24, and of HTML 5 the marks and the letters
 * of European languages. */
static const struct entity entities[] = {
	{"AElig", 0x00c6, true},
	{"AMP", 0x0026, true},
	{"Aacute", 0x00c1, true},
	{"Abreve", 0x0102, false},
	{"Acirc", 0x00c2, true},
	{"Agrave", 0x00c0, true},
	{"Alpha", 0x0391, false},
	{"Amacr", 0x0100, false},
	{"Aogon", 0x0104, false},
	{"Aring", 0x00c5, true},
	{"Atilde", 0x00c3, true},
	{"Auml", 0x00c4, true},
	{"Beta", 0x0392, false},
	{"COPY", 0x00a9, true},
	{"Cacute", 0x0106, false},
	{"Ccaron", 0x010c, false},
	{"Ccedil", 0x00c7, true},
	{"Ccirc", 0x0108, false},
	{"Cdot", 0x010a, false},
	{"Chi", 0x03a7, false},
	{"Dagger", 0x2021, false},
	{"Dcaron", 0x010e, false},
	{"Delta", 0x0394, false},
	{"Dstrok", 0x0110, false},
	{"ETH", 0x00d0, true},
	{"Eacute", 0x00c9, true},
	{"Ecaron", 0x011a, false},
	{"Ecirc", 0x00ca, true},
	{"Edot", 0x0116, false},
	{"Egrave", 0x00c8, true},
	{"Emacr", 0x0112, false},
	{"Eogon", 0x0118, false},
	{"Epsilon", 0x0395, false},
	{"Eta", 0x0397, false},
	{"Euml", 0x00cb, true},
	{"GT", 0x003e, true},
	{"Gamma", 0x0393, false},
	{"Gbreve", 0x011e, false},
	{"Gcirc", 0x011c, false},
	{"Gdot", 0x0120, false},
	{"Hat", 0x005e, false},
	{"Hcirc", 0x0124, false},
	{"Hstrok", 0x0126, false},
	{"Iacute", 0x00cd, true},
	{"Icirc", 0x00ce, true},
	{"Idot", 0x0130, false},
	{"Igrave", 0x00cc, true},
	{"Imacr", 0x012a, false},
	{"Iogon", 0x012e, false},
	{"Iota", 0x0399, false},
	{"Itilde", 0x0128, false},
	{"Iuml", 0x00cf, true},
	{"Jcirc", 0x0134, false},
	{"Kappa", 0x039a, false},
	{"Kcedil", 0x0136, false},
	{"LT", 0x003c, true},
	{"Lacute", 0x0139, false},
	{"Lambda", 0x039b, false},
	{"Lcaron", 0x013d, false},
	{"Lcedil", 0x013b, false},
	{"Lstrok", 0x0141, false},
	{"Mu", 0x039c, false},
	{"Nacute", 0x0143, false},
	{"Ncaron", 0x0147, false},
	{"Ncedil", 0x0145, false},
	{"NewLine", 0x000a, false},
	{"NoBreak", 0x2060, false},
	{"NonBreakingSpace", 0x00a0, false},
	{"Ntilde", 0x00d1, true},
	{"Nu", 0x039d, false},
	{"OElig", 0x0152, false},
	{"Oacute", 0x00d3, true},
	{"Ocirc", 0x00d4, true},
	{"Odblac", 0x0150, false},
	{"Ograve", 0x00d2, true},
	{"Omacr", 0x014c, false},
	{"Omega", 0x03a9, false},
	{"Omicron", 0x039f, false},
	{"Oslash", 0x00d8, true},
	{"Otilde", 0x00d5, true},
	{"Ouml", 0x00d6, true},
	{"Phi", 0x03a6, false},
	{"Pi", 0x03a0, false},
	{"Prime", 0x2033, false},
	{"Psi", 0x03a8, false},
	{"QUOT", 0x0022, true},
	{"REG", 0x00ae, true},
	{"Racute", 0x0154, false},
	{"Rcaron", 0x0158, false},
	{"Rho", 0x03a1, false},
	{"Sacute", 0x015a, false},
	{"Scaron", 0x0160, false},
	{"Scedil", 0x015e, false},
	{"Scirc", 0x015c, false},
	{"Sigma", 0x03a3, false},
	{"THORN", 0x00de, true},
	{"Tab", 0x0009, false},
	{"Tau", 0x03a4, false},
	{"Tcaron", 0x0164, false},
	{"Tcedil", 0x0162, false},
	{"Theta", 0x0398, false},
	{"Tstrok", 0x0166, false},
	{"Uacute", 0x00da, true},
	{"Ubreve", 0x016c, false},
	{"Ucirc", 0x00db, true},
	{"Udblac", 0x0170, false},
	{"Ugrave", 0x00d9, true},
	{"Umacr", 0x016a, false},
	{"Uogon", 0x0172, false},
	{"Upsilon", 0x03a5, false},
	{"Uring", 0x016e, false},
	{"Utilde", 0x0168, false},
	{"Uuml", 0x00dc, true},
	{"Wcirc", 0x0174, false},
	{"Xi", 0x039e, false},
	{"Yacute", 0x00dd, true},
	{"Ycirc", 0x0176, false},
	{"Yuml", 0x0178, false},
	{"Zacute", 0x0179, false},
	{"Zcaron", 0x017d, false},
	{"Zdot", 0x017b, false},
	{"ZeroWidthSpace", 0x200b, false},
	{"Zeta", 0x0396, false},
	{"aacute", 0x00e1, true},
	{"abreve", 0x0103, false},
	{"acirc", 0x00e2, true},
	{"acute", 0x00b4, true},
	{"aelig", 0x00e6, true},
	{"agrave", 0x00e0, true},
	{"alefsym", 0x2135, false},
	{"alpha", 0x03b1, false},
	{"amacr", 0x0101, false},
	{"amp", 0x0026, true},
	{"and", 0x2227, false},
	{"ang", 0x2220, false},
	{"aogon", 0x0105, false},
	{"apos", 0x0027, false},
	{"aring", 0x00e5, true},
	{"ast", 0x002a, false},
	{"asymp", 0x2248, false},
	{"atilde", 0x00e3, true},
	{"auml", 0x00e4, true},
	{"bdquo", 0x201e, false},
	{"beta", 0x03b2, false},
	{"bigstar", 0x2605, false},
	{"blacksquare", 0x25aa, false},
	{"brvbar", 0x00a6, true},
	{"bsol", 0x005c, false},
	{"bull", 0x2022, false},
	{"cacute", 0x0107, false},
	{"cap", 0x2229, false},
	{"caret", 0x2041, false},
	{"ccaron", 0x010d, false},
	{"ccedil", 0x00e7, true},
	{"ccirc", 0x0109, false},
	{"cdot", 0x010b, false},
	{"cedil", 0x00b8, true},
	{"cent", 0x00a2, true},
	{"check", 0x2713, false},
	{"checkmark", 0x2713, false},
	{"chi", 0x03c7, false},
	{"cir", 0x25cb, false},
	{"circ", 0x02c6, false},
	{"clubs", 0x2663, false},
	{"colon", 0x003a, false},
	{"comma", 0x002c, false},
	{"commat", 0x0040, false},
	{"cong", 0x2245, false},
	{"copy", 0x00a9, true},
	{"copysr", 0x2117, false},
	{"crarr", 0x21b5, false},
	{"cross", 0x2717, false},
	{"cup", 0x222a, false},
	{"curren", 0x00a4, true},
	{"dArr", 0x21d3, false},
	{"dagger", 0x2020, false},
	{"darr", 0x2193, false},
	{"dash", 0x2010, false},
	{"dcaron", 0x010f, false},
	{"deg", 0x00b0, true},
	{"delta", 0x03b4, false},
	{"diams", 0x2666, false},
	{"divide", 0x00f7, true},
	{"dollar", 0x0024, false},
	{"dstrok", 0x0111, false},
	{"dtri", 0x25bf, false},
	{"dtrif", 0x25be, false},
	{"eacute", 0x00e9, true},
	{"ecaron", 0x011b, false},
	{"ecirc", 0x00ea, true},
	{"edot", 0x0117, false},
	{"egrave", 0x00e8, true},
	{"emacr", 0x0113, false},
	{"empty", 0x2205, false},
	{"emsp", 0x2003, false},
	{"emsp13", 0x2004, false},
	{"emsp14", 0x2005, false},
	{"ensp", 0x2002, false},
	{"eogon", 0x0119, false},
	{"epsilon", 0x03b5, false},
	{"equals", 0x003d, false},
	{"equiv", 0x2261, false},
	{"eta", 0x03b7, false},
	{"eth", 0x00f0, true},
	{"euml", 0x00eb, true},
	{"euro", 0x20ac, false},
	{"excl", 0x0021, false},
	{"exist", 0x2203, false},
	{"female", 0x2640, false},
	{"flat", 0x266d, false},
	{"fnof", 0x0192, false},
	{"forall", 0x2200, false},
	{"frac12", 0x00bd, true},
	{"frac13", 0x2153, false},
	{"frac14", 0x00bc, true},
	{"frac15", 0x2155, false},
	{"frac18", 0x215b, false},
	{"frac23", 0x2154, false},
	{"frac25", 0x2156, false},
	{"frac34", 0x00be, true},
	{"frac38", 0x215c, false},
	{"frac58", 0x215d, false},
	{"frac78", 0x215e, false},
	{"frasl", 0x2044, false},
	{"gamma", 0x03b3, false},
	{"gbreve", 0x011f, false},
	{"gcirc", 0x011d, false},
	{"gdot", 0x0121, false},
	{"ge", 0x2265, false},
	{"grave", 0x0060, false},
	{"gt", 0x003e, true},
	{"hArr", 0x21d4, false},
	{"hairsp", 0x200a, false},
	{"half", 0x00bd, false},
	{"harr", 0x2194, false},
	{"hcirc", 0x0125, false},
	{"hearts", 0x2665, false},
	{"hellip", 0x2026, false},
	{"horbar", 0x2015, false},
	{"hstrok", 0x0127, false},
	{"hyphen", 0x2010, false},
	{"iacute", 0x00ed, true},
	{"icirc", 0x00ee, true},
	{"iexcl", 0x00a1, true},
	{"igrave", 0x00ec, true},
	{"imacr", 0x012b, false},
	{"image", 0x2111, false},
	{"imath", 0x0131, false},
	{"infin", 0x221e, false},
	{"inodot", 0x0131, false},
	{"int", 0x222b, false},
	{"iogon", 0x012f, false},
	{"iota", 0x03b9, false},
	{"iquest", 0x00bf, true},
	{"isin", 0x2208, false},
	{"itilde", 0x0129, false},
	{"iuml", 0x00ef, true},
	{"jcirc", 0x0135, false},
	{"kappa", 0x03ba, false},
	{"kcedil", 0x0137, false},
	{"lArr", 0x21d0, false},
	{"lacute", 0x013a, false},
	{"lambda", 0x03bb, false},
	{"lang", 0x2329, false},
	{"laquo", 0x00ab, true},
	{"larr", 0x2190, false},
	{"lbrace", 0x007b, false},
	{"lbrack", 0x005b, false},
	{"lcaron", 0x013e, false},
	{"lcedil", 0x013c, false},
	{"lceil", 0x2308, false},
	{"lcub", 0x007b, false},
	{"ldquo", 0x201c, false},
	{"ldquor", 0x201e, false},
	{"le", 0x2264, false},
	{"lfloor", 0x230a, false},
	{"lowast", 0x2217, false},
	{"lowbar", 0x005f, false},
	{"loz", 0x25ca, false},
	{"lpar", 0x0028, false},
	{"lrm", 0x200e, false},
	{"lsaquo", 0x2039, false},
	{"lsqb", 0x005b, false},
	{"lsquo", 0x2018, false},
	{"lsquor", 0x201a, false},
	{"lstrok", 0x0142, false},
	{"lt", 0x003c, true},
	{"ltrif", 0x25c2, false},
	{"macr", 0x00af, true},
	{"male", 0x2642, false},
	{"malt", 0x2720, false},
	{"mdash", 0x2014, false},
	{"micro", 0x00b5, true},
	{"middot", 0x00b7, true},
	{"minus", 0x2212, false},
	{"mldr", 0x2026, false},
	{"mu", 0x03bc, false},
	{"nabla", 0x2207, false},
	{"nacute", 0x0144, false},
	{"natural", 0x266e, false},
	{"nbsp", 0x00a0, true},
	{"ncaron", 0x0148, false},
	{"ncedil", 0x0146, false},
	{"ndash", 0x2013, false},
	{"ne", 0x2260, false},
	{"ni", 0x220b, false},
	{"nldr", 0x2025, false},
	{"not", 0x00ac, true},
	{"notin", 0x2209, false},
	{"nsub", 0x2284, false},
	{"ntilde", 0x00f1, true},
	{"nu", 0x03bd, false},
	{"num", 0x0023, false},
	{"numero", 0x2116, false},
	{"numsp", 0x2007, false},
	{"oacute", 0x00f3, true},
	{"ocirc", 0x00f4, true},
	{"odblac", 0x0151, false},
	{"oelig", 0x0153, false},
	{"ograve", 0x00f2, true},
	{"oline", 0x203e, false},
	{"omacr", 0x014d, false},
	{"omega", 0x03c9, false},
	{"omicron", 0x03bf, false},
	{"oplus", 0x2295, false},
	{"or", 0x2228, false},
	{"ordf", 0x00aa, true},
	{"ordm", 0x00ba, true},
	{"oslash", 0x00f8, true},
	{"otilde", 0x00f5, true},
	{"otimes", 0x2297, false},
	{"ouml", 0x00f6, true},
	{"para", 0x00b6, true},
	{"part", 0x2202, false},
	{"percnt", 0x0025, false},
	{"period", 0x002e, false},
	{"permil", 0x2030, false},
	{"perp", 0x22a5, false},
	{"phi", 0x03c6, false},
	{"phone", 0x260e, false},
	{"pi", 0x03c0, false},
	{"piv", 0x03d6, false},
	{"plus", 0x002b, false},
	{"plusmn", 0x00b1, true},
	{"pound", 0x00a3, true},
	{"prime", 0x2032, false},
	{"prod", 0x220f, false},
	{"prop", 0x221d, false},
	{"psi", 0x03c8, false},
	{"puncsp", 0x2008, false},
	{"quest", 0x003f, false},
	{"quot", 0x0022, true},
	{"rArr", 0x21d2, false},
	{"racute", 0x0155, false},
	{"radic", 0x221a, false},
	{"rang", 0x232a, false},
	{"raquo", 0x00bb, true},
	{"rarr", 0x2192, false},
	{"rbrace", 0x007d, false},
	{"rbrack", 0x005d, false},
	{"rcaron", 0x0159, false},
	{"rceil", 0x2309, false},
	{"rcub", 0x007d, false},
	{"rdquo", 0x201d, false},
	{"real", 0x211c, false},
	{"reg", 0x00ae, true},
	{"rfloor", 0x230b, false},
	{"rho", 0x03c1, false},
	{"rlm", 0x200f, false},
	{"rpar", 0x0029, false},
	{"rsaquo", 0x203a, false},
	{"rsqb", 0x005d, false},
	{"rsquo", 0x2019, false},
	{"rtrif", 0x25b8, false},
	{"sacute", 0x015b, false},
	{"sbquo", 0x201a, false},
	{"scaron", 0x0161, false},
	{"scedil", 0x015f, false},
	{"scirc", 0x015d, false},
	{"sdot", 0x22c5, false},
	{"sect", 0x00a7, true},
	{"semi", 0x003b, false},
	{"sext", 0x2736, false},
	{"sharp", 0x266f, false},
	{"shy", 0x00ad, true},
	{"sigma", 0x03c3, false},
	{"sigmaf", 0x03c2, false},
	{"sim", 0x223c, false},
	{"sol", 0x002f, false},
	{"spades", 0x2660, false},
	{"squ", 0x25a1, false},
	{"square", 0x25a1, false},
	{"squf", 0x25aa, false},
	{"star", 0x2606, false},
	{"starf", 0x2605, false},
	{"sub", 0x2282, false},
	{"sube", 0x2286, false},
	{"sum", 0x2211, false},
	{"sung", 0x266a, false},
	{"sup", 0x2283, false},
	{"sup1", 0x00b9, true},
	{"sup2", 0x00b2, true},
	{"sup3", 0x00b3, true},
	{"supe", 0x2287, false},
	{"szlig", 0x00df, true},
	{"tau", 0x03c4, false},
	{"tcaron", 0x0165, false},
	{"tcedil", 0x0163, false},
	{"there4", 0x2234, false},
	{"theta", 0x03b8, false},
	{"thetasym", 0x03d1, false},
	{"thinsp", 0x2009, false},
	{"thorn", 0x00fe, true},
	{"tilde", 0x02dc, false},
	{"times", 0x00d7, true},
	{"trade", 0x2122, false},
	{"tstrok", 0x0167, false},
	{"uArr", 0x21d1, false},
	{"uacute", 0x00fa, true},
	{"uarr", 0x2191, false},
	{"ubreve", 0x016d, false},
	{"ucirc", 0x00fb, true},
	{"udblac", 0x0171, false},
	{"ugrave", 0x00f9, true},
	{"umacr", 0x016b, false},
	{"uml", 0x00a8, true},
	{"uogon", 0x0173, false},
	{"upsih", 0x03d2, false},
	{"upsilon", 0x03c5, false},
	{"uring", 0x016f, false},
	{"utilde", 0x0169, false},
	{"utri", 0x25b5, false},
	{"utrif", 0x25b4, false},
	{"uuml", 0x00fc, true},
	{"verbar", 0x007c, false},
	{"vert", 0x007c, false},
	{"wcirc", 0x0175, false},
	{"weierp", 0x2118, false},
	{"xi", 0x03be, false},
	{"yacute", 0x00fd, true},
	{"ycirc", 0x0177, false},
	{"yen", 0x00a5, true},
	{"yuml", 0x00ff, true},
	{"zacute", 0x017a, false},
	{"zcaron", 0x017e, false},
	{"zdot", 0x017c, false},
	{"zeta", 0x03b6, false},
	{"zwj", 0x200d, false},
	{"zwnj", 0x200c, false},
};

/* What stands for 0x80 to 0x9f, the controls of Latin-1: windows-1252 was meant (HTML, section
 * 13.2.5.80). 0: nothing is known. */
static const uint16_t windows[32] = {
	0x20ac, 0, 0x201a, 0x0192, 0x201e, 0x2026, 0x2020, 0x2021, /* 80 */
	0x02c6, 0x2030, 0x0160, 0x2039, 0x0152, 0, 0x017d, 0,      /* 88 */
	0, 0x2018, 0x2019, 0x201c, 0x201d, 0x2022, 0x2013, 0x2014, /* 90 */
	0x02dc, 0x2122, 0x0161, 0x203a, 0x0153, 0, 0x017e, 0x0178, /* 98 */
};

static int compare_name(const void *name, const void *entity)
{
	return strcmp(name, ((const struct entity *)entity)->name);
}

static int digit_value(uint8_t c, unsigned int base)
{
	int value = -1;

	if (c >= '0' && c <= '9') {
		value = c - '0';
	} else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f') {
		value = (c | 0x20) - 'a' + 10;
	}
	return value < (int)base ? value : -1;
}

/* "#65;" and "#x41;"; the number stops to grow where no character has it any more. */
static size_t read_number(struct span text, uint32_t *ret_character)
{
	size_t at = 1;
	unsigned int base = 10;
	uint32_t c = 0;
	size_t start;

	if (text.len > at && (text.data[at] | 0x20) == 'x') {
		base = 16;
		at++;
	}
	start = at;
	while (at < text.len && digit_value(text.data[at], base) >= 0) {
		if (c <= 0x10ffff) {
			c = c * base + (uint32_t)digit_value(text.data[at], base);
		}
		at++;
	}
	if (at == start) {
		return 0;
	}
	if (at < text.len && text.data[at] == ';') {
		at++;
	}
	if (c >= 0x80 && c < 0xa0) {
		c = windows[c - 0x80];
	}
	if (c == 0 || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff)) {
		c = TEXT_INVALID;
	}
	*ret_character = c;
	return at;
}

static bool is_name_character(uint8_t c)
{
	return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
}

size_t mime_entity_read(struct span text, uint32_t *ret_character)
{
	char name[NAME_MAX_LEN];
	size_t len = 0;
	const struct entity *entity;
	bool has_semicolon;

	if (text.len > 0 && text.data[0] == '#') {
		return read_number(text, ret_character);
	}
	while (len < text.len && is_name_character(text.data[len])) {
		if (len == sizeof(name) - 1) {
			return 0;
		}
		name[len] = (char)text.data[len];
		len++;
	}
	name[len] = '\0';
	entity = bsearch(name, entities, sizeof(entities) / sizeof(entities[0]),
		sizeof(entities[0]), compare_name);
	has_semicolon = len < text.len && text.data[len] == ';';
	if (entity == NULL || !(has_semicolon || entity->is_loose)) {
		return 0;
	}
	*ret_character = entity->character;
	return has_semicolon ? len + 1 : len;
}
