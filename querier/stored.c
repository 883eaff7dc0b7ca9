/*
 * The stored half of a partition: the catalogue, at least as new as the live answer says, names the
 * filesets; those of the tenant that overlap the range are opened (or found open) and selected
 * from on workers, a few at a time. A fileset that is gone was replaced meanwhile: the catalogue is
 * read anew and the partition's filesets once more; gone again, it is named in the answer.
 */
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

#include "querier/qr_priv.h"

enum { HERE_SERIES = 128, HERE_TEXTS = 4096 };         /* as many, or of as many, are selected on the loop */

static void pump(struct qr_part *p);

void qr_stored_free(struct qr_part *p)
{
    for (size_t i = 0; i < p->file_count; i++) {
        if (p->files[i].open.fileset != NULL)
            blk_fileset_unref(p->files[i].open.fileset);
        qr_source_free(p->f->job, p->files[i].source);
    }
    free(p->files);
    p->files = NULL;
    p->file_count = p->file_next = 0;
}

/* Exemplars go with the cut that finds them, whose samples may end a little before. */
enum { EXEMPLAR_SLACK_MS = 4 * 60 * 60 * 1000 };

static bool wanted(const struct qr_part *p, const struct blk_info *i)
{
    int64_t slack = p->f->what == TSP_SEL_EXEMPLARS ? EXEMPLAR_SLACK_MS : 0;

    return i->series_count > 0 && (i->resolution_ms == 0 || qr_rows_lone(p->f, &p->manifest->m, i)) &&
           i->min_ms - slack <= p->f->to_ms &&
           i->max_ms + slack >= p->f->from_ms && strcmp(i->tenant, p->f->job->tenant) == 0;
}

static int by_id(const void *a, const void *b)
{
    const struct blk_info *x = ((const struct qr_stored *)a)->info;
    const struct blk_info *y = ((const struct qr_stored *)b)->info;

    if (x->incarnation != y->incarnation)              /* its creation time: the later log is newer */
        return x->incarnation < y->incarnation ? -1 : 1;
    if (x->id != y->id)
        return x->id < y->id ? -1 : 1;
    return x->window_start_ms < y->window_start_ms ? -1 : x->window_start_ms > y->window_start_ms;
}

/* Those that their owner found corrupt are not opened: the answer says that it lacks them. */
static size_t name_quarantined(struct qr_part *p)
{
    size_t count = 0;
    char   path[BLK_PATH_MAX + 1];

    for (uint32_t i = 0; i < p->manifest->m.fileset_count; i++) {
        const struct blk_info *x = &p->manifest->m.filesets[i];

        if (!x->quarantined || !wanted(p, x))
            continue;
        count++;
        blk_fileset_path(x, path);
        qr_fetch_incomplete(p->f, "fileset %s is corrupt and in quarantine", path);
    }
    return count;
}

/* Only what was not there before is read ahead. */
static void leave_new(struct qr_part *p)
{
    size_t left = 0;

    for (size_t i = 0; i < p->file_count; i++)
        if (qr_ahead_wants(p->f, p, p->files[i].info))
            p->files[left++].info = p->files[i].info;
    p->file_count = left;
}

