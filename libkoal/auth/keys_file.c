#include "libkoal/auth/keys.h"
#include "libkoal/auth/read.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

/* Whole and synced beside it, then in its place. The owner and mode of what it replaces stay. */
static enum kl_code write_anew(const char *path, struct kl_span text, const struct stat *old, struct kl_err *err)
{
    struct kl_auth_keys keys;
    char    beside[PATH_MOST + 8], *slash;
    int     fd, folder = -1;
    bool    done;

    if (kl_auth_keys_parse(text, &keys, err) != KL_OK)     /* never a file that cannot be read back */
        return kl_within(err, "%s", path);
    kl_auth_keys_free(&keys);
    if (snprintf(beside, sizeof beside, "%s.new", path) >= (int)sizeof beside)
        return kl_fail(err, KL_EINVAL, "the path is too long");
    fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    done = fd >= 0 && write(fd, text.at, text.size) == (ssize_t)text.size &&
           (old == NULL || (fchmod(fd, old->st_mode & 07777) == 0 &&
                            (fchown(fd, old->st_uid, old->st_gid) == 0 || errno == EPERM))) &&
           fsync(fd) == 0 && rename(beside, path) == 0;
    if (!done)
        kl_fail(err, KL_EIO, "%s: %s", beside, strerror(errno));
    if (fd >= 0)
        close(fd);
    if (!done) {
        unlink(beside);
        return err->code;
    }
    slash = strrchr(beside, '/');
    if (slash != NULL)
        slash[slash == beside] = '\0';
    folder = open(slash != NULL ? beside : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    done = folder >= 0 && fsync(folder) == 0;
    if (!done)
        kl_fail(err, KL_EIO, "%s: its folder cannot be synced: %s", path, strerror(errno));
    if (folder >= 0)
        close(folder);
    return done ? KL_OK : err->code;
}

enum kl_code kl_auth_file_add(const char *path, const char *line, struct kl_err *err)
{
    struct kl_buf out = { 0 };
    struct stat   s;
    char         *bytes = NULL;
    size_t        size = 0;
    bool          is = kl_auth_file_read(path, &bytes, &size, &s, err) == KL_OK;

    if (!is && err->code != KL_ENOENT)
        return err->code;
    err->code = KL_OK;
    if (!is)
        kl_buf_adds(&out, "# API keys: ID SHA256 ROLES TENANTS [rate=REQUESTS_A_SECOND]\n");
    kl_buf_add(&out, bytes, size);
    if (size > 0 && bytes[size - 1] != '\n')
        kl_buf_adds(&out, "\n");
    kl_buf_addf(&out, "%s\n", line);
    (void)write_anew(path, kl_buf_span(&out), is ? &s : NULL, err);
    kl_buf_deinit(&out);
    free(bytes);
    return err->code;
}

enum kl_code kl_auth_file_remove(const char *path, const char *id, struct kl_err *err)
{
    struct kl_buf out = { 0 };
    struct stat   s;
    char         *bytes;
    size_t        size, id_size = strlen(id);
    bool          found = false;

    if (kl_auth_file_read(path, &bytes, &size, &s, err) != KL_OK)
        return err->code;
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
        (void)write_anew(path, kl_buf_span(&out), &s, err);
    else
        kl_fail(err, KL_ENOENT, "%s: there is no key %.63s", path, id);
    kl_buf_deinit(&out);
    free(bytes);
    return err->code;
}
