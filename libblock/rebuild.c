#include "libblock/rebuild.h"

#include "libblock/rollup.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FOUND_MAX = 10000000 };

/* What was listed: a fileset's path, or (NULL) the revision of a manifest. */
struct found { uint32_t partition; uint64_t revision; char *path; };
struct finds { struct found *at; size_t count, room; };

static void add(struct finds *f, uint32_t partition, uint64_t revision, const char *path)
{
    if (f->count == FOUND_MAX)
        return;
    if (f->count == f->room) {
        f->room = f->room == 0 ? 64 : 2 * f->room;
        f->at = kl_resize(f->at, f->room * sizeof *f->at);
    }
    f->at[f->count++] = (struct found){ partition, revision, path != NULL ? kl_strdup(path) : NULL };
}

static void listed(void *ctx, const char *key, uint64_t size_bytes)
{
    static const char last[] = "/checkpoint";
    size_t          n = strlen(key), k = sizeof last - 1;
    char            text[KL_STORE_KEY_MAX + 1];
    struct blk_info info;
    struct kl_err   unfit;
    unsigned        partition;
    uint64_t        revision;

    (void)size_bytes;
    if (n > k && strcmp(key + n - k, last) == 0) {
        memcpy(text, key, n - k);
        text[n - k] = '\0';
        if (blk_fileset_path_parse(text, &info, &unfit) == KL_OK)
            add(ctx, info.partition, 0, text);
    } else if (sscanf(key, "catalogue/%4u/%20" SCNu64, &partition, &revision) == 2) {
        blk_manifest_key(partition, revision, text);
        if (strcmp(text, key) == 0)
            add(ctx, partition, revision, NULL);
    }
}

/* By partition; manifests first, the newest at the beginning; then filesets by path. */
static int in_order(const void *a, const void *b)
{
    const struct found *x = a, *y = b;

    if (x->partition != y->partition)
        return x->partition < y->partition ? -1 : 1;
    if ((x->path == NULL) != (y->path == NULL))
        return x->path == NULL ? -1 : 1;
    if (x->path == NULL)
        return x->revision > y->revision ? -1 : x->revision < y->revision;
    return strcmp(x->path, y->path);
}

/* ---- one partition ---- */

struct part {
    const struct blk_rebuild *b;
    uint32_t number;
    const struct found *manifests, *files;             /* files: sorted by path */
    size_t   manifest_count, file_count;
    struct blk_rebuilt r;
};

static enum kl_code read_manifest(struct part *p, uint64_t revision, struct blk_manifest *m,
                                  uint64_t *digest, struct kl_err *err)
{
    struct blk_pointer at = { .revision = revision };

    if (blk_manifest_read(p->b->store, p->number, &at, m, err) != KL_OK)
        return err->code;
    if (m->revision != revision) {
        blk_manifest_deinit(m);
        return kl_fail(err, KL_ECORRUPT, "it is of another revision");
    }
    *digest = at.digest;
    return KL_OK;
}

/* The manifest that counts, into r.m. */
static enum kl_code find_manifest(struct part *p, bool *any, struct kl_err *err)
{
    *any = false;
    for (size_t i = 0; i < p->manifest_count && i < BLK_REBUILD_MANIFESTS_MAX; i++) {
        struct blk_manifest m = { 0 };
        uint64_t            digest = 0;
        enum kl_code        code = read_manifest(p, p->manifests[i].revision, &m, &digest, err);

        if (code == KL_ECORRUPT) {
            p->r.unreadable++;
            continue;
        }
        if (code == KL_ENOENT)                         /* removed meanwhile */
            continue;
        if (code != KL_OK)
            return kl_within(err, "manifest %" PRIu64 " of partition %04" PRIu32,
                             p->manifests[i].revision, p->number);
        if (*any && m.epoch <= p->r.m.epoch) {         /* they come newest first */
            blk_manifest_deinit(&m);
            continue;
        }
        blk_manifest_deinit(&p->r.m);
        p->r.m = m;
        p->r.digest = digest;
        *any = true;
    }
    return KL_OK;
}

static void say(struct part *p, const char *path, const char *what)
{
    if (p->r.words[0] == '\0')
        snprintf(p->r.words, sizeof p->r.words, "%s: %s", path, what);
}

/* Its info as it has it itself. KL_ECORRUPT is counted, and *whole is false. */
static enum kl_code read_info(struct part *p, const char *path, struct blk_info *info, bool *whole,
                              struct kl_err *err)
{
    struct blk_fileset *f;
    enum kl_code        code = blk_fileset_open_store(p->b->store, path, &f, err);

    *whole = code == KL_OK;
    if (code == KL_ECORRUPT) {
        p->r.corrupt++;
        say(p, path, err->text);
        return KL_OK;
    }
    if (code == KL_ENOENT)
        return KL_OK;
    if (code != KL_OK)
        return kl_within(err, "fileset %s", path);
    *info = *blk_fileset_info(f);
    blk_fileset_unref(f);
    return KL_OK;
}

