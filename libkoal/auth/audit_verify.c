#include "libkoal/auth/audit_priv.h"
#include "libkoal/auth/read.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct walk {
    struct kl_span key;
    bool      partial, held, at_head;
    const char *holds;
    struct kl_audit_head head;
    uint64_t  n, count;
    char      hash[KL_AUDIT_HASH + 1];
};

/* What has no end in a file is a record that a crash cut, before it was synced: the chain goes on without
 * it. Where it had been synced, the head tells. */
static enum kl_code walk_file(struct walk *w, const char *file, struct kl_span bytes, struct kl_err *err)
{
    const char *at = bytes.at, *end = at + bytes.size;

    for (unsigned line = 1; at < end; line++) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        char        hash[KL_AUDIT_HASH + 1], prev[KL_AUDIT_HASH + 1];
        uint64_t    n;

        if (stop == NULL)
            break;
        if (!kl_audit_line_read(kl_span(at, (size_t)(stop - at)), w->key, w->count > 0 ? w->hash : NULL, &n,
                                hash, prev))
            return kl_fail(err, KL_ECORRUPT, "%s, line %u: the record was changed, or does not follow the one "
                           "before it", file, line);
        if (w->count == 0 && !w->partial && (n != 1 || strcmp(prev, KL_AUDIT_ZERO) != 0))
            return kl_fail(err, KL_ECORRUPT, "%s begins with record %" PRIu64 ": those before it are not here",
                           file, n);
        if (w->count > 0 && n != w->n + 1)
            return kl_fail(err, KL_ECORRUPT, "%s, line %u: record %" PRIu64 " follows %" PRIu64, file, line, n,
                           w->n);
        w->n = n;
        strcpy(w->hash, hash);
        w->count++;
        w->held |= w->holds != NULL && strcmp(w->holds, hash) == 0;
        w->at_head |= n == w->head.n && strcmp(hash, w->head.hash) == 0;
        at = stop + 1;
    }
    return KL_OK;
}

static enum kl_code walk_all(struct walk *w, int folder, const char *name, struct kl_err *err)
{
    unsigned *numbers = NULL;
    size_t    files = 0;

    if (kl_audit_files(folder, name, &numbers, &files, err) != KL_OK)
        return err->code;
    err->code = KL_OK;
    if (files == 0)
        kl_fail(err, KL_ENOENT, "there is no audit log %s", name);
    for (size_t i = 0; err->code == KL_OK && i < files; i++) {
        char   file[KL_AUDIT_NAME_MAX + 32], *bytes;
        size_t size;

        kl_audit_file_name(name, numbers[i], file);
        if (i > 0 && numbers[i] != numbers[i - 1] + 1)
            kl_fail(err, KL_ECORRUPT, "before %s a file is missing", file);
        else if (kl_auth_read(folder, file, KL_AUDIT_FILE_MOST, &bytes, &size, NULL, err) == KL_OK) {
            (void)walk_file(w, file, kl_span(bytes, size), err);
            free(bytes);
        }
    }
    free(numbers);
    return err->code;
}

enum kl_code kl_audit_verify(const char *folder, const char *name, struct kl_span key, bool partial,
                             const char *holds, uint64_t *count, char last[65], struct kl_err *err)
{
    struct walk w = { .key = key, .partial = partial, .holds = holds };
    int         fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return kl_fail(err, errno == ENOENT ? KL_ENOENT : KL_EIO, "%s: %s", folder, strerror(errno));
    /* The head first: the log may grow meanwhile. */
    if (kl_audit_head_read(fd, name, &w.head, err) != KL_OK && err->code != KL_ENOENT)
        ;
    else if (walk_all(&w, fd, name, err) == KL_OK) {
        if (w.count == 0)
            kl_fail(err, KL_ECORRUPT, "the log is empty");
        else if (w.head.n > w.n)
            kl_fail(err, KL_ECORRUPT, "the log ends with record %" PRIu64 ", but had %" PRIu64
                    ": it was cut short", w.n, w.head.n);
        else if (w.head.n == 0)
            kl_fail(err, KL_ECORRUPT, "%s.head, which says how long the log is, is not here", name);
        else if (!w.at_head)
            kl_fail(err, KL_ECORRUPT, "record %" PRIu64 " is not the one that %s.head knows: the log was made anew",
                    w.head.n, name);
        else if (holds != NULL && !w.held)
            kl_fail(err, KL_ECORRUPT, "no record has the hash %.64s", holds);
    }
    close(fd);
    if (err->code != KL_OK)
        return kl_within(err, "%s", folder);
    *count = w.count;
    strcpy(last, w.hash);
    return KL_OK;
}
