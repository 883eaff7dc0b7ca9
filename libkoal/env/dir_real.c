/* Folders of the machine's file systems: openat and its kin, so that a folder may be renamed. */
#include "libkoal/env/dir.h"

#include "libkoal/base/mem.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

static const char lock_name[] = "LOCK";

struct real {
    struct kl_env_dir dir;
    int               fd, lock_fd;                     /* lock_fd: -1 unless locked */
    atomic_bool       failed;                          /* a sync of names did */
    char             *path;                            /* for sentences only */
};
struct kl_env_file { struct real *in; int fd; bool failed; char name[KL_ENV_DIR_NAME_MAX + 1]; };
struct kl_env_view { int fd; char name[KL_ENV_DIR_NAME_MAX + 1]; };

static struct real *real(struct kl_env_dir *dir) { return (struct real *)dir; }

static bool fit(const char *name)
{
    return name[0] != '\0' && strlen(name) <= KL_ENV_DIR_NAME_MAX && strchr(name, '/') == NULL
           && strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && strcmp(name, lock_name) != 0;
}

static enum kl_code fail(struct kl_err *err, const char *what, const char *name)
{
    enum kl_code code = errno == ENOENT                      ? KL_ENOENT
                        : errno == ENOSPC || errno == EDQUOT ? KL_ELIMIT
                                                             : KL_EIO;

    return kl_fail(err, code, "%s %s: %s", what, name, strerror(errno));
}

static enum kl_code fail_in(struct kl_err *err, const char *what, const struct real *in,
                            const char *name)
{
    fail(err, what, name);
    return kl_within(err, "%s", in->path);
}

static enum kl_code refuse(struct kl_err *err, const char *name)
{
    return kl_fail(err, KL_EIO, "%s: an earlier write or sync failed", name);
}

static enum kl_code create(struct kl_env_dir *dir, const char *name, struct kl_env_file **file,
                           struct kl_err *err)
{
    struct real        *in = real(dir);
    struct kl_env_file *f;
    int                 fd;

    assert(fit(name));
    /* A new file rather than the old one emptied: the old one may have failed to sync. */
    if (unlinkat(in->fd, name, 0) != 0 && errno != ENOENT)
        return fail_in(err, "replace", in, name);
    fd = openat(in->fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0)
        return fail_in(err, "create", in, name);

    f = kl_new(sizeof *f);
    *f = (struct kl_env_file){ .in = in, .fd = fd };
    strcpy(f->name, name);                             /* fits: asserted above */
    *file = f;
    return KL_OK;
}

static enum kl_code append(struct kl_env_file *f, const void *bytes, size_t size_bytes,
                           struct kl_err *err)
{
    const char *at = bytes, *end = at + size_bytes;

    if (f->failed)
        return refuse(err, f->name);
    while (at < end) {
        ssize_t n = write(f->fd, at, (size_t)(end - at));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            f->failed = true;
            return fail_in(err, "write", f->in, f->name);
        }
        at += n;
    }
    return KL_OK;
}

static enum kl_code sync_file(struct kl_env_file *f, struct kl_err *err)
{
    if (f->failed)
        return refuse(err, f->name);
    /* Data and what is needed to find it, the size among it; not the times. */
    if (fdatasync(f->fd) != 0) {
        f->failed = true;
        return fail_in(err, "sync", f->in, f->name);
    }
    return KL_OK;
}

static enum kl_code sync_names(struct kl_env_dir *dir, struct kl_err *err)
{
    struct real *in = real(dir);

    if (atomic_load(&in->failed))
        return refuse(err, in->path);
    if (fsync(in->fd) != 0) {
        atomic_store(&in->failed, true);
        return fail(err, "sync folder", in->path);
    }
    return KL_OK;
}

/* Renames, or, where that must not replace and the file system cannot promise it, links: a crash
 * between the two steps leaves the file under both names. */
