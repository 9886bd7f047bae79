/* The schema of the database, and how older ones become this one: user_version counts the steps
 * that were taken, each in a transaction of its own, so that a kill in between leaves the database
 * at one of them. Part of state_file.
 */
#pragma once

#include <sqlite3.h>

enum state_verdict {
	STATE_VERDICT_GOOD,
	STATE_VERDICT_UNUSABLE, /* for now: no room, no right, ... */
	STATE_VERDICT_CORRUPT,
	STATE_VERDICT_NEWER,
};

/* Step n leads from user_version n to n + 1. */
extern const char *const state_schema_steps[];
extern const int state_schema_n_steps;

/* What a result code that is not SQLITE_OK says of the file. db: NULL when it could not be opened.
 * what: for the log. */
enum state_verdict state_schema_verdict(sqlite3 *db, int result, const char *what);

enum state_verdict state_schema_run(sqlite3 *db, const char *sql);

/* Whether pages and rows are sound. */
enum state_verdict state_schema_check(sqlite3 *db);

/* Takes the steps that are missing. NEWER: more were taken than there are. After anything but GOOD
 * the database is to be closed, which undoes the step that failed. */
enum state_verdict state_schema_migrate(sqlite3 *db, const char *const *steps, int n_steps);

/* Whether all tables and columns are there, whatever user_version says. */
enum state_verdict state_schema_probe(sqlite3 *db);
