/* HTML as a person would read it aloud: no markup, and nothing that is not text. Reads on whatever
 * is there, as browsers do (HTML, section 13.2, in small): there is no malformed input. One pass,
 * linear time, no recursion. Does not know styles, so hidden text comes out; nothing is ever
 * loaded.
 */
#pragma once

#include "util/bytes.h"

/* Puts the text of html (UTF-8) to the back of text: block elements are lines, paragraphs are
 * parted by an empty one, items of lists begin with "- ", cells of a table are parted by a blank,
 * white space is folded but in <pre>; comments, scripts, styles, titles and images are left out.
 * Stops when some max_len octets were put. Fails as bytes do. */
void mime_html_put_text(struct bytes *text, struct span html, size_t max_len);

/* The charset that an HTML document says of itself in its first 1,024 octets; empty when it says
 * nothing. Points into html. */
struct span mime_html_charset(struct span html);
