/*
 * A fetch: everything of one tenant that matches one selector. It plans the partitions from the
 * placement table, lets each partition go its way (live.c, then stored.c), and merges what they
 * found. Answers that name a newer placement table make it read the table again and ask the
 * partitions that the newer one adds, before it is done.
 */
#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "querier/qr_priv.h"

static void go_on(struct qr_fetch *f);

/* ---- sources ---- */

struct qr_source *qr_source_new(struct qr_job *j, uint32_t partition, uint64_t order)
{
    struct qr_source *s = kl_new(sizeof *s);

    s->partition = partition;
    s->order = order;
    kl_arena_init(&s->arena, j->budget.cap_bytes);
    return s;
}

void qr_source_free(struct qr_job *j, struct qr_source *s)
{
    if (s == NULL)
        return;
    kl_budget_give(&j->budget, s->charged);
    kl_arena_deinit(&s->arena);
    free(s->found);
    free(s->texts);
    free(s->metas);
    free(s);
}

enum kl_code qr_over_budget(const struct qr_job *j, struct kl_err *err)
{
    return kl_fail(err, KL_ELIMIT, "the query needs more memory than its %zu MiB for what it "
                   "selects: narrow its selectors or its range", j->budget.cap_bytes >> 20);
}

enum kl_code qr_source_charge(struct qr_job *j, struct qr_source *s, struct kl_err *err)
{
    size_t now = s->arena.used_bytes + s->room * sizeof *s->found +
                 s->text_room * sizeof *s->texts + s->meta_room * sizeof *s->metas;

    if (now > s->charged) {
        if (!kl_budget_take(&j->budget, now - s->charged))
            return qr_over_budget(j, err);
        s->charged = now;
    }
    return KL_OK;
}

enum kl_code qr_source_found(struct qr_job *j, struct qr_source *s, const struct qr_found *found,
                             struct kl_err *err)
{
    if (s->count == s->room) {
        s->room = s->room == 0 ? 64 : s->room * 2;
        s->found = kl_resize(s->found, s->room * sizeof *s->found);
    }
    s->found[s->count++] = *found;
    return qr_source_charge(j, s, err);
}

enum kl_code qr_source_text(struct qr_job *j, struct qr_source *s, struct kl_span text,
                            struct kl_err *err)
{
    if (s->text_count == s->text_room) {
        s->text_room = s->text_room == 0 ? 64 : s->text_room * 2;
        s->texts = kl_resize(s->texts, s->text_room * sizeof *s->texts);
    }
    s->texts[s->text_count++] = text;
    return qr_source_charge(j, s, err);
}

enum kl_code qr_source_meta(struct qr_job *j, struct qr_source *s, const struct qr_meta *meta,
                            struct kl_err *err)
{
    if (s->meta_count == s->meta_room) {
        s->meta_room = s->meta_room == 0 ? 64 : s->meta_room * 2;
        s->metas = kl_resize(s->metas, s->meta_room * sizeof *s->metas);
    }
    s->metas[s->meta_count++] = *meta;
    return qr_source_charge(j, s, err);
}

/* ---- what is missing ---- */

void qr_fetch_incomplete(struct qr_fetch *f, const char *fmt, ...)
{
    char    text[560];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (f->probe) {
        f->probe_failed = true;
        return;
    }
    kl_count(f->job->q->m.partial, 1);
    if (f->job->partial)
        qr_job_warn(f->job, "the answer is incomplete: %s", text);
    else
        qr_job_fail(f->job, PQL_UNAVAILABLE, "%s", text);
}

/* ---- the plan ---- */

struct kl_span qr_fetch_metric(const struct qr_fetch *f)
{
    static const char name[] = "__name__";

    for (size_t i = 0; i < f->matcher_count; i++) {
        const struct kl_matcher *m = &f->matchers[i];

        if (m->op == KL_MATCH_EQ && m->value.size > 0 &&
            kl_span_eq(m->name, kl_span(name, sizeof name - 1)))
            return m->value;
    }
    return kl_span(NULL, 0);
}

