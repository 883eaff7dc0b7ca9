/*
 * Filesets in the store that nothing names: of a compaction whose process and disk were lost, of an
 * upload that was cut off, or left by a catalogue that was rebuilt. The owner of a partition looks for
 * them now and then, among the tenants that it has, and lists what it finds as gone: then it is removed
 * as all that is gone, only much later. What might yet be named is no orphan: filesets of cuts that the
 * catalogue has not come to.
 */
#include "ingestor/ing_priv.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct look {
    struct ing_tidy *t;
    char   **known; size_t known_count;
    uint64_t last;                                     /* cuts up to this are in the catalogue */
    char     seen[BLK_PATH_MAX + 1];                   /* the objects of one follow each other */
};

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void object(void *ctx, const char *key, uint64_t size_bytes)
{
    struct look    *l = ctx;
    struct ing_tidy *t = l->t;
    const char     *slash = strrchr(key, '/');
    size_t          n = slash != NULL ? (size_t)(slash - key) : 0;
    char            path[BLK_PATH_MAX + 1];
    char           *at = path;
    struct blk_info info;
    struct kl_err   unfit;

    (void)size_bytes;
    if (n == 0 || n > BLK_PATH_MAX || t->path_count == ING_ORPHANS_MAX)
        return;
    memcpy(path, key, n);
    path[n] = '\0';
    if (strcmp(path, l->seen) == 0)
        return;
    strcpy(l->seen, path);
    if (blk_fileset_path_parse(path, &info, &unfit) != KL_OK || info.partition != t->p->number ||
        (info.generation == 0 && info.id > l->last) ||
        bsearch(&at, l->known, l->known_count, sizeof *l->known, by_text) != NULL)
        return;
    strcpy(t->paths[t->path_count++], path);
}

/* The tenant of each path that the manifest has, once: paths are sorted. */
static enum kl_code look_through(struct look *l, struct kl_err *err)
{
    struct kl_store *store = l->t->p->i->store;
    char             prefix[BLK_TENANT_MAX + 16], last[BLK_TENANT_MAX + 2] = "";

    for (size_t i = 0; i < l->known_count; i++) {
        int n = (int)(strchr(l->known[i], '/') - l->known[i]) + 1;

        if (strncmp(last, l->known[i], (size_t)n) == 0 && last[n] == '\0')
            continue;
        snprintf(last, sizeof last, "%.*s", n, l->known[i]);
        snprintf(prefix, sizeof prefix, "%s%04" PRIu32 "/", last, l->t->p->number);
        if (store->list(store, prefix, object, l, err) != KL_OK)
            return kl_within(err, "look for orphans");
    }
    return KL_OK;
}

enum kl_code ing_orphans_find(struct ing_tidy *t, struct kl_err *err)
{
    struct look  l = { .t = t };
    char        *text;
    enum kl_code code;

    t->paths = kl_resize(t->paths, ING_ORPHANS_MAX * sizeof *t->paths);
    t->path_count = 0;
    for (uint32_t i = 0; i < t->known.cut_count; i++)
        l.last = t->known.cuts[i].seq > l.last ? t->known.cuts[i].seq : l.last;
    l.known = blk_manifest_paths(&t->known, &l.known_count, &text);
    code = look_through(&l, err);
    free(l.known);
    free(text);
    return code;
}

bool ing_orphans_plan(struct ing_partition *p, struct ing_tidy *t)
{
    int64_t after_ms = p->i->o.orphans_ms, now_ns = kl_env_mono_ns(p->i->env);
    int64_t often_ms = after_ms / 8 < ING_ORPHANS_LOOK_MS ? after_ms / 8 : ING_ORPHANS_LOOK_MS;

    if (after_ms == 0 || p->manifest.revision == 0)
        return false;
    if (p->orphans_again_ns == 0)                      /* not first of all after a start */
        p->orphans_again_ns = now_ns + often_ms * 1000000;
    if (now_ns < p->orphans_again_ns)
        return false;
    p->orphans_again_ns = now_ns + often_ms * 1000000;
    t->plan.what = ING_TIDY_ORPHANS;
    blk_manifest_copy(&t->known, &p->manifest);
    return true;
}

void ing_orphans_apply(struct ing_tidy *t, struct blk_manifest *m, int64_t now_ms)
{
    for (uint32_t i = 0; i < t->path_count && m->gone_count < BLK_GONE_MAX; i++) {
        struct blk_info info;
        struct kl_err   unfit;

        if (blk_fileset_path_parse(t->paths[i], &info, &unfit) == KL_OK &&
            blk_manifest_find(m, &info) == m->fileset_count)
            blk_manifest_gone(m, t->paths[i], now_ms + t->p->i->o.orphans_ms - ING_OLD_MS);
    }
}
