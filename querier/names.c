/*
 * Requests that are unions over several selectors (match[]): label names, label values, series,
 * metadata, and the columns of whole series for /federate, /export and remote read. One fetch a
 * selector; then everything is sorted, made unique, and cut to the limit, on a worker.
 */
#include <assert.h>
#include <stdlib.h>

#include "libkoal/base/regex_size.h"
#include "querier/qr_priv.h"

enum { SELECTORS_ARENA_MAX = 4 << 20, UNITE_TEXTS = 5000, UNITE_OTHERS = 500 };  /* less is not worth a hop */

void qr_names_deinit(struct qr_names *n)
{
    for (size_t i = 0; i < n->fetch_count; i++)
        qr_fetch_deinit(&n->fetches[i]);
    for (size_t i = 0; i < n->selector_count; i++)
        pql_selector_free(n->selectors[i].matchers, n->selectors[i].count);
    for (unsigned i = 0; i < PQL_WORKERS_MAX; i++)
        kl_arena_deinit(&n->arenas[i]);
    kl_arena_deinit(&n->arena);
    qr_decode_deinit(&n->decoder);
    free(n->fetches);
    free(n->list);
    free(n->texts);
    free(n->labels);
    free(n->metas);
    free(n->series);
    free(n->exemplars);
}

static bool matches_empty(const struct kl_matcher *m)
{
    return kl_matcher_test(m, kl_span("", 0));
}

enum kl_code qr_names_weigh(struct qr_names *n, const struct kl_matcher *m, struct kl_err *err)
{
    if (m->re != NULL)
        n->regex_bytes += kl_regex_bytes(m->re);
    if (n->regex_bytes > QR_REGEX_BYTES_MAX)
        return kl_fail(err, KL_ELIMIT, "regular expressions that take more than %d MiB", QR_REGEX_BYTES_MAX >> 20);
    return KL_OK;
}

enum kl_code qr_names_selector(struct qr_names *n, struct kl_span text, struct kl_err *err)
{
    const struct kl_matcher *m;
    size_t                   count, some = 0;

    if (n->selector_count == QR_SELECTORS_MAX)
        return kl_fail(err, KL_ELIMIT, "more than %d match[] parameters", QR_SELECTORS_MAX);
    if (pql_selector(text, &n->arena, &m, &count, err) != KL_OK)
        return err->code;
    n->selectors[n->selector_count].matchers = m;
    n->selectors[n->selector_count].count = count;
    n->selector_count++;
    for (size_t i = 0; i < count; i++) {
        if (qr_names_weigh(n, &m[i], err) != KL_OK)
            return err->code;
        some += !matches_empty(&m[i]);
    }
    if (some == 0)
        return kl_fail(err, KL_EINVAL, "match[] must contain at least one non-empty matcher");
    return KL_OK;
}

/* ---- unions, sorted ---- */

static void unite_texts(struct qr_names *n, size_t total)
{
    size_t count = 0;                                  /* of the total, some may be metadata */

    n->texts = kl_resize(NULL, total * sizeof *n->texts);
    for (size_t i = 0; i < n->fetch_count; i++) {
        const struct qr_fetch *f = &n->fetches[i];

        if (f->text_count > 0)
            memcpy(n->texts + count, f->texts, f->text_count * sizeof *n->texts);
        count += f->text_count;
    }
    n->count = qr_texts_unite(n->texts, count);
}

static void unite_labels(struct qr_names *n, size_t total)
{
    struct kl_labels *all = kl_resize(NULL, total * sizeof *all);
    uint32_t         *order = kl_resize(NULL, total * sizeof *order);
    size_t            count = 0;

    for (size_t i = 0; i < n->fetch_count; i++) {
        const struct qr_fetch *f = &n->fetches[i];

        for (size_t k = 0; k < f->found_count; k++)
            if (k == 0 || kl_fp_cmp(f->found[k].fp, f->found[k - 1].fp) != 0)
                all[count++] = f->found[k].labels;
    }
    kl_labels_order(all, order, count);
    n->labels = kl_resize(NULL, total * sizeof *n->labels);
    for (size_t i = 0; i < count; i++)
        if (i == 0 || kl_labels_cmp(all[order[i]], n->labels[n->count - 1]) != 0)
            n->labels[n->count++] = all[order[i]];
    free(all);
    free(order);
}

