#include "koalemos/import_priv.h"

#include "libkoal/base/hash.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- what a run before left ---- */

struct paths { char **at; size_t count, room; };

static void found(void *ctx, const char *path)
{
    struct paths *p = ctx;

    if (p->count == p->room) {
        p->room = p->room == 0 ? 16 : p->room * 2;
        p->at = kl_resize(p->at, p->room * sizeof *p->at);
    }
    p->at[p->count++] = kl_strdup(path);
}

enum kl_code import_clear(struct kl_env_dir *filesets, struct kl_err *err)
{
    struct paths p = { 0 };
    enum kl_code code = blk_fileset_scan(filesets, found, found, &p, err);

    for (size_t i = 0; i < p.count; i++) {
        if (code == KL_OK && (code = blk_fileset_remove(filesets, p.at[i], err)) == KL_ENOENT)
            code = KL_OK;
        free(p.at[i]);
    }
    free(p.at);
    return code == KL_OK ? KL_OK : kl_within(err, "what an earlier run left");
}

/* ---- a series into chunks ---- */

struct encoded { struct kl_buf bytes; struct blk_chunk_ref *refs; uint32_t count, room; };

static void encode_run(struct encoded *e, const struct import_sample *s, uint32_t count)
{
    int64_t        times[BLK_CHUNK_MAX];
    double         values[BLK_CHUNK_MAX];
    struct kl_hist hists[BLK_CHUNK_MAX];
    size_t         before = e->bytes.size;
    bool           floats = s->hist == NULL;

    for (uint32_t i = 0; i < count; i++) {
        times[i] = s[i].time_ms;
        values[i] = s[i].value;
        if (!floats)
            hists[i] = *s[i].hist;
    }
    if (floats)                                        /* the writer chooses, and cuts, anew */
        blk_chunk_encode_quick(times, values, NULL, count, &e->bytes);
    else
        blk_chunk_encode_hists(times, hists, NULL, count, &e->bytes);
    if (e->count == e->room) {
        e->room = e->room == 0 ? 16 : e->room * 2;
        e->refs = kl_resize(e->refs, e->room * sizeof *e->refs);
    }
    /* The offset for now: the bytes may still move. */
    e->refs[e->count++] = (struct blk_chunk_ref){ .bytes = kl_span((void *)before, e->bytes.size - before),
                                                  .first_ms = times[0], .last_ms = times[count - 1],
                                                  .count = count, .kind = floats ? BLK_FLOATS : BLK_HISTS };
}

static void encode(struct encoded *e, const struct import_sample *s, size_t count)
{
    kl_buf_reset(&e->bytes);
    e->count = 0;
    for (size_t i = 0, n; i < count; i += n) {
        for (n = 1; n < BLK_CHUNK_MAX && i + n < count &&
                    (s[i + n].hist == NULL) == (s[i].hist == NULL); n++)
            ;
        encode_run(e, s + i, (uint32_t)n);
    }
    for (uint32_t i = 0; i < e->count; i++)
        e->refs[i].bytes.at = e->bytes.at + (uintptr_t)e->refs[i].bytes.at;
}

/* ---- one window and partition ---- */

struct part { struct import_job *j; struct blk_info info; };

/* Above the ids of all imports before it: then of two for one time the later one's wins. */
static enum kl_code choose_id(struct part *p, struct kl_err *err)
{
    struct blk_manifest m = { 0 };
    uint64_t            unheard, id = (uint64_t)kl_env_now_ms(p->j->reach->app->env) << 16;

    if (reach_manifest(p->j->reach, p->info.partition, &m, &unheard, err) != KL_OK)
        return err->code;
    for (uint32_t i = 0; i < m.fileset_count; i++)
        if (m.filesets[i].incarnation == 0 && m.filesets[i].id >= id)
            id = m.filesets[i].id + 1;
    blk_manifest_deinit(&m);
    p->info.id = p->info.first_seq = id;
    return KL_OK;
}

static enum kl_code write_rows(struct part *p, const struct import_row *rows, uint32_t count,
                               bool *any, struct kl_err *err)
{
    struct import_job   *j = p->j;
    struct import_block *b = j->block;
    struct encoded       e = { 0 };
    struct blk_writer   *w = NULL;
    enum kl_code         code = KL_OK;

    for (uint32_t i = 0; i < count && code == KL_OK; i++) {
        struct kl_labels labels;

        code = import_block_samples(b, &rows[i], p->info.window_start_ms,
                                    p->info.window_start_ms + p->info.window_ms, &labels, err);
        if (code != KL_OK || b->sample_count == 0)
            continue;
        if (w == NULL && (code = blk_writer_open(j->filesets, &p->info, &w, err)) != KL_OK)
            break;
        encode(&e, b->samples_at, b->sample_count);
        code = blk_writer_series(w, labels, kl_labels_fp(labels), e.refs, e.count, err);
    }
    kl_buf_deinit(&e.bytes);
    free(e.refs);
    *any = w != NULL;
    if (w != NULL && code != KL_OK)
        blk_writer_abandon(w);
    else if (w != NULL)
        code = blk_writer_finish(w, &p->info, err);
    return code;
}

static enum kl_code change(void *ctx, struct blk_manifest *m, struct kl_err *err)
{
    const struct part *p = ctx;
    struct blk_info    info = p->info;
    char               path[BLK_PATH_MAX + 1];

