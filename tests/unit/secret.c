/* Secrets from commands, files and credentials; and that nothing is left of what was started. */
#include <dirent.h>
#include <errno.h>
#include <ev.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "secret.h"
#include "secret_command.h"
#include "util/clock.h"

/* cmocka needs the headers above. */
#include <cmocka.h>

static char folder[PATH_MAX];
static char fifo[PATH_MAX + 16];
static char file[PATH_MAX + 32];

static struct ev_loop *loop; /* not the default one, which reaps children */
static struct turn *turn;
static struct task owner;
static bool is_woken;

static void wake_up(struct task *task)
{
	(void)task;
	is_woken = true;
	ev_break(loop, EVBREAK_ALL);
}

static int set_up(void **state)
{
	(void)state;
	const char *base = getenv("TMPDIR");
	snprintf(folder, sizeof(folder), "%s/mailidle-secret-XXXXXX", base ? base : P_tmpdir);
	if (!mkdtemp(folder)) {
		return -1;
	}
	snprintf(fifo, sizeof(fifo), "%s/fifo", folder);
	snprintf(file, sizeof(file), "%s/mailidle.a", folder);
	unsetenv("CREDENTIALS_DIRECTORY");
	loop = ev_loop_new(EVFLAG_AUTO);
	if (!loop || turn_new(loop, &turn) < 0) {
		return -1;
	}
	task_init(&owner, turn, wake_up);
	return mkfifo(fifo, 0600);
}

static int tear_down(void **state)
{
	(void)state;
	task_done(&owner);
	turn_free(turn);
	ev_loop_destroy(loop);
	unlink(fifo);
	unlink(file);
	return rmdir(folder);
}

static struct config_account account_with(char *password_command)
{
	return (struct config_account){
		.name = (char *)"a",
		.auth = (char *)"auto",
		.password_command = password_command,
	};
}

static struct secret *begin(const struct config_account *account)
{
	struct secret *secret = NULL;
	is_woken = false;
	assert_int_equal(secret_new(turn, &owner, account, &secret), 0);
	assert_non_null(secret);
	assert_false(is_woken);
	return secret;
}

static struct secret *fetch(const struct config_account *account)
{
	struct secret *secret = begin(account);
	ev_run(loop, 0);
	assert_true(is_woken);
	assert_int_not_equal(secret_state(secret), SECRET_PENDING);
	return secret;
}

static void assert_no_children(void)
{
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
}

static void expect_secret(const struct config_account *account, const char *value)
{
	struct secret *secret = fetch(account);
	if (secret_state(secret) != SECRET_READY) {
		fail_msg("%s", secret_failure(secret)->text);
	}
	assert_string_equal(secret_value(secret), value);
	assert_no_children();
	assert_null(secret_free(secret));
}

static void expect_no_secret(const struct config_account *account, const char *text)
{
	struct secret *secret = fetch(account);
	assert_int_equal(secret_state(secret), SECRET_FAILED);
	assert_null(secret_value(secret));
	assert_int_equal(secret_failure(secret)->kind, FAILURE_AUTHENTICATION_FAILED);
	assert_string_equal(secret_failure(secret)->text, text);
	assert_no_children();
	assert_null(secret_free(secret));
}

static void expect_command(const char *command, const char *value)
{
	struct config_account account = account_with((char *)command);
	expect_secret(&account, value);
}

static void expect_bad_command(const char *command, const char *text)
{
	struct config_account account = account_with((char *)command);
	expect_no_secret(&account, text);
}