static void unite_metas(struct qr_names *n, size_t total)
{
    n->metas = kl_resize(NULL, total * sizeof *n->metas);
    for (size_t i = 0; i < n->fetch_count; i++) {
        if (n->fetches[i].meta_count > 0)
            memcpy(n->metas + n->meta_count, n->fetches[i].metas,
                   n->fetches[i].meta_count * sizeof *n->metas);
        n->meta_count += n->fetches[i].meta_count;
    }
}

static void unite_series(struct qr_names *n, size_t total)
{
    size_t count = 0, out = 0;

    n->series = kl_resize(NULL, total * sizeof *n->series);
    for (size_t i = 0; i < n->fetch_count; i++) {
        struct qr_fetch *f = &n->fetches[i];
        struct kl_fp     key;
        size_t           more = qr_decode_compact(f, &key);

        if (more > 0)
            memcpy(n->series + count, f->series, more * sizeof *n->series);
        if (n->separate) {
            qr_order_series(NULL, n->series + count, more);
            n->counts[i] = more;
        }
        count += more;
    }
    n->count = count;
    if (n->separate)
        return;
    qr_order_series(NULL, n->series, count);
    for (size_t i = 0; i < count; i++)
        if (i == 0 || kl_labels_cmp(n->series[i].labels, n->series[out - 1].labels) != 0)
            n->series[out++] = n->series[i];
    n->count = out;
}

static int by_series(const void *a, const void *b)
{
    const struct qr_exemplar *x = a, *y = b;
    int                       c = x->series.at == y->series.at ? 0 : kl_labels_cmp(x->series, y->series);

    if (c == 0)
        c = x->time_ms < y->time_ms ? -1 : x->time_ms > y->time_ms;
    if (c == 0)
        c = kl_labels_cmp(x->labels, y->labels);
    return c != 0 ? c : memcmp(&x->value, &y->value, sizeof x->value);
}

/* The exemplars of one chunk; false past the budget or on damage. */
static bool add_exemplars(struct qr_names *n, struct kl_labels series,
                          const struct blk_chunk_ref *chunk)
{
    struct kl_cur      c = kl_cur(chunk->bytes.at, chunk->bytes.size);
    struct qr_exemplar e = { .series = series };

    if (chunk->kind != TSP_CHUNK_EXEMPLARS)
        return false;
    while (tsp_exemplar_next(&c, &e.time_ms, &e.value, &e.labels)) {
        if (n->count % 1024 == 0) {
            if (!kl_budget_take(&n->job.budget, 1024 * sizeof e))
                return false;
            n->exemplars = kl_resize(n->exemplars, (n->count + 1024) * sizeof e);
        }
        n->exemplars[n->count++] = e;
    }
    return !c.bad;
}

static void unite_exemplars(struct qr_names *n)
{
    size_t out = 0;

    for (size_t i = 0; i < n->fetch_count; i++)
        for (size_t k = 0; k < n->fetches[i].found_count; k++) {
            const struct qr_found *f = &n->fetches[i].found[k];

            for (uint32_t m = 0; m < f->chunk_count && !n->over; m++)
                n->over = !add_exemplars(n, f->labels, &f->chunks[m]);
        }
    if (n->count > 1)
        qsort(n->exemplars, n->count, sizeof *n->exemplars, by_series);
    for (size_t i = 0; i < n->count; i++)
        if (i == 0 || by_series(&n->exemplars[i], &n->exemplars[out - 1]) != 0)
            n->exemplars[out++] = n->exemplars[i];
    n->count = out;
}

static size_t total_of(const struct qr_names *n)
{
    size_t total = 0;

    for (size_t i = 0; i < n->fetch_count; i++)
        total += n->fetches[i].text_count + n->fetches[i].found_count + n->fetches[i].meta_count;
    return total;
}

static void unite(struct qr_names *n)
{
    size_t total = total_of(n);

    if (total == 0)
        return;
    if (n->what == TSP_SEL_NAMES || n->what == TSP_SEL_VALUES)
        unite_texts(n, total);
    else if (n->what == TSP_SEL_LABELS)
        unite_labels(n, total);
    else if (n->what == TSP_SEL_SERIES)
        unite_series(n, total);
    else if (n->what == TSP_SEL_EXEMPLARS)
        unite_exemplars(n);
    if (n->what == TSP_SEL_METADATA || n->with_metadata)
        unite_metas(n, total);
    if (n->what == TSP_SEL_METADATA)
        n->count = n->meta_count;
    if (n->limit > 0 && n->count > n->limit && n->what != TSP_SEL_METADATA) {
        n->count = n->limit;
        n->limited = true;
    }
}