    if (blk_manifest_find(m, &p->info) < m->fileset_count)
        return KL_EEXIST;
    for (uint32_t i = 0; i < m->fileset_count; i++)
        if (m->filesets[i].incarnation == 0 && m->filesets[i].id >= p->info.id)
            return kl_fail(err, KL_EAGAIN, "another import is under way: wait for its end, then go on with this");
    if (m->fileset_count == BLK_MANIFEST_FILESETS_MAX)
        return kl_fail(err, KL_ELIMIT, "the catalogue holds no more than %d filesets of a partition",
                       BLK_MANIFEST_FILESETS_MAX);
    blk_fileset_path(&p->info, path);
    blk_manifest_here(m, path);
    info.obeyed = m->deletions_made;                   /* what was deleted before is not meant by it */
    blk_manifest_add(m, &info);
    return KL_OK;
}

static enum kl_code write_part(struct part *p, const struct import_row *rows, uint32_t count,
                               struct kl_err *err)
{
    struct import_job *j = p->j;
    struct import_step step = { .window_ms = p->info.window_start_ms, .partition = p->info.partition };
    char               path[BLK_PATH_MAX + 1];
    bool               any = false;
    enum kl_code       code;

    if (choose_id(p, err) != KL_OK || write_rows(p, rows, count, &any, err) != KL_OK)
        return err->code;
    step.id = any ? p->info.id : 0;
    /* Before the store has it: a run after a crash must find it. */
    if (import_progress_add(&j->progress, &step, err) != KL_OK)
        return err->code;
    if (!any)
        return KL_OK;
    blk_fileset_path(&p->info, path);
    if (blk_fileset_upload(j->filesets, path, j->reach->store, err) != KL_OK)
        return err->code;
    code = reach_commit(j->reach, p->info.partition, change, p, err);
    if (code != KL_OK && code != KL_EEXIST)
        return code;
    j->filesets_made++;
    j->samples_made += p->info.sample_count;
    return blk_fileset_remove(j->filesets, path, err);
}

/* ---- all of a block ---- */

/* Of the last step it is not known whether it was committed. */
static enum kl_code settle_last(struct import_job *j, struct kl_err *err)
{
    const struct import_step *s = &j->progress.at[j->progress.count - 1];
    struct blk_info           info = { .partition = s->partition, .window_start_ms = s->window_ms,
                                       .id = s->id };
    struct blk_manifest       m = { 0 };
    uint64_t                  unheard;
    char                      path[BLK_PATH_MAX + 1];
    bool                      there = s->id == 0;

    memcpy(info.tenant, j->tenant, strlen(j->tenant) + 1);
    if (s->partition >= j->reach->partitions)
        return kl_fail(err, KL_ECORRUPT, "%s speaks of a partition that is none", j->progress.name);
    if (reach_manifest(j->reach, s->partition, &m, &unheard, err) != KL_OK)
        return err->code;
    /* Itself, or what it was merged into since. */
    for (uint32_t i = 0; i < m.fileset_count && !there; i++) {
        const struct blk_info *f = &m.filesets[i];

        there = f->incarnation == 0 && f->first_seq <= s->id && f->id >= s->id &&
                strcmp(f->tenant, j->tenant) == 0 && f->window_start_ms <= s->window_ms &&
                f->window_ms > s->window_ms - f->window_start_ms;
    }
    blk_manifest_deinit(&m);
    if (there)
        return KL_OK;
    blk_fileset_path(&info, path);
    if (blk_fileset_remove_stored(j->reach->store, path, err) != KL_OK)
        return err->code;
    return import_progress_drop_last(&j->progress, err);
}

static enum kl_code write_window(struct import_job *j, int64_t start_ms, struct kl_err *err)
{
    struct import_block *b = j->block;

    for (uint32_t from = 0, to; from < b->count; from = to) {
        struct part p = { .j = j, .info = { .partition = b->rows[from].partition,
                                            .window_start_ms = start_ms, .window_ms = b->window_ms } };

        for (to = from + 1; to < b->count && b->rows[to].partition == b->rows[from].partition; to++)
            ;
        if (import_progress_has(&j->progress, start_ms, p.info.partition))
            continue;
        memcpy(p.info.tenant, j->tenant, strlen(j->tenant) + 1);
        if (write_part(&p, b->rows + from, to - from, err) != KL_OK)
            return kl_within(err, "partition %04" PRIu32, p.info.partition);
    }
    return KL_OK;
}

enum kl_code import_write(struct import_job *j, struct kl_err *err)
{
    const struct import_block *b = j->block;

    if (j->progress.count > 0 && settle_last(j, err) != KL_OK)
        return err->code;
    if (j->progress.was_cut != j->progress.cut) {
        kl_logf(b->log, KL_WARN, "import: block %s: its series are to land elsewhere than when it was begun, so it begins "
                "anew", b->meta->ulid);
        if (import_progress_anew(&j->progress, err) != KL_OK)
            return err->code;
    }
    for (uint32_t i = 0; i < b->window_count; i++) {
        int64_t start_ms = b->first_window_ms + (int64_t)i * b->window_ms;

        if (b->windows[i] == 0)
            continue;
        if (start_ms + b->window_ms <= j->oldest_ms)
            j->windows_old++;
        else if (write_window(j, start_ms, err) != KL_OK)
            return kl_within(err, "window of %" PRId64 " ms", start_ms);
        j->told(j->ctx, i + 1, b->window_count);
    }
    return KL_OK;
}
