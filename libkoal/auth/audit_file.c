/* Names and heads of the audit log's files. */
#include "libkoal/auth/audit_priv.h"
#include "libkoal/auth/read.h"
#include "libkoal/base/hex.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FILES_MAX = 100000, HEAD_MOST = 200 };

unsigned kl_audit_file_number(const char *file, const char *name)
{
    size_t   size = strlen(name);
    unsigned number = 0;
    char     again[KL_AUDIT_NAME_MAX + 32];

    if (strncmp(file, name, size) != 0 || sscanf(file + size, "-%6u.audit", &number) != 1)
        return 0;
    kl_audit_file_name(name, number, again);
    return strcmp(file, again) == 0 ? number : 0;
}

void kl_audit_file_name(const char *name, unsigned number, char out[KL_AUDIT_NAME_MAX + 32])
{
    snprintf(out, KL_AUDIT_NAME_MAX + 32, "%.*s-%06u.audit", KL_AUDIT_NAME_MAX, name, number);
}

enum kl_code kl_audit_head_read(int folder, const char *name, struct kl_audit_head *h, struct kl_err *err)
{
    char     file[KL_AUDIT_NAME_MAX + 8], *bytes, again[HEAD_MOST];
    uint8_t  raw[KL_SHA256];
    size_t   size;
    bool     right;
    struct kl_audit_head found = { 0 };

    snprintf(file, sizeof file, "%.*s.head", KL_AUDIT_NAME_MAX, name);
    if (kl_auth_read(folder, file, HEAD_MOST, &bytes, &size, NULL, err) != KL_OK)
        return err->code;
    if (size == 0) {
        free(bytes);
        return kl_fail(err, KL_ENOENT, "%s is empty", file);
    }
    right = sscanf(bytes, "%" SCNu64 " %64[0-9a-f]", &found.n, found.hash) == 2 &&
            kl_unhex(found.hash, strlen(found.hash), raw, sizeof raw);
    snprintf(again, sizeof again, "%020" PRIu64 " %s\n", found.n, found.hash);
    right = right && size == strlen(again) && memcmp(bytes, again, size) == 0;
    free(bytes);
    if (!right)
        return kl_fail(err, KL_ECORRUPT, "%s is not what this program wrote", file);
    *h = found;
    return KL_OK;
}

static int ascending(const void *a, const void *b)
{
    unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;

    return x < y ? -1 : x > y;
}

enum kl_code kl_audit_files(int folder, const char *name, unsigned **numbers, size_t *count, struct kl_err *err)
{
    int       again = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR      *d = again >= 0 ? fdopendir(again) : NULL;
    unsigned *found = NULL, number;
    size_t    n = 0;

    if (d == NULL) {
        kl_fail(err, KL_EIO, "the folder cannot be read: %s", strerror(errno));
        if (again >= 0)
            close(again);
        return err->code;
    }
    for (struct dirent *e; n < FILES_MAX && (e = readdir(d)) != NULL;)
        if ((number = kl_audit_file_number(e->d_name, name)) > 0) {
            if ((n & (n - 1)) == 0)
                found = kl_resize(found, (n > 0 ? 2 * n : 1) * sizeof *found);
            found[n++] = number;
        }
    closedir(d);
    if (n == FILES_MAX) {
        free(found);
        return kl_fail(err, KL_ELIMIT, "more than %d files", FILES_MAX);
    }
    if (n > 0)
        qsort(found, n, sizeof *found, ascending);
    *numbers = found;
    *count = n;
    return KL_OK;
}
