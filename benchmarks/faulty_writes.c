/* Preloaded into a process: something happens at its k-th write (see faults.py). A write is whatever changes files:
   bytes, names, folders, lengths, within the folder where it was when it was armed. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { COUNT, KILL, HALF, FULL };
static atomic_long count;
static long at;
static int kind;
static int armed;

static char root[4096];

void fault_arm(long k, int what) { count = 0; at = k; kind = what; armed = getcwd(root, sizeof root) != NULL; }
long fault_count(void) { return count; }

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static void die(void) { kill(getpid(), SIGKILL); for (;;) pause(); }

/* 1 where there is no room for this one. */
static int due(int takes_room, int may_be_halved) {
    if (!armed) return 0;
    long now = ++count;
    if (kind == FULL && now >= at && takes_room) { errno = ENOSPC; return 1; }
    if (now == at && (kind == KILL || (kind == HALF && !may_be_halved))) die();
    return 0;
}

static int within(const char *path) { return armed && (path[0] != '/' || strncmp(path, root, strlen(root)) == 0); }
/* A file of the folder: not what is said, nor a pipe or a socket. */
static int is_file(int fd) {
    char link[64], path[PATH_MAX] = "";
    if (!armed || fd <= 2) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    return readlink(link, path, sizeof path - 1) > 0 && path[0] == '/' && within(path);
}
static int halves(void) { return armed && kind == HALF && count == at; }

ssize_t write(int fd, const void *bytes, size_t length) {
    if (is_file(fd)) {
        if (due(1, 1)) return -1;
        if (halves()) { REAL(write)(fd, bytes, length / 2); die(); }
    }
    return REAL(write)(fd, bytes, length);
}
ssize_t writev(int fd, const struct iovec *parts, int number) {
    if (is_file(fd)) {
        if (due(1, 1)) return -1;
        if (halves()) { REAL(write)(fd, parts[0].iov_base, parts[0].iov_len / 2); die(); }
    }
    return REAL(writev)(fd, parts, number);
}
ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset) {
    if (is_file(fd)) {
        if (due(1, 1)) return -1;
        if (halves()) { REAL(pwrite64)(fd, bytes, length / 2, offset); die(); }
    }
    return REAL(pwrite64)(fd, bytes, length, offset);
}
int rename(const char *from, const char *to) { return within(to) && due(1, 0) ? -1 : REAL(rename)(from, to); }
int unlink(const char *path) { return within(path) && due(0, 0) ? -1 : REAL(unlink)(path); }
int unlinkat(int fd, const char *path, int flags) { return within(path) && due(0, 0) ? -1 : REAL(unlinkat)(fd, path, flags); }
int rmdir(const char *path) { return within(path) && due(0, 0) ? -1 : REAL(rmdir)(path); }
int mkdir(const char *path, mode_t mode) { return within(path) && due(1, 0) ? -1 : REAL(mkdir)(path, mode); }
int truncate64(const char *path, off64_t length) { return within(path) && due(0, 0) ? -1 : REAL(truncate64)(path, length); }
int ftruncate64(int fd, off64_t length) { return is_file(fd) && due(1, 0) ? -1 : REAL(ftruncate64)(fd, length); }
int fsync(int fd) { return armed && due(1, 0) ? -1 : REAL(fsync)(fd); }

static int opened(const char *path, int flags, mode_t mode) {
    if ((flags & (O_CREAT | O_TRUNC)) && within(path) && due(flags & O_CREAT, 0)) return -1;
    return REAL(open64)(path, flags, mode);
}
static mode_t mode_of(int flags, va_list more) { return flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0; }
int open64(const char *path, int flags, ...) {
    va_list more; va_start(more, flags); mode_t mode = mode_of(flags, more); va_end(more);
    return opened(path, flags, mode);
}
int open(const char *path, int flags, ...) {
    va_list more; va_start(more, flags); mode_t mode = mode_of(flags, more); va_end(more);
    return opened(path, flags, mode);
}