static void test_commands(void **state)
{
	(void)state;
	expect_command("echo sesame", "sesame");
	expect_command("printf sesame", "sesame");
	expect_command("printf 'open sesame \\nuser: jo\\n'", "open sesame ");
	expect_command("printf 'sesame\\r\\nurl\\r\\n'", "sesame");
	expect_command("printf 'se\\rsame\\r'", "se\rsame\r");
	expect_command("printf '\\303\\244\\n'", "ä");
	expect_command("printf se; exec >&-; sleep 0", "se");
	expect_command("printf se; sleep 0.05; echo same", "sesame");
	expect_command("cat; echo 'no input'", "no input");

	expect_bad_command("true", "password-command: the first line is empty");
	expect_bad_command("echo; echo sesame", "password-command: the first line is empty");
	expect_bad_command("printf '\\r\\n'", "password-command: the first line is empty");
	expect_bad_command(
		"printf 'a\\000b\\n'", "password-command: there is a NUL in the first line");
	expect_bad_command(
		"echo hunter2; echo hunter2 >&2; exit 1", "password-command exited with 1");
	expect_bad_command("echo hunter2; exit 255", "password-command exited with 255");
	expect_bad_command("exec /no/such/program", "password-command exited with 127");
	expect_bad_command(
		"echo hunter2; kill -TERM $$", "password-command was killed by signal 15");

	struct config_account account = account_with(NULL);
	account.token_command = (char *)"echo token";
	expect_secret(&account, "token");
	account.token_command = (char *)"exit 3";
	expect_no_secret(&account, "token-command exited with 3");
}

static void test_sizes(void **state)
{
	(void)state;
	char command[] = "head -c 65536 /dev/zero | tr '\\000' x";
	struct config_account account = account_with(command);
	struct secret *secret = fetch(&account);
	assert_int_equal(secret_state(secret), SECRET_READY);
	assert_int_equal(strlen(secret_value(secret)), 65536);
	secret_free(secret);
	expect_bad_command("head -c 65537 /dev/zero | tr '\\000' x",
		"password-command printed more than 64 KiB");
	expect_bad_command("head -c 1000000 /dev/zero | tr '\\000' x",
		"password-command printed more than 64 KiB");
	expect_bad_command("echo sesame; yes", "password-command printed more than 64 KiB");
}

/* What is written to the FIFO says that all is in place; its end, that all of those are gone that
 * had it open, which cannot be more than the killed. */
