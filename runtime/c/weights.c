/* weights.c: the weights are mapped from their file, never copied. */

#define _GNU_SOURCE
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int refuse(const char *path, const char *what, const char *label, long long found)
{
    return rt_fail(NULL, RT_E_WEIGHTS, "%s\n  file: %.500s\n  %s: %lld", what, path, label, found);
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
    void *map =
        mmap(NULL, (size_t)(bytes + skip), PROT_READ, MAP_PRIVATE, file, (off_t)(offset - skip));
    if (map == MAP_FAILED)
        return refuse(path, "cannot map the weights", "errno", errno);
    session->map = map;
    session->map_bytes = bytes + skip;
    session->weights = (const char *)map + skip;
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