/* The names that a regex on __name__ can only mean; 0 when it has no such matcher. */
static size_t metric_set(const struct qr_fetch *f, const struct kl_span **set)
{
    static const char name[] = "__name__";

    for (size_t i = 0; i < f->matcher_count; i++) {
        const struct kl_matcher *m = &f->matchers[i];
        size_t                   count;

        if (m->op != KL_MATCH_RE || !kl_span_eq(m->name, kl_span(name, sizeof name - 1)))
            continue;
        count = kl_regex_set(m->re, set);
        for (size_t k = 0; k < count; k++)
            if ((*set)[k].size == 0)                   /* also series without a name */
                count = 0;
        if (count > 0)
            return count;
    }
    return 0;
}

static void add_part(struct qr_fetch *f, uint32_t partition)
{
    struct qr_part *p;

    if (f->asked[partition / 8] & 1u << partition % 8)
        return;
    f->asked[partition / 8] |= (uint8_t)(1u << partition % 8);
    p = kl_new(sizeof *p);
    p->f = f;
    p->partition = partition;
    p->trace = kl_trace_child(f->job->q->o.tracer, &f->job->trace);
    p->begun_ns = p->trace.on ? kl_env_mono_ns(f->job->q->env) : 0;
    f->parts = kl_resize(f->parts, (f->part_count + 1) * sizeof *f->parts);
    f->parts[f->part_count++] = p;
    qr_losses_warn(f, partition);
}

static void add_range(struct qr_fetch *f, struct kl_span tenant, struct kl_span metric)
{
    uint32_t layouts[TSP_LAYOUTS_MAX], first, count;
    unsigned layout_count = tsp_placement_layouts(f->table->placement, f->from_ms, layouts);

    for (unsigned k = 0; k < layout_count; k++) {
        tsp_placement_range_of(f->table->placement, layouts[k], tenant, metric, &first, &count);
        for (uint32_t i = 0; i < count; i++)
            add_part(f, (first + i) % layouts[k]);
    }
}

static void plan(struct qr_fetch *f)
{
    uint32_t              all = tsp_placement_partitions(f->table->placement);
    struct kl_span        tenant = kl_span_str(f->job->tenant), metric = qr_fetch_metric(f);
    const struct kl_span *set;
    size_t                set_count;

    f->placement_revision = tsp_placement_revision(f->table->placement);
    if (all > f->asked_of) {
        f->asked = kl_resize(f->asked, all / 8 + 1);
        memset(f->asked + (f->asked_of == 0 ? 0 : f->asked_of / 8 + 1), 0,
               all / 8 + 1 - (f->asked_of == 0 ? 0 : f->asked_of / 8 + 1));
        f->asked_of = all;
    }
    if (metric.size > 0) {
        add_range(f, tenant, metric);
    } else if ((set_count = metric_set(f, &set)) > 0) {
        for (size_t i = 0; i < set_count; i++)
            add_range(f, tenant, set[i]);
    } else {
        for (uint32_t i = 0; i < all; i++)
            add_part(f, i);
    }
}

void qr_fetch_plan(struct qr_fetch *f)
{
    f->table = qr_table_ref(f->job->shard->table);
    plan(f);
}

/* ---- merging ---- */

/* Everything that was found goes; then it begins anew, without rollups, or for series in place of an
 * aggregate. */
static void restart(struct qr_fetch *f)
{
    struct qr_fetch anew = { .job = f->job, .what = f->what, .matchers = f->matchers,
                             .matcher_count = f->matcher_count, .from_ms = f->from_ms, .to_ms = f->to_ms,
                             .label = f->label, .limit = f->limit, .quiet = f->quiet, .done = f->done,
                             .id = f->id, .later = f->later, .fold = f->fold, .fold_ms = f->fold_ms,
                             .range_ms = f->range_ms, .rows_max_ms = f->rows_max_ms, .no_rows = true };

    memcpy(anew.unpushed, f->unpushed, sizeof anew.unpushed);
    if (f->what == TSP_SEL_PARTIAL) {
        anew.what = TSP_SEL_SERIES;
        anew.no_rows = false;
        kl_count(f->job->q->m.pushes_refused, 1);
    }
    qr_fetch_deinit(f);
    *f = anew;
    qr_fetch_start(f);
}

static void again(struct kl_env_task *task)
{
    struct qr_fetch *f = kl_container_of(task, struct qr_fetch, task);
    struct qr_job   *j = f->job;

    if (!j->ended)
        restart(f);
    qr_drop(j);
}