static void united(struct kl_env_task *task)
{
    struct qr_names *n = kl_container_of(task, struct qr_names, task);

    if (n->over && !n->job.ended) {
        struct kl_err err;

        qr_over_budget(&n->job, &err);
        qr_job_fail(&n->job, PQL_EXECUTION, "%s", err.text);
    }
    if (n->limited)
        qr_job_warn(&n->job, "results truncated due to limit");
    if (n->refine == NULL || n->job.ended)
        qr_job_done(&n->job);
    else
        n->refine(n);
    qr_drop(&n->job);
}

static void unite_work(struct kl_env_task *task)
{
    struct qr_names *n = kl_container_of(task, struct qr_names, task);

    unite(n);
    task->run = united;
    n->job.q->env->sched->post(n->job.shard->loop, task);
}

static void begin_unite(struct qr_names *n)
{
    size_t total = total_of(n);

    /* The union, and as much again and a little to sort it. */
    if (!kl_budget_take(&n->job.budget, total * (2 * sizeof(struct pql_series) + 64))) {
        struct kl_err err;

        qr_over_budget(&n->job, &err);
        qr_job_fail(&n->job, PQL_EXECUTION, "%s", err.text);
        return;
    }
    qr_hold(&n->job);
    if (total < ((n->what == TSP_SEL_NAMES || n->what == TSP_SEL_VALUES) ? UNITE_TEXTS : UNITE_OTHERS)) {
        unite(n);
        united(&n->task);
    } else {
        n->task.run = unite_work;
        n->job.q->env->sched->work(n->job.q->env->sched, &n->task);
    }
}

/* ---- the job ---- */

static void decoded(struct qr_decode *d)
{
    struct qr_names     *n = kl_container_of(d, struct qr_names, decoder);
    const struct kl_err *failure = qr_decode_failure(d);

    if (failure != NULL) {
        qr_job_fail(&n->job, qr_kind_of(failure->code), "%s", failure->text);
        return;
    }
    begin_unite(n);
}

static void fetched(struct qr_fetch *f)
{
    struct qr_names *n = kl_container_of(f->job, struct qr_names, job);

    if (--n->fetch_left > 0)
        return;
    if (n->what != TSP_SEL_SERIES) {
        begin_unite(n);
        return;
    }
    n->decoder.job = &n->job;
    n->decoder.fetches = n->list;
    n->decoder.fetch_count = n->fetch_count;
    n->decoder.arenas = n->arenas;
    n->decoder.done = decoded;
    if (qr_decode_run(&n->decoder))
        decoded(&n->decoder);
}

static void start(struct qr_job *j)
{
    struct qr_names *n = kl_container_of(j, struct qr_names, job);
    size_t           selects = n->selector_count > 0 ? n->selector_count : 1;
    size_t           count = selects + n->with_metadata;

    for (unsigned i = 0; i < PQL_WORKERS_MAX; i++)
        kl_arena_init(&n->arenas[i], (size_t)(j->q->o.query_memory_max_bytes / 2) /
                                         (j->q->workers > 0 ? j->q->workers : 1));
    n->fetches = kl_new(count * sizeof *n->fetches);
    n->list = kl_new(count * sizeof *n->list);
    n->fetch_count = n->fetch_left = count;
    for (size_t i = 0; i < count; i++) {
        struct qr_fetch *f = n->list[i] = &n->fetches[i];

        f->job = j;
        f->what = i < selects ? n->what : TSP_SEL_METADATA;
        f->quiet = i >= selects;
        if (i < n->selector_count) {
            f->matchers = n->selectors[i].matchers;
            f->matcher_count = n->selectors[i].count;
        }
        f->from_ms = n->separate ? n->selectors[i].from_ms : n->from_ms;
        f->to_ms = n->separate ? n->selectors[i].to_ms : n->to_ms;
        f->label = n->label;
        /* One more than is shown, to know whether there is more. Texts and series come sorted by
         * each source's own order: only texts' order is the answer's. */
        if (n->limit > 0 && (n->what == TSP_SEL_NAMES || n->what == TSP_SEL_VALUES))
            f->limit = n->limit + 1;
        f->done = fetched;
    }
    qr_hold(j);
    for (size_t i = 0; i < count && !j->ended; i++)
        qr_fetch_start(&n->fetches[i]);
    qr_drop(j);
}

static void finish(struct qr_job *j)
{
    struct qr_names *n = kl_container_of(j, struct qr_names, job);

    n->answer(n);
}

void qr_names_init(struct qr_names *n)
{
    n->job.start = start;
    n->job.finish = finish;
    kl_arena_init(&n->arena, SELECTORS_ARENA_MAX);
}
