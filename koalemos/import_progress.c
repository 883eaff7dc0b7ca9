/*
 * "cut <hash, 16 hex digits>", then a line a step: "<window start ms> <partition> <id>". Written anew with each:
 * a few thousand at most.
 */
#include "koalemos/import_priv.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BYTES_MAX = 256 << 20 };

static void add(struct import_progress *p, const struct import_step *s)
{
    if (p->count == p->room) {
        p->room = p->room == 0 ? 64 : p->room * 2;
        p->at = kl_resize(p->at, p->room * sizeof *p->at);
    }
    p->at[p->count++] = *s;
}

static enum kl_code save(struct import_progress *p, struct kl_err *err)
{
    struct kl_env_file *f;
    struct kl_buf       b = { 0 };
    enum kl_code        code;

    kl_buf_addf(&b, "cut %016" PRIx64 "\n", p->was_cut);
    for (size_t i = 0; i < p->count; i++)
        kl_buf_addf(&b, "%" PRId64 " %" PRIu32 " %" PRIu64 "\n", p->at[i].window_ms, p->at[i].partition,
                    p->at[i].id);
    code = p->work->create(p->work, "progress.tmp", &f, err);
    if (code == KL_OK) {
        code = p->work->append(f, b.at, b.size, err);
        if (code == KL_OK && (code = p->work->sync(f, err)) == KL_OK)
            code = p->work->publish(f, p->name, err);
        p->work->close(f);
    }
    kl_buf_deinit(&b);
    return code == KL_OK ? KL_OK : kl_within(err, "write %s", p->name);
}

enum kl_code import_progress_open(struct import_progress *p, struct kl_env_dir *work, const char *tenant,
                                  const char *ulid, uint64_t cut, struct kl_err *err)
{
    size_t       size;
    void        *bytes;
    char        *line, *rest;
    bool         first = true;
    enum kl_code code;

    *p = (struct import_progress){ .work = work, .cut = cut, .was_cut = cut };
    snprintf(p->name, sizeof p->name, "progress-%s-%.150s", ulid, tenant);
    code = work->read(work, p->name, BYTES_MAX, &bytes, &size, err);
    if (code == KL_ENOENT)
        return KL_OK;
    if (code != KL_OK)
        return kl_within(err, "read %s", p->name);
    bytes = kl_resize(bytes, size + 1);
    ((char *)bytes)[size] = '\0';
    for (line = bytes; code == KL_OK && (rest = strchr(line, '\n')) != NULL; line = rest + 1, first = false) {
        struct import_step s;

        *rest = '\0';
        if (first && sscanf(line, "cut %16" SCNx64, &p->was_cut) == 1)
            continue;
        if (!first && sscanf(line, "%" SCNd64 " %" SCNu32 " %" SCNu64, &s.window_ms, &s.partition, &s.id) == 3)
            add(p, &s);
        else
            code = kl_fail(err, KL_ECORRUPT, "%s is not what was written: remove it to begin anew, which may "
                           "keep some samples twice in the store", p->name);
    }
    free(bytes);
    return code;
}

void import_progress_close(struct import_progress *p)
{
    free(p->at);
}

bool import_progress_has(const struct import_progress *p, int64_t window_ms, uint32_t partition)
{
    for (size_t i = p->count; i > 0; i--)
        if (p->at[i - 1].window_ms == window_ms && p->at[i - 1].partition == partition)
            return true;
    return false;
}

enum kl_code import_progress_add(struct import_progress *p, const struct import_step *s, struct kl_err *err)
{
    add(p, s);
    return save(p, err);
}

enum kl_code import_progress_drop_last(struct import_progress *p, struct kl_err *err)
{
    p->count--;
    return save(p, err);
}

enum kl_code import_progress_anew(struct import_progress *p, struct kl_err *err)
{
    p->count = 0;
    p->was_cut = p->cut;
    return save(p, err);
}

enum kl_code import_progress_end(struct import_progress *p, struct kl_err *err)
{
    enum kl_code code = p->work->remove(p->work, p->name, err);

    if (code == KL_OK || code == KL_ENOENT)
        code = p->work->sync_names(p->work, err);
    return code;
}
