#include "libkoal/auth/keys.h"
#include "libkoal/auth/read.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_MOST = 4096 };

enum kl_code kl_auth_file_read(const char *path, char **bytes, size_t *size, struct stat *out, struct kl_err *err)
{
    struct stat s;

    if (kl_auth_read(AT_FDCWD, path, KL_AUTH_FILE_MAX, bytes, size, &s, err) != KL_OK)
        return err->code;
    if (s.st_mode & S_IWOTH) {
        free(*bytes);
        *bytes = NULL;
        return kl_fail(err, KL_EINVAL, "anyone may write %s, and make himself a key: chmod o-w", path);
    }
    if (out != NULL)
        *out = s;
    return KL_OK;
}

/* ---- changing it: whole and synced beside it, then in its place ---- */

/* The file beside it, locked: of two who change it at once the second begins with what the first has left. */
struct draft { char path[PATH_MOST + 8]; int fd; };

static enum kl_code draft_open(struct draft *d, const char *path, struct kl_err *err)
{
    struct stat ours, named;

    if (snprintf(d->path, sizeof d->path, "%s.new", path) >= (int)sizeof d->path)
        return kl_fail(err, KL_EINVAL, "the path is too long");
    for (;;) {
        d->fd = open(d->path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
        if (d->fd < 0)
            return kl_fail(err, errno == ENOENT ? KL_ENOENT : KL_EIO, "%s: %s", d->path, strerror(errno));
        if (flock(d->fd, LOCK_EX) != 0 || fstat(d->fd, &ours) != 0) {
            kl_fail(err, KL_EIO, "%s: %s", d->path, strerror(errno));
            close(d->fd);
            return err->code;
        }
        if (stat(d->path, &named) == 0 && named.st_ino == ours.st_ino && named.st_dev == ours.st_dev)
            return KL_OK;
        close(d->fd);                                  /* who had the lock has put it in its place meanwhile */
    }
}

static void draft_drop(struct draft *d)
{
    unlink(d->path);
    close(d->fd);
}

static enum kl_code sync_folder(const char *path, struct kl_err *err)
{
    char        folder[PATH_MOST + 8];
    const char *slash = strrchr(path, '/');
    int         fd;
    bool        done;

    snprintf(folder, sizeof folder, "%.*s", slash == NULL ? 1 : slash == path ? 1 : (int)(slash - path),
             slash == NULL ? "." : path);
    fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    done = fd >= 0 && fsync(fd) == 0;
    if (!done)
        kl_fail(err, KL_EIO, "%s: its folder cannot be synced: %s", path, strerror(errno));
    if (fd >= 0)
        close(fd);
    return done ? KL_OK : err->code;
}

static bool write_all(int fd, struct kl_span text)
{
    for (ssize_t n; text.size > 0; text = kl_span((const char *)text.at + n, text.size - (size_t)n))
        if ((n = write(fd, text.at, text.size)) < 0)
            return false;
    return true;
}

/* Ends the draft. The owner and mode of what it replaces (NULL: nothing) stay. */
static enum kl_code draft_take(struct draft *d, const char *path, struct kl_span text, const struct stat *old,
                               struct kl_err *err)
{
    struct kl_auth_keys keys;

    if (kl_auth_keys_parse(text, &keys, err) != KL_OK) {   /* never a file that cannot be read back */
        draft_drop(d);
        return kl_within(err, "%s", path);
    }
    kl_auth_keys_free(&keys);
    if (ftruncate(d->fd, 0) != 0 || !write_all(d->fd, text) ||
        (old != NULL && (fchmod(d->fd, old->st_mode & 07777) != 0 ||
                         (fchown(d->fd, old->st_uid, old->st_gid) != 0 && errno != EPERM))) ||
        fsync(d->fd) != 0 || rename(d->path, path) != 0) {
        kl_fail(err, KL_EIO, "%s: %s", d->path, strerror(errno));
        draft_drop(d);
        return err->code;
    }
    close(d->fd);
    return sync_folder(path, err);
}

enum kl_code kl_auth_file_add(const char *path, const char *line, struct kl_err *err)
{
    struct kl_buf out = { 0 };
    struct draft  d;
    struct stat   s;
    char         *bytes = NULL;
    size_t        size = 0;
    bool          is;

    if (draft_open(&d, path, err) != KL_OK)
        return err->code;
    is = kl_auth_file_read(path, &bytes, &size, &s, err) == KL_OK;
    if (!is && err->code != KL_ENOENT) {
        draft_drop(&d);
        return err->code;
    }
    err->code = KL_OK;
    if (!is)
        kl_buf_adds(&out, "# API keys: ID SHA256 ROLES TENANTS [rate=REQUESTS_A_SECOND]\n");
    kl_buf_add(&out, bytes, size);
    if (size > 0 && bytes[size - 1] != '\n')
        kl_buf_adds(&out, "\n");
    kl_buf_addf(&out, "%s\n", line);
    (void)draft_take(&d, path, kl_buf_span(&out), is ? &s : NULL, err);
    kl_buf_deinit(&out);
    free(bytes);
    return err->code;
}

enum kl_code kl_auth_file_remove(const char *path, const char *id, struct kl_err *err)
{
    struct kl_buf out = { 0 };
    struct draft  d;
    struct stat   s;
    char         *bytes;
    size_t        size, id_size = strlen(id);
    bool          found = false;

    if (draft_open(&d, path, err) != KL_OK)
        return err->code;
    if (kl_auth_file_read(path, &bytes, &size, &s, err) != KL_OK) {
        draft_drop(&d);
        return err->code;
    }
    for (const char *at = bytes, *end = bytes + size, *next; at < end; at = next) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        const char *word = at;

        next = stop != NULL ? stop + 1 : end;
        while (word < next && (*word == ' ' || *word == '\t'))
            word++;
        if ((size_t)(next - word) > id_size && memcmp(word, id, id_size) == 0 &&
            (word[id_size] == ' ' || word[id_size] == '\t'))
            found = true;
        else
            kl_buf_add(&out, at, (size_t)(next - at));
    }
    if (found)
        (void)draft_take(&d, path, kl_buf_span(&out), &s, err);
    else {
        draft_drop(&d);
        kl_fail(err, KL_ENOENT, "%s: there is no key %.63s", path, id);
    }
    kl_buf_deinit(&out);
    free(bytes);
    return err->code;
}
