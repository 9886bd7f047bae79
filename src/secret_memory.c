#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "secret_memory.h"

/* One octet more than is allowed, by which too much is noticed; after that it holds the NUL. */
#define MAPPED (SECRET_MEMORY_SIZE + 1)

int secret_memory_init(struct secret_memory *memory)
{
	void *data = mmap(NULL, MAPPED, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (data == MAP_FAILED) {
		return -ENOMEM;
	}
	/* As far as the kernel and the limits allow; few pages of it are ever touched. */
	(void)madvise(data, MAPPED, MADV_DONTDUMP);
	(void)madvise(data, MAPPED, MADV_DONTFORK);
	(void)mlock2(data, MAPPED, MLOCK_ONFAULT);
	*memory = (struct secret_memory){.data = data};
	return 0;
}

static void wipe(struct secret_memory *memory, size_t from)
{
	if (memory->len > from) {
		explicit_bzero(memory->data + from, memory->len - from);
		memory->len = from;
	}
}

void secret_memory_done(struct secret_memory *memory)
{
	if (memory->data) {
		wipe(memory, 0);
		munmap(memory->data, MAPPED);
	}
	*memory = (struct secret_memory){0};
}

int secret_memory_read(struct secret_memory *memory, int fd)
{
	ssize_t n;
	do {
		n = read(fd, memory->data + memory->len, MAPPED - memory->len);
	} while (n < 0 && errno == EINTR);
	if (n < 0) {
		return -errno;
	}
	memory->len += (size_t)n;
	return memory->len > SECRET_MEMORY_SIZE ? -EFBIG : (int)n;
}

int secret_memory_cut_line(struct secret_memory *memory)
{
	const char *end = memory->len > 0 ? memchr(memory->data, '\n', memory->len) : NULL;
	size_t len = end ? (size_t)(end - memory->data) : memory->len;
	if (end && len > 0 && memory->data[len - 1] == '\r') {
		len--;
	}
	wipe(memory, len);
	if (len == 0) {
		return -ENODATA;
	}
	if (memchr(memory->data, '\0', len)) {
		return -EBADMSG;
	}
	memory->data[len] = '\0';
	return 0;
}