static void looked_up(struct qr_lookup *l)
{
    struct qr_part *p = kl_container_of(l, struct qr_part, lookup);
    size_t          count = 0;

    qr_manifest_unref(p->manifest);
    p->manifest = l->code == KL_OK ? l->manifest : NULL;
    l->manifest = NULL;
    if (p->f->job->ended) {
        qr_part_end(p);
        return;
    }
    if (p->f->what == TSP_SEL_PARTIAL) {
        if (l->code != KL_OK)
            qr_push_cannot(p->f, false, "partition %" PRIu32 ": its stored data: %s", p->partition, l->err.text);
        else if (qr_push_meets(p->f, p->manifest))
            qr_push_cannot(p->f, false, "filesets have samples of these times");
        qr_part_end(p);
        return;
    }
    if (l->code != KL_OK)
        qr_fetch_incomplete(p->f, "partition %" PRIu32 ": its stored data: %s", p->partition,
                            l->err.text);
    if (p->manifest == NULL || p->f->job->ended || p->f->what == TSP_SEL_MARKS) {
        qr_part_end(p);
        return;
    }
    for (uint32_t i = 0; i < p->manifest->m.fileset_count; i++)
        count += wanted(p, &p->manifest->m.filesets[i]);
    count -= name_quarantined(p);
    if (p->f->job->ended) {
        qr_part_end(p);
        return;
    }
    p->f->files_total += count;
    p->f->files_of_others += p->manifest->m.fileset_count - count;
    if (count > 0) {
        p->files = kl_new(count * sizeof *p->files);
        for (uint32_t i = 0; i < p->manifest->m.fileset_count; i++)
            if (wanted(p, &p->manifest->m.filesets[i]) && !p->manifest->m.filesets[i].quarantined)
                p->files[p->file_count++].info = &p->manifest->m.filesets[i];
        qsort(p->files, p->file_count, sizeof *p->files, by_id);
        for (size_t i = 0; i < p->file_count; i++)
            p->files[i].part = p;
        qr_rows_choose(p);
        if (p->f->ahead != NULL)
            leave_new(p);
        /* Each cut hands on all metadata that its head has: only that of metrics that nobody has sent
         * since is in older ones. */
        if (p->f->what == TSP_SEL_METADATA && p->file_count > QR_METADATA_FILES_MAX) {
            p->file_next = p->file_count - QR_METADATA_FILES_MAX;
            if (!p->f->quiet)
                qr_job_warn(p->f->job, "metadata of the %d newest filesets of each partition: what has "
                            "been sent in none of them is missing", QR_METADATA_FILES_MAX);
        }
    }
    pump(p);
}

static void look_up(struct qr_part *p, bool fresh)
{
    p->lookup.job = p->f->job;
    p->lookup.partition = p->partition;
    p->lookup.least = p->catalogue_revision;
    p->lookup.fresh = fresh;
    p->lookup.done = looked_up;
    qr_lookup_start(&p->lookup);
}

/* ---- one fileset ---- */

static void failed(struct qr_stored *x, enum kl_code code, const struct kl_err *err)
{
    struct qr_part *p = x->part;
    struct qr_job  *j = p->f->job;
    char            path[BLK_PATH_MAX + 1];

    if (j->ended)
        return;
    if (code == KL_ELIMIT) {
        qr_job_fail(j, PQL_EXECUTION, "%s", err->text);
        return;
    }
    qr_cache_forget(j->shard, x->info);
    /* One of its objects that is gone makes it corrupt: perhaps all of it is just being removed. */
    if ((code == KL_ENOENT || code == KL_ECORRUPT) && !p->reread) {
        p->file_missing = true;
        return;
    }
    if (p->f->ahead != NULL)                           /* who asks for it will say so */
        return;
    blk_fileset_path(x->info, path);
    if (code == KL_ECORRUPT)
        kl_count(j->q->m.filesets_corrupt, 1);
    kl_logf(j->q->o.log, KL_ERROR, "querier: fileset %s: %s", path, err->text);
    qr_fetch_incomplete(p->f, "fileset %s: %s", path, err->text);
    /* What was read of it before it broke may be half of a series: none of it is used. */
    qr_source_free(j, x->source);
    x->source = NULL;
}

static enum kl_code copy_series(struct qr_stored *x, const struct blk_selected *got,
                                struct kl_err *err)
{
    struct qr_job        *j = x->part->f->job;
    struct qr_source     *s = x->source;
    struct blk_chunk_ref *refs = NULL;
    size_t                bytes = got->labels.size;
    uint8_t              *at;

