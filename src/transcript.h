/* What --trace-imap writes: the engines' traces, each line with the connection that it is of, since
 * all of them go to one file.
 */
#pragma once

#include "util/bytes.h"

/* Writes the lines "C: ..." and "S: ..." as "ACCOUNT#NUMBER C: ..." to fd and empties the trace.
 * What cannot be written is lost. */
void transcript_write(struct bytes *trace, int fd, const char *account, unsigned int number);