static int by_path(const void *key, const void *x)
{
    return strcmp(key, ((const struct found *)x)->path);
}

static int text_order(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static enum kl_code beside_manifest(struct part *p, struct kl_err *err)
{
    struct blk_manifest *m = &p->r.m;
    size_t               known_count;
    char                *text, **known = blk_manifest_paths(m, &known_count, &text);
    uint64_t             last = 0;
    enum kl_code         code = KL_OK;

    for (uint32_t i = 0; i < m->cut_count; i++)
        last = m->cuts[i].seq > last ? m->cuts[i].seq : last;
    for (uint32_t i = 0; i < m->fileset_count; i++) {
        char path[BLK_PATH_MAX + 1];

        blk_fileset_path(&m->filesets[i], path);
        if (bsearch(path, p->files, p->file_count, sizeof *p->files, by_path) == NULL) {
            p->r.missing++;
            say(p, path, "is in the manifest, but not in the store");
        }
    }
    for (size_t i = 0; i < p->file_count && code == KL_OK; i++) {
        const char     *path = p->files[i].path;
        struct blk_info info = { 0 };
        struct kl_err   unheard;
        bool            whole = false;

        if (bsearch(&path, known, known_count, sizeof *known, text_order) != NULL)
            continue;
        blk_fileset_path_parse(path, &info, &unheard);
        if (info.generation == 0 && info.id > last)
            code = read_info(p, path, &info, &whole, err);
        if (whole && info.incarnation == m->incarnation &&
            m->fileset_count < BLK_MANIFEST_FILESETS_MAX) {
            blk_manifest_add(m, &info);
            p->r.added++;
        } else {
            p->r.orphans++;
        }
    }
    p->r.as_is = p->r.added == 0;
    free(known);
    free(text);
    return code;
}

/* Does `a` hold all that `b` does? */
static bool holds(const struct blk_info *a, const struct blk_info *b)
{
    if (a->generation <= b->generation || a->resolution_ms != b->resolution_ms || a->incarnation != b->incarnation ||
        strcmp(a->tenant, b->tenant) != 0 || a->first_seq > b->first_seq || a->id < b->id)
        return false;
    if (a->window_ms == 0)
        return a->min_ms <= b->min_ms && a->max_ms >= b->max_ms;
    return a->window_start_ms <= b->min_ms && b->max_ms - a->window_start_ms < a->window_ms;
}

/* Has the fileset a series that the rollup has no rows of? Also where that cannot be told. */
static enum kl_code find_lack(struct part *p, const struct blk_info *info, const struct blk_info *roll, bool *lacks,
                              struct kl_err *err)
{
    const struct blk_info *infos[2] = { info, roll };
    struct blk_fileset    *f[2] = { NULL, NULL };
    struct blk_select     *s[2] = { NULL, NULL };
    struct blk_selected    a, b;
    char                   path[BLK_PATH_MAX + 1];
    enum kl_code           code = KL_OK, next;

    for (int i = 0; i < 2 && code == KL_OK; i++) {
        blk_fileset_path(infos[i], path);
        code = blk_fileset_open_store(p->b->store, path, &f[i], err);
        if (code == KL_OK)
            code = blk_select_open(f[i], NULL, 0, INT64_MIN, INT64_MAX, false, &s[i], err);
    }
    *lacks = code != KL_OK;
    next = code == KL_OK ? blk_select_next(s[1], &b, err) : code;
    while (!*lacks && (code = blk_select_next(s[0], &a, err)) == KL_OK) {
        while (next == KL_OK && kl_fp_cmp(b.fp, a.fp) < 0)
            next = blk_select_next(s[1], &b, err);
        *lacks = next != KL_OK || kl_fp_cmp(b.fp, a.fp) != 0;
    }
    if (code == KL_OK && next != KL_OK)
        code = next;
    if (code == KL_ENOENT || code == KL_ECORRUPT) {    /* corrupt: who reads it will say so */
        *lacks |= code == KL_ECORRUPT;
        code = KL_OK;
    }
    for (int i = 0; i < 2; i++) {
        if (s[i] != NULL)
            blk_select_close(s[i]);
        if (f[i] != NULL)
            blk_fileset_unref(f[i]);
    }
    return code == KL_OK ? KL_OK : kl_within(err, "fileset %s", path);
}

/* A rollup of the same name was made of it, and may have rows that it has no samples of any more: made anew of
 * these they would be lost. */
static enum kl_code say_rolled(struct part *p, struct kl_err *err)
{
    struct blk_manifest *m = &p->r.m;

    for (uint32_t i = 0; i < m->fileset_count; i++)
        for (unsigned k = 0; k < BLK_ROLLUPS_MAX && m->filesets[i].resolution_ms == 0; k++) {
            struct blk_info roll = m->filesets[i];
            uint32_t        at;

            roll.resolution_ms = blk_rollup_ms[k];
            at = blk_manifest_find(m, &roll);
            if (at == m->fileset_count)
                continue;
            m->filesets[i].rolled |= (uint8_t)(1u << k);
            m->filesets[at].carried = true;
            if (find_lack(p, &m->filesets[i], &m->filesets[at], &m->filesets[at].lacks, err) != KL_OK)
                return err->code;
        }
    return KL_OK;
}

static enum kl_code from_infos(struct part *p, struct kl_err *err)
{
    struct blk_info *infos = kl_resize(NULL, (p->file_count + 1) * sizeof *infos);
    size_t           count = 0;
    enum kl_code     code = KL_OK;
    bool             whole;

    for (size_t i = 0; i < p->file_count && code == KL_OK; i++) {
        code = read_info(p, p->files[i].path, &infos[count], &whole, err);
        count += code == KL_OK && whole;
    }
    for (size_t i = 0; i < count && code == KL_OK; i++) {
        size_t k = 0;

        while (k < count && !holds(&infos[k], &infos[i]))
            k++;
        if (k < count) {
            p->r.superseded++;
        } else if (p->r.m.fileset_count == BLK_MANIFEST_FILESETS_MAX) {
            code = kl_fail(err, KL_ELIMIT, "partition %04" PRIu32 ": more filesets than a manifest "
                           "holds", p->number);
        } else {
            blk_manifest_add(&p->r.m, &infos[i]);
            if (infos[i].incarnation > p->r.m.incarnation)     /* its creation time: the latest */
                p->r.m.incarnation = infos[i].incarnation;
        }
    }
    free(infos);
    if (code == KL_OK)
        code = say_rolled(p, err);
    p->r.m.partition = p->number;
    p->r.m.epoch = 1;
    p->r.m.replay_from = 1;
    return code;
}

/* Generations are numbered as revisions are: what a merge will make must not have a name that there is. */
static void beyond_generations(struct part *p)
{
    for (size_t i = 0; i < p->file_count; i++) {
        struct blk_info info = { 0 };
        struct kl_err   unheard;

        if (blk_fileset_path_parse(p->files[i].path, &info, &unheard) == KL_OK &&
            info.generation >> 16 >= p->r.revision_next)
            p->r.revision_next = (info.generation >> 16) + 1;
    }
}

static enum kl_code one_partition(struct part *p, bool *more, struct kl_err *err)
{
    bool         any = false;
    enum kl_code code = KL_OK;

    p->r.manifests = (uint32_t)p->manifest_count;
    p->r.revision_next = p->manifest_count > 0 ? p->manifests[0].revision + 1 : 1;
    beyond_generations(p);
    if (!p->b->filesets_only)
        code = find_manifest(p, &any, err);
    if (code == KL_OK)
        code = any ? beside_manifest(p, err) : from_infos(p, err);
    if (code == KL_OK && (any || p->r.m.fileset_count > 0 || p->r.corrupt > 0))
        *more = p->b->each(p->b->ctx, &p->r);
    blk_manifest_deinit(&p->r.m);
    return code;
}

enum kl_code blk_rebuild(const struct blk_rebuild *b, struct kl_err *err)
{
    struct finds f = { 0 };
    bool         more = true;
    enum kl_code code = b->store->list(b->store, "", listed, &f, err);

    if (code == KL_OK && f.count == FOUND_MAX)
        code = kl_fail(err, KL_ELIMIT, "more than %d filesets and manifests", FOUND_MAX);
    if (f.count > 0)
        qsort(f.at, f.count, sizeof *f.at, in_order);
    for (size_t from = 0, to; from < f.count && code == KL_OK && more; from = to) {
        struct part p = { .b = b, .number = f.at[from].partition, .manifests = f.at + from };

        for (to = from; to < f.count && f.at[to].partition == p.number; to++)
            p.manifest_count += f.at[to].path == NULL;
        p.files = f.at + from + p.manifest_count;
        p.file_count = to - from - p.manifest_count;
        code = one_partition(&p, &more, err);
    }
    for (size_t i = 0; i < f.count; i++)
        free(f.at[i].path);
    free(f.at);
    return code == KL_OK ? KL_OK : kl_within(err, "rebuild the catalogue");
}

enum kl_code blk_rebuilt_put(struct kl_store *store, struct blk_rebuilt *r, struct blk_pointer *at,
                             struct kl_err *err)
{
    *at = (struct blk_pointer){ .revision = r->m.revision, .epoch = r->m.epoch, .digest = r->digest };
    if (r->as_is)
        return KL_OK;
    r->m.revision = r->revision_next;
    return blk_manifest_put(store, &r->m, at, err);
}