    for (uint32_t i = 0; i < got->chunk_count; i++)
        bytes += got->chunks[i].bytes.size;
    at = kl_arena_alloc(&s->arena, bytes > 0 ? bytes : 1);
    if (at != NULL && got->chunk_count > 0)
        refs = kl_arena_alloc(&s->arena, got->chunk_count * sizeof *refs);
    if (at == NULL || (got->chunk_count > 0 && refs == NULL))
        return qr_over_budget(j, err);
    memcpy(at, got->labels.at, got->labels.size);

    struct qr_found found = { .fp = got->fp, .labels = { at, got->labels.size }, .chunks = refs,
                              .chunk_count = got->chunk_count, .partition = s->partition,
                              .rows_ms = x->info->resolution_ms, .lone = x->lone, .of = x->of,
                              .window_start_ms = x->info->window_start_ms };

    at += got->labels.size;
    for (uint32_t i = 0; i < got->chunk_count; i++) {
        refs[i] = got->chunks[i];
        memcpy(at, got->chunks[i].bytes.at, got->chunks[i].bytes.size);
        refs[i].bytes.at = at;
        at += got->chunks[i].bytes.size;
    }
    return qr_source_found(j, s, &found, err);
}

static enum kl_code select_series(struct qr_stored *x, bool here, struct kl_err *err)
{
    struct qr_fetch    *f = x->part->f;
    struct blk_select  *s;
    struct blk_selected got;
    enum kl_code        code;
    unsigned            n = 0;

    code = here ? blk_select_open_kept(x->open.fileset, f->matchers, f->matcher_count, f->from_ms, f->to_ms,
                                       f->what == TSP_SEL_SERIES, HERE_SERIES, &s, err)
         : blk_select_open(x->open.fileset, f->matchers, f->matcher_count, f->from_ms, f->to_ms,
                           f->what == TSP_SEL_SERIES || qr_hidden_needs_chunks(x->hidden), &s, err);
    if (code != KL_OK)
        return code;
    while ((code = blk_select_next(s, &got, err)) == KL_OK) {
        if (++n % 64 == 0 && atomic_load_explicit(&f->job->stop, memory_order_relaxed))
            break;
        if (x->hidden != NULL) {
            bool left;

            code = qr_hidden_series(x->hidden, f, &got, &left, err);
            if (code != KL_OK)
                break;
            if (!left)
                continue;
        }
        if (f->what == TSP_SEL_SERIES && got.chunk_count == 0)
            continue;
        if (f->what == TSP_SEL_LABELS)
            got.chunk_count = 0;
        code = copy_series(x, &got, err);
        if (code != KL_OK)
            break;
        if (f->limit > 0 && x->source->count >= f->limit)
            break;
    }
    x->tally = blk_select_tally(s);
    blk_select_close(s);
    return code == KL_ENOENT ? KL_OK : code;
}

struct each_ctx { struct qr_stored *x; struct kl_err err; };

static struct kl_span copy(struct each_ctx *t, struct kl_span s)
{
    void *at = kl_arena_copy(&t->x->source->arena, s.at, s.size);

    if (at == NULL && t->err.code == KL_OK)
        qr_over_budget(t->x->part->f->job, &t->err);
    return kl_span(at, s.size);
}

static void each_text(void *ctx, struct kl_span text)
{
    struct each_ctx *t = ctx;

    if (t->err.code != KL_OK)
        return;
    text = copy(t, text);
    if (t->err.code == KL_OK)
        qr_source_text(t->x->part->f->job, t->x->source, text, &t->err);
}

static void each_meta(void *ctx, struct kl_span metric, uint8_t type, struct kl_span unit,
                      struct kl_span help)
{
    struct each_ctx *t = ctx;
    struct qr_meta   m = { .type = type };