static void merged(struct kl_env_task *task)
{
    struct qr_fetch *f = kl_container_of(task, struct qr_fetch, task);
    struct qr_job   *j = f->job;

    if (f->what == TSP_SEL_PARTIAL && f->merge_err.code != KL_OK)
        qr_push_cannot(f, true, "%s", f->merge_err.text);
    if (!j->ended && ((f->what == TSP_SEL_PARTIAL && !f->pushed) ||
                      (f->merge_err.code == KL_OK && qr_rows_clash(f)))) {
        task->run = again;                             /* not here: its parts may be on their way out yet */
        j->q->env->sched->post(j->shard->loop, task);
        return;
    }
    if (f->merge_err.code != KL_OK)
        qr_job_fail(j, qr_kind_of(f->merge_err.code), "%s", f->merge_err.text);
    if (!j->ended)
        f->done(f);
    qr_drop(j);
}

static void merge(struct qr_fetch *f)
{
    if (f->what == TSP_SEL_PARTIAL)
        qr_push_take(f);
    else
        qr_merge(f);
}

static void merge_work(struct kl_env_task *task)
{
    struct qr_fetch *f = kl_container_of(task, struct qr_fetch, task);

    merge(f);
    task->run = merged;
    f->job->q->env->sched->post(f->job->shard->loop, task);
}

static void collect(struct qr_fetch *f)
{
    size_t bytes = f->page_bytes;

    for (size_t i = 0; i < f->source_count; i++)
        bytes += f->sources[i]->charged;
    if (bytes < QR_INLINE_BYTES) {
        merge(f);
        merged(&f->task);                              /* drops the fetch's hold */
    } else {
        f->task.run = merge_work;
        f->job->q->env->sched->work(f->job->q->env->sched, &f->task);
    }
}

static void reread_done(struct qr_reread *r)
{
    struct qr_fetch *f = kl_container_of(r, struct qr_fetch, reread);
    struct qr_shard *s = f->job->shard;

    f->placement_reread = true;
    if (f->job->ended) {
        go_on(f);
        return;
    }
    if (r->code != KL_OK) {
        qr_fetch_incomplete(f, "the placement table has changed and cannot be read: %s",
                            r->err.text);
    } else {
        if (f->placement_revision > s->placement_seen)
            s->placement_seen = f->placement_revision;
        qr_table_unref(f->table);
        f->table = qr_table_ref(s->table);
        plan(f);
    }
    go_on(f);
}

static bool same_owner(const struct qr_fetch *f, const struct qr_part *a, const struct qr_part *b)
{
    const char *of_a, *of_b;

    return tsp_placement_members(f->table->placement, a->partition, &of_a, 1) > 0 &&
           tsp_placement_members(f->table->placement, b->partition, &of_b, 1) > 0 &&
           strcmp(of_a, of_b) == 0;
}

/* Those of the next `count` partitions that one owner has, together. */
static void start_parts(struct qr_fetch *f, size_t count)
{
    struct qr_part *group[TSP_ALSO_MAX + 1], **next = f->parts + f->part_next;
    bool            taken[QR_PARTS_ACTIVE_MAX] = { false };

    f->part_next += count;
    f->parts_active += count;
    for (size_t i = 0; i < count && f->ahead != NULL; i++)
        qr_stored_start(next[i]);
    if (f->ahead != NULL)
        return;
    for (size_t i = 0; i < count; i++) {
        uint32_t n = 0;

        if (taken[i])
            continue;
        group[n++] = next[i];
        for (size_t k = i + 1; k < count && n < TSP_ALSO_MAX + 1; k++)
            if (!taken[k] && f->job->after_count == 0 && f->what != TSP_SEL_PARTIAL && same_owner(f, next[i], next[k])) {
                group[n++] = next[k];
                taken[k] = true;
            }
        qr_live_start(f, group, n);
    }
}