static int open_fifo(void)
{
	int fd = open(fifo, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static void wait_for_writers(int fd, size_t n)
{
	char c;
	while (n > 0) {
		struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
		assert_int_equal(poll(&poll_fd, 1, 30000), 1);
		ssize_t r = read(fd, &c, 1);
		n -= r == 1;
		assert_true(r >= 0 || errno == EAGAIN);
	}
}

static void assert_no_writers(int fd)
{
	char c;
	struct pollfd poll_fd = {.fd = fd};
	assert_int_equal(poll(&poll_fd, 1, 30000), 1);
	assert_true(poll_fd.revents & POLLHUP);
	assert_int_equal(read(fd, &c, 1), 0);
}

/* Three processes that would live on; nothing of it is ready before all have opened the FIFO. */
static char *family(const char *last)
{
	static char command[4 * PATH_MAX];
	snprintf(command, sizeof(command),
		"(exec 7>'%s'; printf 1 >&7; (trap '' TERM HUP; printf 2 >&7; sleep 600) & "
		"sleep 600) & exec 7>'%s'; printf 3 >&7; %s",
		fifo, fifo, last);
	return command;
}

static void test_hanging(void **state)
{
	(void)state;
	struct secret_memory memory = {0};
	struct secret_command *command = NULL;
	int fd = open_fifo();
	is_woken = false;
	assert_int_equal(secret_memory_init(&memory), 0);
	assert_int_equal(
		secret_command_new(turn, &owner, "password-command",
			family("echo hunter2; sleep 600"), USEC_PER_SEC, &memory, &command),
		0);
	wait_for_writers(fd, 3);
	assert_int_equal(secret_command_state(command), SECRET_PENDING);
	ev_run(loop, 0);
	assert_true(is_woken);
	assert_int_equal(secret_command_state(command), SECRET_FAILED);
	assert_string_equal(
		secret_command_failure(command)->text, "password-command took longer than 1 s");
	assert_no_children();
	assert_no_writers(fd);
	assert_null(secret_command_free(command));
	secret_memory_done(&memory);
	close(fd);
}

static void test_freed_while_running(void **state)
{
	(void)state;
	struct config_account account = account_with(family("sleep 600"));
	int fd = open_fifo();
	struct secret *secret = begin(&account);
	assert_int_equal(secret_state(secret), SECRET_PENDING);
	assert_null(secret_value(secret));
	wait_for_writers(fd, 3);
	assert_null(secret_free(secret));
	assert_no_children();
	assert_no_writers(fd);
	/* The owner is not woken by what is no more. */
	ev_run(loop, EVRUN_NOWAIT);
	assert_false(is_woken);
	close(fd);
	assert_null(secret_free(NULL));
}

/* A background process that holds the pipe open keeps nobody waiting, and goes too. */
static void test_left_in_background(void **state)
{
	(void)state;
	char last[PATH_MAX + 64];
	snprintf(last, sizeof(last), "cat '%s'; echo sesame", file);
	assert_int_equal(mkfifo(file, 0600), 0);
	struct config_account account = account_with(family(last));
	int fd = open_fifo();
	struct secret *secret = begin(&account);
	wait_for_writers(fd, 3);
	int ready = open(file, O_WRONLY | O_CLOEXEC); /* waits for cat, which then ends */
	assert_true(ready >= 0);
	close(ready);
	ev_run(loop, 0);
	assert_int_equal(secret_state(secret), SECRET_READY);
	assert_string_equal(secret_value(secret), "sesame");
	assert_no_children();
	assert_no_writers(fd);
	secret_free(secret);
	close(fd);
	assert_int_equal(unlink(file), 0);
}

static void test_surroundings(void **state)
{
	(void)state;
	static const char *const hidden[] = {
		"NOTIFY_SOCKET",
		"WATCHDOG_USEC",
		"WATCHDOG_PID",
		"LISTEN_FDS",
		"CREDENTIALS_DIRECTORY",
		"MAILIDLE_SOURCE",
	};
	for (size_t i = 0; i < sizeof(hidden) / sizeof(hidden[0]); i++) {
		setenv(hidden[i], "leaked", 1);
	}
	setenv("WATCHDOGS", "kept", 1);
	expect_command("env | grep -c leaked; echo $WATCHDOGS", "0");
	expect_command("echo $WATCHDOGS", "kept");
	for (size_t i = 0; i < sizeof(hidden) / sizeof(hidden[0]); i++) {
		unsetenv(hidden[i]);
	}
	unsetenv("WATCHDOGS");

	/* The fourth is the folder that ls reads. */
	int null_fd = open("/dev/null", O_RDONLY);
	assert_int_equal(dup2(null_fd, 123), 123);
	expect_command("ls /proc/self/fd | tr '\\n' ' '", "0 1 2 3 ");
	close(123);
	close(null_fd);

	sigset_t set;
	sigset_t before;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	assert_int_equal(sigprocmask(SIG_BLOCK, &set, &before), 0);
	assert_true(signal(SIGPIPE, SIG_IGN) != SIG_ERR);
	/* The C library keeps two of the signals above 31 to itself. */
	expect_command("blocked=$(sed -n 's/^SigBlk:.//p' /proc/self/status);"
		       "ignored=$(sed -n 's/^SigIgn:.//p' /proc/self/status);"
		       "echo $(( (0x$blocked | 0x$ignored) & 0x7fffffff ))",
		"0");
	assert_true(signal(SIGPIPE, SIG_DFL) != SIG_ERR);
	assert_int_equal(sigprocmask(SIG_SETMASK, &before, NULL), 0);

	expect_command("read -r _ _ _ _ group _ < /proc/$$/stat; echo $((group - $$))", "0");
	expect_command("readlink /proc/self/fd/0", "/dev/null");
}

static void write_file(const char *text, size_t len, mode_t mode)
{
	unlink(file);
	FILE *f = fopen(file, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(file, mode), 0);
}

static void test_files(void **state)
{
	(void)state;
	struct config_account account = account_with(NULL);
	account.password_file = file;
	write_file("sesame\nmore", 11, 0600);
	expect_secret(&account, "sesame");
	write_file("sesame", 6, 0400);
	expect_secret(&account, "sesame");
	write_file("sesame\r\n", 8, 0700);
	expect_secret(&account, "sesame");
	write_file("", 0, 0600);
	expect_no_secret(&account, "password-file: the first line is empty");
	write_file("a\0b", 3, 0600);
	expect_no_secret(&account, "password-file: there is a NUL in the first line");
	static const mode_t refused[] = {0640, 0604, 0620, 0601};
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		write_file("sesame", 6, refused[i]);
		expect_no_secret(&account,
			"password-file: group or others have rights to it (chmod 0600 takes them "
			"away)");
	}
	char *big = calloc(1, 65537);
	assert_non_null(big);
	memset(big, 'x', 65537);
	write_file(big, 65537, 0600);
	expect_no_secret(&account, "password-file: larger than 64 KiB");
	free(big);
	if (geteuid() == 0) { /* only root can make it somebody else's */
		write_file("sesame", 6, 0600);
		assert_int_equal(chown(file, 12345, 0), 0);
		expect_no_secret(&account, "password-file: belongs to another user");
	}

	char link_name[PATH_MAX + 16];
	snprintf(link_name, sizeof(link_name), "%s/link", folder);
	write_file("sesame", 6, 0600);
	assert_int_equal(symlink(file, link_name), 0);
	account.password_file = link_name;
	expect_secret(&account, "sesame");
	assert_int_equal(chmod(file, 0644), 0);
	expect_no_secret(&account,
		"password-file: group or others have rights to it (chmod 0600 takes them away)");
	assert_int_equal(unlink(link_name), 0);
	expect_no_secret(&account, "password-file: No such file or directory");
	account.password_file = folder;
	expect_no_secret(&account, "password-file: not a regular file");
	account.password_file = fifo; /* does not wait for a writer */
	expect_no_secret(&account, "password-file: not a regular file");
	assert_int_equal(unlink(file), 0);
}

static void test_file_changed(void **state)
{
	(void)state;
	struct config_account account = account_with(NULL);
	assert_int_equal(secret_file_changed_nsec(&account), 0);
	account.password_file = file;
	unlink(file);
	assert_int_equal(secret_file_changed_nsec(&account), 0);
	write_file("a", 1, 0600);
	const struct timespec times[2] = {{.tv_sec = 12}, {.tv_sec = 1700000000, .tv_nsec = 123}};
	assert_int_equal(utimensat(AT_FDCWD, file, times, 0), 0);
	assert_int_equal(secret_file_changed_nsec(&account), 1700000000000000123);
	assert_int_equal(unlink(file), 0);
}

static void test_credential(void **state)
{
	(void)state;
	struct config_account account = account_with(NULL);
	unlink(file);
	assert_int_equal(setenv("CREDENTIALS_DIRECTORY", folder, 1), 0);
	expect_no_secret(&account,
		"no password: there is no password-command, password-file, token-command or "
		"systemd credential");
	write_file("from systemd\n", 13, 0440); /* an ACL shows as the group's bits */
	expect_secret(&account, "from systemd");
	account.name = (char *)"b";
	expect_no_secret(&account,
		"no password: there is no password-command, password-file, token-command or "
		"systemd credential");
	account.name = (char *)"a";
	account.password_command = (char *)"echo 'from a command'";
	expect_secret(&account, "from a command");

	/* It is wanted where it is there, but for EXTERNAL. */
	struct config_account certified = account_with(NULL);
	certified.client_certificate = (char *)"/c";
	assert_true(secret_is_wanted(&certified));
	certified.auth = (char *)"EXTERNAL";
	assert_false(secret_is_wanted(&certified));
	assert_int_equal(unsetenv("CREDENTIALS_DIRECTORY"), 0);
	assert_int_equal(unlink(file), 0);
	certified.auth = (char *)"auto";
	assert_false(secret_is_wanted(&certified));
}

static void test_questions(void **state)
{
	(void)state;
	struct config_account account = account_with(NULL);
	assert_true(secret_is_wanted(&account));
	assert_false(secret_is_token(&account));
	account.proxy_command = (char *)"p";
	assert_true(secret_is_wanted(&account));
	account.security = CONFIG_SECURITY_PLAIN;
	assert_false(secret_is_wanted(&account));
	account.password_file = (char *)"/p";
	assert_true(secret_is_wanted(&account));

	account = account_with(NULL);
	account.client_certificate = (char *)"/c";
	assert_false(secret_is_wanted(&account));
	account.auth = (char *)"EXTERNAL";
	assert_false(secret_is_wanted(&account));
	account.auth = (char *)"PLAIN";
	assert_true(secret_is_wanted(&account));
	assert_false(secret_is_token(&account));
	account.auth = (char *)"login";
	assert_false(secret_is_token(&account));
	account.auth = (char *)"XOAUTH2";
	assert_true(secret_is_token(&account));

	account = account_with(NULL);
	account.token_command = (char *)"t";
	assert_true(secret_is_wanted(&account));
	assert_true(secret_is_token(&account));
}

/* The flags of the mapping that holds the address, as /proc/PID/smaps tells them. */
static void find_flags(const void *address, char *flags, size_t size)
{
	FILE *f = fopen("/proc/self/smaps", "r");
	assert_non_null(f);
	char line[PATH_MAX];
	bool is_inside = false;
	flags[0] = '\0';
	while (fgets(line, sizeof(line), f)) {
		unsigned long start;
		unsigned long end;
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2) {
			is_inside = (unsigned long)address >= start && (unsigned long)address < end;
		} else if (is_inside && strncmp(line, "VmFlags:", 8) == 0) {
			snprintf(flags, size, "%.500s", line);
		}
	}
	fclose(f);
}

