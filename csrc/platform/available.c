/* available.c - what /proc/meminfo and the control group's files say about free memory.
 *
 * Why: a memfd has no size limit of its own, and fallocate() on one takes pages until none are
 * left; then the kernel does not fail the call but kills processes, ours and others'. So large
 * reservations ask first. Owns nothing.
 */
#include "platform/available.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Whole small text files. */
static bool
read_text(const char *path, char *text, size_t room)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    size_t n = 0;
    ssize_t got;
    while (n < room - 1 && (got = read(fd, text + n, room - 1 - n)) > 0) {
        n += (size_t)got;
    }
    close(fd);
    text[n] = '\0';
    return n > 0;
}

/* The number behind `name` where it begins a line; 0 when it is not there. */
static uint64_t
number_after(const char *text, const char *name)
{
    size_t length = strlen(name);
    for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, name, length) == 0) {
            return strtoull(line + length, NULL, 10);
        }
    }
    return 0;
}

static uint64_t
left_on_machine(void)
{
    char text[4096];
    if (!read_text("/proc/meminfo", text, sizeof(text))) {
        return UINT64_MAX;
    }
    return (number_after(text, "MemAvailable:") + number_after(text, "SwapFree:")) * 1024;
}

/* One control group's limit, and what of it is used by memory that cannot be dropped. */
static uint64_t
left_in_group(const char *folder, const char *limit_name, const char *used_name)
{
    char path[1024], text[8192];
    snprintf(path, sizeof(path), "%s/%s", folder, limit_name);
    if (!read_text(path, text, sizeof(text)) || text[0] < '0' || text[0] > '9') {
        return UINT64_MAX; /* no such group, or "max" */
    }
    uint64_t limit = strtoull(text, NULL, 10);
    snprintf(path, sizeof(path), "%s/%s", folder, used_name);
    if (!read_text(path, text, sizeof(text))) {
        return UINT64_MAX;
    }
    uint64_t used = strtoull(text, NULL, 10);
    snprintf(path, sizeof(path), "%s/memory.stat", folder);
    if (read_text(path, text, sizeof(text))) {
        uint64_t cache = number_after(text, "inactive_file ");
        uint64_t total = number_after(text, "total_inactive_file "); /* v1: of groups within too */
        cache = total > cache ? total : cache;
        used -= cache < used ? cache : used;
    }
    return limit > used ? limit - used : 0;
}

/* The group named by the line of /proc/self/cgroup that holds `tag`, and the groups that it is in,
 * whose limits hold for it too. Seen from inside a container `root` itself is the group. */
static uint64_t
left_in(const char *groups, const char *tag, const char *root, const char *limit_name,
        const char *used_name)
{
    char folder[512];
    const char *at = strstr(groups, tag);
    int n = 0;
    if (at != NULL) {
        at += strlen(tag);
        n = (int)strcspn(at, "\n");
    }
    uint64_t left = UINT64_MAX;
    for (;;) {
        snprintf(folder, sizeof(folder), "%s%.*s", root, n, at != NULL ? at : "");
        uint64_t here = left_in_group(folder, limit_name, used_name);
        left = here < left ? here : left;
        if (n <= 1) { /* "" or "/": that was the root */
            return left;
        }
        while (n > 0 && at[n - 1] != '/') {
            n--;
        }
        n -= n > 0; /* the slash */
    }
}

uint64_t
fmp_memory_available(void)
{
    uint64_t left = left_on_machine();
    char groups[4096];
    if (read_text("/proc/self/cgroup", groups, sizeof(groups))) {
        uint64_t v2 = left_in(groups, "0::", "/sys/fs/cgroup", "memory.max", "memory.current");
        uint64_t v1 = left_in(groups, ":memory:", "/sys/fs/cgroup/memory", "memory.limit_in_bytes",
                              "memory.usage_in_bytes");
        left = v2 < left ? v2 : left;
        left = v1 < left ? v1 : left;
    }
    return left;
}