    if (t->err.code != KL_OK)
        return;
    m.metric = copy(t, metric);
    m.unit = copy(t, unit);
    m.help = copy(t, help);
    if (t->err.code == KL_OK)
        qr_source_meta(t->x->part->f->job, t->x->source, &m, &t->err);
}

static enum kl_code select_texts(struct qr_stored *x, struct kl_err *err)
{
    struct qr_fetch       *f = x->part->f;
    struct each_ctx        t = { .x = x };
    struct blk_extras_each extras = { .metadata = each_meta, .ctx = &t };
    enum kl_code           code;

    if (f->what == TSP_SEL_METADATA)
        code = blk_fileset_extras(x->open.fileset, &extras, err);
    else if (x->hidden != NULL)
        code = qr_hidden_texts(x, f->what == TSP_SEL_NAMES ? kl_span(NULL, 0) : f->label, each_text, &t,
                               err);
    else if (f->what == TSP_SEL_NAMES)
        code = blk_fileset_names(x->open.fileset, f->matchers, f->matcher_count, each_text, &t,
                                 err);
    else
        code = blk_fileset_values(x->open.fileset, f->label, f->matchers, f->matcher_count,
                                  each_text, &t, err);
    if (code == KL_OK && t.err.code != KL_OK) {
        *err = t.err;
        code = t.err.code;
    }
    return code;
}

/* ---- exemplars: those of the fileset, then whose of them are wanted ---- */

struct run { struct kl_fp fp; int64_t time_ms; double value; struct kl_span labels; };
struct runs {
    struct qr_stored *x;
    struct kl_err err;
    struct run *at;
    size_t count, room;
};

static void each_exemplar(void *ctx, struct kl_fp fp, int64_t time_ms, double value,
                          struct kl_labels labels)
{
    struct runs      *t = ctx;
    struct qr_fetch  *f = t->x->part->f;
    void             *at;

    if (t->err.code != KL_OK || time_ms < f->from_ms || time_ms > f->to_ms)
        return;
    if (t->count == t->room) {
        size_t room = t->room == 0 ? 64 : t->room * 2;

        if (!kl_budget_take(&f->job->budget, (room - t->room) * sizeof *t->at)) {
            qr_over_budget(f->job, &t->err);
            return;
        }
        t->room = room;
        t->at = kl_resize(t->at, room * sizeof *t->at);
    }
    at = kl_arena_copy(&t->x->source->arena, labels.at, labels.size);
    if (at == NULL && labels.size > 0)
        qr_over_budget(f->job, &t->err);
    else
        t->at[t->count++] = (struct run){ fp, time_ms, value, kl_span(at, labels.size) };
}

static int by_series(const void *a, const void *b)
{
    const struct run *x = a, *y = b;
    int               c = kl_fp_cmp(x->fp, y->fp);

    return c != 0 ? c : x->time_ms < y->time_ms ? -1 : x->time_ms > y->time_ms;
}

/* A series' exemplars, as an owner would have sent them. */
static enum kl_code keep_exemplars(struct qr_stored *x, const struct blk_selected *got,
                                   struct run *runs, size_t count, struct kl_err *err)
{
    struct qr_job       *j = x->part->f->job;
    struct kl_arena     *arena = &x->source->arena;
    struct blk_chunk_ref ref = { .kind = TSP_CHUNK_EXEMPLARS };
    struct kl_buf        bytes = { 0 };
    struct qr_found      found = { .fp = got->fp, .chunk_count = 1,
                                   .partition = x->source->partition };
    size_t               left = 0;