static int move(struct real *in, const char *from, const char *to, bool replace)
{
    if (replace)
        return renameat(in->fd, from, in->fd, to);
    if (renameat2(in->fd, from, in->fd, to, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EINVAL && errno != ENOSYS)
        return -1;
    return linkat(in->fd, from, in->fd, to, 0) != 0 ? -1 : unlinkat(in->fd, from, 0);
}

static enum kl_code publish_as(struct kl_env_file *f, const char *name, bool replace,
                               struct kl_err *err)
{
    struct real *in = f->in;

    assert(fit(name));
    if (f->failed || atomic_load(&in->failed))
        return refuse(err, name);
    if (move(in, f->name, name, replace) != 0)
        return !replace && errno == EEXIST
                   ? kl_fail(err, KL_EEXIST, "%s: there is a %s already", in->path, name)
                   : fail_in(err, "rename to", in, name);
    strcpy(f->name, name);
    return sync_names(&in->dir, err);
}

static enum kl_code publish(struct kl_env_file *f, const char *name, struct kl_err *err)
{
    return publish_as(f, name, true, err);
}

static enum kl_code publish_new(struct kl_env_file *f, const char *name, struct kl_err *err)
{
    return publish_as(f, name, false, err);
}

static void close_file(struct kl_env_file *f)
{
    close(f->fd);
    free(f);
}

/* Opens a file, and a file only, for reading, and measures it. */
static enum kl_code open_file(struct kl_env_dir *dir, const char *name, int *fd,
                              uint64_t *size_bytes, struct kl_err *err)
{
    struct real *in = real(dir);
    struct stat  st;

    assert(fit(name));
    *fd = openat(in->fd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*fd < 0)
        return fail_in(err, "open", in, name);
    if (fstat(*fd, &st) != 0)
        fail_in(err, "measure", in, name);
    else if (!S_ISREG(st.st_mode))
        kl_fail(err, KL_EIO, "%s: %s is no file", in->path, name);
    else {
        *size_bytes = (uint64_t)st.st_size;
        return KL_OK;
    }
    close(*fd);
    return err->code;
}

static enum kl_code read_at(int fd, const char *name, uint64_t offset, void *bytes,
                            size_t size_bytes, struct kl_err *err)
{
    if (offset > INT64_MAX - size_bytes)
        return kl_fail(err, KL_EIO, "%s has no byte %llu", name, (unsigned long long)offset);
    for (size_t got = 0; got < size_bytes;) {
        ssize_t n = pread(fd, (char *)bytes + got, size_bytes - got, (off_t)(offset + got));
        if (n > 0)
            got += (size_t)n;
        else if (n == 0)
            return kl_fail(err, KL_EIO, "%s is shorter than %llu bytes", name,
                           (unsigned long long)(offset + size_bytes));
        else if (errno != EINTR)
            return kl_fail(err, KL_EIO, "read %s: %s", name, strerror(errno));
    }
    return KL_OK;
}

static enum kl_code read_file(struct kl_env_dir *dir, const char *name, size_t cap_bytes,
                              void **bytes, size_t *size_bytes, struct kl_err *err)
{
    enum kl_code code;
    uint64_t     size;
    void        *all = NULL;
    int          fd;

    if (open_file(dir, name, &fd, &size, err) != KL_OK)
        return err->code;
    if (size > cap_bytes)
        code = kl_fail(err, KL_ELIMIT, "%s is longer than %zu bytes", name, cap_bytes);
    else if ((all = malloc(size > 0 ? size : 1)) == NULL)
        code = kl_fail(err, KL_ELIMIT, "no memory for the %zu bytes of %s", (size_t)size, name);
    else
        code = read_at(fd, name, 0, all, size, err);
    close(fd);
    if (code != KL_OK) {
        free(all);
        return code;
    }
    *bytes = all;
    *size_bytes = size;
    return KL_OK;
}

static enum kl_code view(struct kl_env_dir *dir, const char *name, struct kl_env_view **v,
                         uint64_t *size_bytes, struct kl_err *err)
{
    int fd;

    if (open_file(dir, name, &fd, size_bytes, err) != KL_OK)
        return err->code;
    *v = kl_new(sizeof **v);
    (*v)->fd = fd;
    strcpy((*v)->name, name);
    return KL_OK;
}

static enum kl_code view_read(struct kl_env_view *v, uint64_t offset, void *bytes,
                              size_t size_bytes, struct kl_err *err)
{
    return read_at(v->fd, v->name, offset, bytes, size_bytes, err);
}

static bool view_at_hand(struct kl_env_view *v, uint64_t offset, void *bytes, size_t size_bytes)
{
    struct iovec to = { .iov_base = bytes, .iov_len = size_bytes };

    return offset <= INT64_MAX - size_bytes &&
           preadv2(v->fd, &to, 1, (off_t)offset, RWF_NOWAIT) == (ssize_t)size_bytes;
}

static void view_close(struct kl_env_view *v)
{
    close(v->fd);
    free(v);
}

static enum kl_code remove_file(struct kl_env_dir *dir, const char *name, struct kl_err *err)
{
    assert(fit(name));
    if (unlinkat(real(dir)->fd, name, 0) != 0)
        return fail_in(err, "remove", real(dir), name);
    return KL_OK;
}

static enum kl_code rename_file(struct kl_env_dir *dir, const char *from, const char *to,
                                struct kl_err *err)
{
    struct real *in = real(dir);
    struct stat  st;

    assert(fit(from) && fit(to));
    if (fstatat(in->fd, from, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return fail_in(err, "rename", in, from);
    if (!S_ISREG(st.st_mode))
        return kl_fail(err, KL_EIO, "%s: %s is no file", in->path, from);
    if (renameat(in->fd, from, in->fd, to) != 0)
        return fail_in(err, "rename to", in, to);
    return KL_OK;
}

struct entry { char name[KL_ENV_DIR_NAME_MAX + 1]; bool is_dir; uint64_t size_bytes; };
struct entries { size_t count, room; struct entry *at; };

/* Names that are not ours (too long for any of ours) are not listed, nor what is gone again. */
static void note(struct real *in, const char *name, struct entries *all)
{
    struct stat st;

    if (!fit(name) || fstatat(in->fd, name, &st, 0) != 0)
        return;
    if (all->count == all->room) {
        all->room = all->room > 0 ? 2 * all->room : 64;
        all->at = kl_resize(all->at, all->room * sizeof *all->at);
    }
    struct entry *e = &all->at[all->count++];
    strcpy(e->name, name);
    e->is_dir = S_ISDIR(st.st_mode);
    e->size_bytes = e->is_dir ? 0 : (uint64_t)st.st_size;
}

static enum kl_code list(struct kl_env_dir *dir,
                         void (*each)(void *ctx, const char *name, bool is_dir,
                                      uint64_t size_bytes),
                         void *ctx, struct kl_err *err)
{
    struct real   *in = real(dir);
    struct entries all = { 0 };
    enum kl_code   code = KL_OK;
    int            fd = openat(in->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR           *d = fd >= 0 ? fdopendir(fd) : NULL;

    if (d == NULL) {
        code = fail(err, "list", in->path);
        if (fd >= 0)
            close(fd);
        return code;
    }
    for (;;) {
        errno = 0;
        struct dirent *e = readdir(d);
        if (e == NULL)
            break;
        note(in, e->d_name, &all);
    }
    if (errno != 0)
        code = fail(err, "list", in->path);
    closedir(d);
    for (size_t i = 0; code == KL_OK && i < all.count; i++)
        each(ctx, all.at[i].name, all.at[i].is_dir, all.at[i].size_bytes);
    free(all.at);
    return code;
}

static enum kl_code room(struct kl_env_dir *dir, uint64_t *free_bytes, uint64_t *total_bytes,
                         struct kl_err *err)
{
    struct statvfs v;

    if (fstatvfs(real(dir)->fd, &v) != 0)
        return fail(err, "measure the room of", real(dir)->path);
    *free_bytes = (uint64_t)v.f_bavail * v.f_frsize;
    *total_bytes = (uint64_t)v.f_blocks * v.f_frsize;
    return KL_OK;
}

static enum kl_code lock(struct kl_env_dir *dir, struct kl_err *err)
{
    struct real *in = real(dir);
    int          fd;

    assert(in->lock_fd < 0);
    fd = openat(in->fd, lock_name, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0)
        return fail_in(err, "open", in, lock_name);
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK)
            kl_fail(err, KL_EAGAIN, "%s is in use by another process", in->path);
        else
            fail_in(err, "lock", in, lock_name);
        close(fd);
        return err->code;
    }
    in->lock_fd = fd;
    return KL_OK;
}

static enum kl_code remove_dir(struct kl_env_dir *dir, const char *name, struct kl_err *err)
{
    assert(fit(name));
    if (unlinkat(real(dir)->fd, name, AT_REMOVEDIR) == 0)
        return KL_OK;
    if (errno == ENOTEMPTY || errno == EEXIST)
        return kl_fail(err, KL_EEXIST, "%s: folder %s is not empty", real(dir)->path, name);
    return fail_in(err, "remove folder", real(dir), name);
}

static void leave(struct kl_env_dir *dir)
{
    struct real *in = real(dir);

    if (in->lock_fd >= 0)
        close(in->lock_fd);
    close(in->fd);
    free(in->path);
    free(in);
}

static enum kl_code enter(struct kl_env_dir *dir, const char *name, bool make,
                          struct kl_env_dir **child, struct kl_err *err);

static struct kl_env_dir *made(int fd, char *path_take)
{
    struct real *r = kl_new(sizeof *r);

    r->fd = fd;
    r->lock_fd = -1;
    r->path = path_take;
    r->dir = (struct kl_env_dir){
        .create = create, .append = append, .sync = sync_file, .publish = publish, .publish_new = publish_new,
        .close = close_file, .read = read_file, .view = view, .view_read = view_read,
        .view_at_hand = view_at_hand, .view_close = view_close, .remove = remove_file, .rename = rename_file,
        .sync_names = sync_names, .list = list,
        .enter = enter, .leave = leave, .remove_dir = remove_dir, .room = room, .lock = lock
    };
    return &r->dir;
}

static enum kl_code enter(struct kl_env_dir *dir, const char *name, bool make,
                          struct kl_env_dir **child, struct kl_err *err)
{
    struct real *in = real(dir);
    size_t       size = strlen(in->path) + strlen(name) + 2;
    char        *path;
    int          fd;

    assert(fit(name));
    if (make && mkdirat(in->fd, name, 0755) != 0 && errno != EEXIST)
        return fail_in(err, "make folder", in, name);
    fd = openat(in->fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return fail_in(err, "open folder", in, name);
    path = kl_new(size);
    snprintf(path, size, "%s/%s", in->path, name);
    *child = made(fd, path);
    return KL_OK;
}

/* Of a folder that is known by its place alone: it may be one that we may not read. */
static bool sync_place(int at)
{
    int  fd = openat(at, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool done = fd >= 0 && fsync(fd) == 0;

    if (fd >= 0)
        close(fd);
    return done;
}

/* Makes what is absent of `path`, closed to others, and each new name durable in the folder that holds it. */
static enum kl_code make_all(char *path, struct kl_err *err)
{
    int at = open(path[0] == '/' ? "/" : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (at < 0)
        return fail(err, "open folder", path);
    for (char *rest = path, *part; (part = strtok_r(rest, "/", &rest)) != NULL;) {
        bool is_new = mkdirat(at, part, 0750) == 0;
        int  next;

        if ((!is_new && errno != EEXIST) || (is_new && !sync_place(at)))
            fail(err, "make folder", part);
        else if ((next = openat(at, part, O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0)
            fail(err, "open folder", part);
        else {
            close(at);
            at = next;
            continue;
        }
        close(at);
        return err->code;
    }
    close(at);
    return KL_OK;
}

enum kl_code kl_env_dir_real_open(const char *path, bool make, struct kl_env_dir **dir,
                                  struct kl_err *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0 && errno == ENOENT && make) {
        char        *copy = kl_strdup(path);
        enum kl_code code = make_all(copy, err);

        free(copy);
        if (code != KL_OK)
            return kl_within(err, "make folder %s", path);
        fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
    if (fd < 0)
        return fail(err, "open folder", path);
    *dir = made(fd, kl_strdup(path));
    return KL_OK;
}