static void test_memory(void **state)
{
	(void)state;
	static char command[] = "echo sesame; echo and more that nobody asked for";
	struct config_account account = account_with(command);
	struct secret *secret = fetch(&account);
	const char *value = secret_value(secret);
	assert_string_equal(value, "sesame");
	for (size_t i = strlen(value); i < 64; i++) {
		assert_int_equal(value[i], 0);
	}
	char flags[512];
	find_flags(value, flags, sizeof(flags));
	assert_non_null(strstr(flags, " dd")); /* not dumped */
	assert_non_null(strstr(flags, " dc")); /* not copied by fork */
	secret_free(secret);
	find_flags(value, flags, sizeof(flags));
	assert_null(strstr(flags, " dd"));
}

static int count_descriptors(void)
{
	int n = 0;
	DIR *dir = opendir("/proc/self/fd");
	assert_non_null(dir);
	while (readdir(dir)) {
		n++;
	}
	closedir(dir);
	return n;
}

static void test_nothing_left(void **state)
{
	(void)state;
	expect_command("echo sesame", "sesame");
	int n = count_descriptors();
	for (int i = 0; i < 20; i++) {
		expect_command("echo sesame", "sesame");
		expect_bad_command("exit 1", "password-command exited with 1");
	}
	assert_int_equal(count_descriptors(), n);
	assert_no_children();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_commands),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_hanging),
		cmocka_unit_test(test_freed_while_running),
		cmocka_unit_test(test_left_in_background),
		cmocka_unit_test(test_surroundings),
		cmocka_unit_test(test_files),
		cmocka_unit_test(test_file_changed),
		cmocka_unit_test(test_credential),
		cmocka_unit_test(test_questions),
		cmocka_unit_test(test_memory),
		cmocka_unit_test(test_nothing_left),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