    for (size_t i = 0; i < count; i++)
        if (x->hidden == NULL || !qr_hidden_at(x->hidden, got->labels, runs[i].time_ms))
            runs[left++] = runs[i];
    if ((count = left) == 0)
        return KL_OK;
    ref.first_ms = runs[0].time_ms;
    ref.last_ms = runs[count - 1].time_ms;
    ref.count = (uint32_t)count;
    for (size_t i = 0; i < count; i++)
        tsp_exemplar_put(&bytes, runs[i].time_ms, runs[i].value, runs[i].labels);
    ref.bytes = kl_span(kl_arena_copy(arena, bytes.at, bytes.size), bytes.size);
    kl_buf_deinit(&bytes);
    found.labels = (struct kl_labels){ kl_arena_copy(arena, got->labels.at, got->labels.size),
                                       got->labels.size };
    found.chunks = kl_arena_copy(arena, &ref, sizeof ref);
    if (ref.bytes.at == NULL || found.labels.at == NULL || found.chunks == NULL)
        return qr_over_budget(j, err);
    return qr_source_found(j, x->source, &found, err);
}

static enum kl_code match_exemplars(struct qr_stored *x, struct runs *t, struct kl_err *err)
{
    struct qr_fetch    *f = x->part->f;
    struct blk_select  *s;
    struct blk_selected got;
    enum kl_code        code;
    size_t              at = 0, n;

    code = blk_select_open(x->open.fileset, f->matchers, f->matcher_count, INT64_MIN, INT64_MAX,
                           false, &s, err);
    if (code != KL_OK)
        return code;
    while (at < t->count && (code = blk_select_next(s, &got, err)) == KL_OK) {
        while (at < t->count && kl_fp_cmp(t->at[at].fp, got.fp) < 0)
            at++;
        for (n = 0; at + n < t->count && kl_fp_cmp(t->at[at + n].fp, got.fp) == 0; n++)
            ;
        if (n > 0 && (code = keep_exemplars(x, &got, t->at + at, n, err)) != KL_OK)
            break;
        at += n;
    }
    x->tally = blk_select_tally(s);
    blk_select_close(s);
    return code == KL_ENOENT ? KL_OK : code;
}

static enum kl_code select_exemplars(struct qr_stored *x, struct kl_err *err)
{
    struct runs            t = { .x = x };
    struct blk_extras_each extras = { .exemplar = each_exemplar, .ctx = &t };
    enum kl_code           code = blk_fileset_extras(x->open.fileset, &extras, err);

    if (code == KL_OK && t.err.code != KL_OK) {
        *err = t.err;
        code = t.err.code;
    }
    if (code == KL_OK && t.count > 0) {
        qsort(t.at, t.count, sizeof *t.at, by_series);
        code = match_exemplars(x, &t, err);
    }
    kl_budget_give(&x->part->f->job->budget, t.room * sizeof *t.at);
    free(t.at);
    return code;
}

/* All that was wanted of the fileset, or why not. */
static void took(struct qr_stored *x)
{
    struct qr_part *p = x->part;
    struct qr_job  *j = p->f->job;

    blk_fileset_unref(x->open.fileset);
    x->open.fileset = NULL;
    blk_tally_add(&p->f->tally, &x->tally);
    if (p->f->ahead != NULL)
        qr_ahead_read(x);
    else
        qr_cache_tally(j->shard, &x->tally);
    if (x->code != KL_OK)
        failed(x, x->code, &x->err);
    qr_cache_trim(j->shard);
}

static void selected(struct kl_env_task *task)
{
    struct qr_stored *x = kl_container_of(task, struct qr_stored, task);
    struct qr_part   *p = x->part;
    struct qr_job    *j = p->f->job;

    took(x);
    p->files_out--;
    pump(p);
    qr_drop(j);
}

static void select_work(struct kl_env_task *task)
{
    struct qr_stored *x = kl_container_of(task, struct qr_stored, task);
    struct qr_fetch  *f = x->part->f;

    if (f->ahead != NULL) {
        qr_ahead_select(x);
        task->run = selected;
        f->job->q->env->sched->post(f->job->shard->loop, task);
        return;
    }
    x->hidden = qr_hidden_new(&x->part->manifest->m, x->info);
    if (f->what == TSP_SEL_SERIES || f->what == TSP_SEL_LABELS)
        x->code = select_series(x, false, &x->err);
    else if (f->what == TSP_SEL_EXEMPLARS)
        x->code = select_exemplars(x, &x->err);
    else
        x->code = select_texts(x, &x->err);
    qr_hidden_free(x->hidden);
    x->hidden = NULL;
    task->run = selected;
    f->job->q->env->sched->post(f->job->shard->loop, task);
}