/* Starts partitions while it may; when all are done, re-plans or merges. */
static void go_on(struct qr_fetch *f)
{
    struct qr_job *j = f->job;
    size_t         most = f->ahead != NULL ? QR_AHEAD_PARTS_MAX : QR_PARTS_ACTIVE_MAX;

    f->starting = true;                                /* one that fails at once must not re-enter */
    while (!j->ended && f->parts_active < most && f->part_next < f->part_count &&
           (f->what != TSP_SEL_PARTIAL || f->unpushed[0] == '\0')) {
        size_t room = most - f->parts_active, left = f->part_count - f->part_next;

        start_parts(f, left < room ? left : room);
    }
    f->starting = false;
    if (f->parts_active > 0)
        return;
    if (f->what == TSP_SEL_PARTIAL && f->placement_revision > tsp_placement_revision(f->table->placement))
        qr_push_cannot(f, false, "the placement table has changed");
    if (j->ended) {
        qr_drop(j);
    } else if (f->what == TSP_SEL_PARTIAL && f->unpushed[0] != '\0') {
        f->task.run = again;
        j->q->env->sched->post(j->shard->loop, &f->task);
    } else if (f->parts_failed == f->part_count && f->part_count > 0 && !f->probe) {
        if (qr_job_left_ms(j) == 0)
            qr_job_fail(j, PQL_TIMEOUT, "query timed out in expression evaluation");
        else
            qr_job_fail(j, PQL_UNAVAILABLE, "no partition answered: %s", f->last_err.text);
        qr_drop(j);
    } else if (!f->placement_reread && f->placement_revision > j->shard->placement_seen &&
               f->placement_revision > tsp_placement_revision(f->table->placement)) {
        f->reread.job = j;
        f->reread.done = reread_done;
        qr_placement_reread(&f->reread);
    } else if (f->probe) {
        f->probe_failed = f->probe_failed || f->parts_failed > 0;
        f->done(f);
        qr_drop(j);
    } else {
        collect(f);
    }
}

void qr_parts_begin(struct qr_fetch *f)
{
    f->starting = true;
}

void qr_parts_end(struct qr_fetch *f)
{
    f->starting = false;
    if (f->parts_active == 0 || f->part_next < f->part_count)
        go_on(f);
}

void qr_part_end(struct qr_part *p)
{
    struct qr_fetch *f = p->f;

    qr_told_part(p);
    f->parts_active--;
    if (!f->starting)
        qr_parts_end(f);
}

void qr_fetch_start(struct qr_fetch *f)
{
    struct qr_job *j = f->job;

    if (!atomic_load(&j->shard->placement_known)) {
        qr_job_fail(j, PQL_UNAVAILABLE, "the placement table has not been read yet");
        return;
    }
    if (f->matcher_count > TSP_MATCHERS_MAX) {
        qr_job_fail(j, PQL_BAD_DATA, "a selector has %zu matchers, at most %d are taken",
                    f->matcher_count, TSP_MATCHERS_MAX);
        return;
    }
    f->table = qr_table_ref(j->shard->table);
    f->select = kl_new(sizeof *f->select);
    f->select->what = f->what;
    f->select->tenant = kl_span_str(j->tenant);
    f->select->matcher_count = (uint32_t)f->matcher_count;
    if (f->matcher_count > 0)
        memcpy(f->select->matchers, f->matchers, f->matcher_count * sizeof *f->matchers);
    f->select->from_ms = f->from_ms;
    f->select->to_ms = f->to_ms;
    f->select->label = f->label;
    f->select->limit = f->limit;
    f->select->request_id = kl_span_str(j->request_id);
    plan(f);
    qr_push_plan(f);
    qr_hold(j);                                        /* the fetch's own, until merged */
    go_on(f);
}

void qr_fetch_deinit(struct qr_fetch *f)
{
    struct qr_job *j = f->job;

    for (size_t i = 0; i < f->part_count; i++) {
        struct qr_part *p = f->parts[i];

        for (size_t k = 0; k < p->page_count; k++) {
            kl_budget_give(&j->budget, p->pages[k].size);
            if (!p->pages[k].borrowed)
                free(p->pages[k].bytes);
        }
        free(p->pages);
        qr_stored_free(p);
        qr_manifest_unref(p->manifest);
        free(p);
    }
    for (size_t i = 0; i < f->bundle_count; i++)
        free(f->bundles[i]);
    free(f->bundles);
    for (size_t i = 0; i < f->source_count; i++)
        qr_source_free(j, f->sources[i]);
    kl_budget_give(&j->budget, f->charged);
    free(f->sources);
    free(f->parts);
    free(f->asked);
    free(f->select);
    free(f->found);
    free(f->texts);
    free(f->metas);
    free(f->series);
    qr_table_unref(f->table);
}
