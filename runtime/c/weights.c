/* weights.c: the weights are mapped from their file, never copied.
 *
 * The artifact's writer puts large weights on a multiple of 2 MB of their file. They are mapped at
 * a multiple of 2 MB too and huge pages advised, so that a kernel that can use huge or large pages
 * for this file does. */

#define _GNU_SOURCE
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define HUGE_PAGE ((int64_t)2 << 20)

static int refuse(const char *path, const char *what, const char *label, long long found)
{
    return rt_fail(NULL, RT_E_WEIGHTS, "%s\n  file: %.500s\n  %s: %lld", what, path, label, found);
}

/* Map bytes of a file from offset, a multiple of the page size. Large ones go to an address that is
 * offset modulo 2 MB: reserve more than is needed, map over its middle, give the rest back. */
static char *map_file(int file, int64_t offset, int64_t bytes)
{
    if (bytes < HUGE_PAGE)
        return mmap(NULL, (size_t)bytes, PROT_READ, MAP_PRIVATE, file, (off_t)offset);
    int64_t room = bytes + HUGE_PAGE;
    char *base = mmap(NULL, (size_t)room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED)
        return base;
    int64_t head = (offset - (int64_t)(uintptr_t)base) & (HUGE_PAGE - 1);
    char *map = mmap(base + head, (size_t)bytes, PROT_READ, MAP_PRIVATE | MAP_FIXED, file,
                     (off_t)offset);
    if (map == MAP_FAILED) {
        int error = errno;
        munmap(base, (size_t)room);
        errno = error;
        return map;
    }
    int64_t page = sysconf(_SC_PAGESIZE);
    int64_t end = head + (bytes + page - 1) / page * page;
    if (head)
        munmap(base, (size_t)head);
    if (room > end)
        munmap(base + end, (size_t)(room - end));
#ifdef MADV_HUGEPAGE
    (void)madvise(map, (size_t)bytes, MADV_HUGEPAGE); /* advice: may be refused */
#endif
    return map;
}

/* The file may be a zip: the offset need not be on a page, but the mapping must start on one. */
static int map_open_file(rt_session *session, int file, const char *path, int64_t offset)
{
    struct stat status;
    int64_t bytes = session->model->info.weights_bytes;
    if (fstat(file, &status))
        return refuse(path, "cannot look at the weights file", "errno", errno);
    if (offset < 0 || offset > status.st_size || bytes > status.st_size - offset)
        return refuse(path, "the weights file is too short", "bytes missing",
                      (long long)(bytes - (status.st_size - offset)));
    int64_t skip = offset % sysconf(_SC_PAGESIZE);
    char *map = map_file(file, offset - skip, bytes + skip);
    if (map == MAP_FAILED)
        return refuse(path, "cannot map the weights", "errno", errno);
    session->map = map;
    session->map_bytes = bytes + skip;
    session->mapped = map + skip;
    return 0;
}

int rt_map_weights(rt_session *session, const char *path, int64_t offset)
{
    if (session->model->info.weights_bytes == 0)
        return 0;
    if (!path)
        return refuse("(none)", "the model has weights, but no file was given", "bytes",
                      (long long)session->model->info.weights_bytes);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return refuse(path, "cannot open the weights file", "errno", errno);
    int code = map_open_file(session, file, path, offset);
    close(file);
    return code;
}

void rt_unmap_weights(rt_session *session)
{
    if (session->map)
        munmap(session->map, (size_t)session->map_bytes);
    session->map = NULL;
}