/* On the loop, which may not wait: what is in memory, where it is too little for a hop to a worker and
 * back. False: nothing has been done. */
static bool select_here(struct qr_stored *x)
{
    struct qr_fetch *f = x->part->f;
    struct qr_job   *j = f->job;
    bool             texts = f->what == TSP_SEL_NAMES || f->what == TSP_SEL_VALUES;

    if (x->part->manifest->m.deletion_count > 0)
        return false;
    if (texts ? f->matcher_count > 0 || blk_fileset_info(x->open.fileset)->series_count > HERE_TEXTS
              : f->what != TSP_SEL_SERIES && f->what != TSP_SEL_LABELS)
        return false;
    x->code = texts ? select_texts(x, &x->err) : select_series(x, true, &x->err);
    if (x->code == KL_EAGAIN) {
        qr_source_free(j, x->source);
        x->source = NULL;
        x->tally = (struct blk_tally){ 0 };
        return false;
    }
    took(x);
    return true;
}

/* The fileset is open: can it hold anything that is wanted? Then a worker selects from it. */
static void begin_select(struct qr_stored *x)
{
    struct qr_fetch *f = x->part->f;
    struct qr_job   *j = f->job;
    struct kl_span   metric = qr_fetch_metric(f);

    if (j->ended || (metric.size > 0 && !blk_fileset_has_metric(x->open.fileset, metric))) {
        f->files_pruned++;
        if (f->ahead != NULL)
            qr_ahead_read(x);                          /* its opening */
        blk_fileset_unref(x->open.fileset);
        x->open.fileset = NULL;
        return;
    }
    if (f->ahead == NULL) {
        kl_count(j->q->m.filesets_read, 1);
        x->read = true;
        x->source = qr_source_new(j, x->part->partition, x->info->id);
        if (select_here(x))
            return;
        if (x->source == NULL)
            x->source = qr_source_new(j, x->part->partition, x->info->id);
    }
    x->task.run = select_work;
    x->part->files_out++;
    qr_hold(j);
    j->q->env->sched->errand(j->q->env->sched, &x->task);
}

static void opened(struct qr_open *o)
{
    struct qr_stored *x = kl_container_of(o, struct qr_stored, open);
    struct qr_part   *p = x->part;

    blk_tally_add(&p->f->tally, &(struct blk_tally){ .index = o->took });
    if (o->code == KL_OK)
        begin_select(x);
    else
        failed(x, o->code, &o->err);
    p->files_out--;
    pump(p);
}

static void pump(struct qr_part *p)
{
    struct qr_job *j = p->f->job;
    size_t         most = p->f->ahead != NULL ? 1 : j->q->workers + 1;

    while (!j->ended && p->file_next < p->file_count && p->files_out < most) {
        struct qr_stored *x = &p->files[p->file_next++];

        if (p->f->ahead != NULL && !qr_ahead_may(p->f))
            continue;

        x->open.fileset = qr_cache_get(j->shard, x->info);
        if (x->open.fileset != NULL) {
            begin_select(x);
        } else {
            x->open.job = j;
            x->open.info = x->info;
            x->open.done = opened;
            p->files_out++;
            qr_open_start(&x->open);
        }
    }
    if (p->files_out > 0)
        return;
    if (p->file_missing && !p->reread && !j->ended) {
        p->reread = true;
        qr_stored_free(p);
        look_up(p, true);
        return;
    }
    qr_part_end(p);
}

void qr_stored_start(struct qr_part *p)
{
    look_up(p, false);
}
