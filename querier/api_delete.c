/*
 * /admin/tsdb/delete_series appends a deletion to the log of each partition that may hold what is
 * meant, and answers when every one of their catalogues has it: from then on no querier shows it.
 * /admin/tsdb/deletions tells which deletions of the tenant are listed yet, and what is left to do.
 *
 * Other writers of the log are doormen; this one is here because a deletion is said in the language of
 * queries, and is done when the catalogue says so: both are the querier's trade.
 *
 *   the placement table as the KV has it now -> partitions, by all layouts that may have the metric
 *   -> each partition's catalogue: is there room for one more?  only if all have
 *   -> each partition's log: the record, with one id however often it is sent
 *   -> each partition's catalogue: until it has the record's deletions
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "libtsproto/record.h"
#include "querier/api_priv.h"

enum { DELETIONS_LISTED_MAX = 1000, TEXT_MAX = 64 * 1024, POLL_MS = 100 };

struct deleting;
struct target {                                        /* one partition */
    struct deleting *d;
    uint32_t number;
    uint64_t selectors;                                /* a bit for each that it may hold */
    struct qr_lookup lookup;
    struct kl_bus_append append;
    struct kl_buf record;
    struct kl_env_timer wait;
};
struct deleting {
    struct qr_names names;                             /* the job, and the selectors */
    struct kl_http_request *r;
    struct qr_reread reread;
    struct tsp_incarnation who;
    struct target *targets;
    uint32_t target_count, left;                       /* of the present step */
};
_Static_assert(QR_SELECTORS_MAX <= 64, "a bit for each selector");

static struct deleting *of_job(struct qr_job *j)
{
    return kl_container_of(kl_container_of(j, struct qr_names, job), struct deleting, names);
}

static struct qr_job *job(struct deleting *d) { return &d->names.job; }

/* ---- the last step: the catalogues ---- */

static void poll(struct kl_env_timer *timer);

static void has_it(struct qr_lookup *l)
{
    struct target      *t = kl_container_of(l, struct target, lookup);
    struct deleting    *d = t->d;
    struct qr_manifest *m = l->code == KL_OK ? l->manifest : NULL;
    /* A log that was made anew since took the deletion with it, and is told of elsewhere. */
    bool                done = m != NULL && (m->m.incarnation > t->append.incarnation ||
                                             (m->m.incarnation == t->append.incarnation &&
                                              m->m.deleted_seq >= t->append.seq));

    qr_manifest_unref(m);
    l->manifest = NULL;
    if (job(d)->ended)
        return;
    if (done) {
        if (--d->left == 0)
            qr_job_done(job(d));
        return;
    }
    qr_hold(job(d));
    t->wait.fire = poll;
    job(d)->q->env->sched->arm(job(d)->shard->loop, &t->wait, POLL_MS);
}

static void look(struct target *t, void (*done)(struct qr_lookup *l))
{
    t->lookup = (struct qr_lookup){ .job = job(t->d), .partition = t->number, .fresh = true, .done = done };
    qr_lookup_start(&t->lookup);
}

static void poll(struct kl_env_timer *timer)
{
    struct target *t = kl_container_of(timer, struct target, wait);
    struct qr_job *j = job(t->d);

    if (!j->ended)
        look(t, has_it);
    qr_drop(j);
}

/* ---- the logs ---- */

static void append_again(struct kl_env_timer *timer)
{
    struct target *t = kl_container_of(timer, struct target, wait);
    struct qr_job *j = job(t->d);

    if (j->ended)
        qr_drop(j);
    else
        j->q->bus->append(j->q->bus, &t->append);      /* the id makes it one */
}

static void appended(struct kl_bus_append *op)
{
    struct target   *t = kl_container_of(op, struct target, append);
    struct deleting *d = t->d;
    struct qr_job   *j = job(d);

    if (j->ended) {
        qr_drop(j);
        return;
    }
    if (op->code == KL_EAGAIN || op->code == KL_ETIMEOUT) {
        t->wait.fire = append_again;                   /* the bus may have said so at once */
        j->q->env->sched->arm(j->shard->loop, &t->wait, POLL_MS);
        return;
    }
    if (op->code != KL_OK)
        qr_job_fail(j, PQL_UNAVAILABLE, "partition %" PRIu32 ": the deletion cannot be written to its log: "
                    "%s; other partitions may have theirs: ask again", t->number, op->err.text);
    else
        look(t, has_it);
    qr_drop(j);
}

static bool make_record(struct target *t, struct tsp_record_writer *w, struct kl_err *err)
{
    struct deleting *d = t->d;
    size_t           n = 0;

    tsp_record_start(w);
    for (size_t i = 0; i < d->names.selector_count; i++) {
        struct tsp_deletion x = { .from_ms = d->names.from_ms, .to_ms = d->names.to_ms,
                                  .matcher_count = (uint32_t)d->names.selectors[i].count };

        if (!(t->selectors >> i & 1))
            continue;
        memcpy(x.matchers, d->names.selectors[i].matchers, x.matcher_count * sizeof *x.matchers);
        tsp_record_delete(w, kl_span_str(job(d)->tenant), &x);
    }
    if (tsp_record_finish(w, d->who, t->number + 1, &t->record, err) != KL_OK)
        return false;
    t->append = (struct kl_bus_append){ .partition = t->number, .record = kl_buf_span(&t->record),
                                        .loop = job(d)->shard->loop, .done = appended };
    for (size_t i = 0; i < 12; i++)
        n += (size_t)snprintf(t->append.id + n, sizeof t->append.id - n, "%02x", d->who.bytes[i]);
    snprintf(t->append.id + n, sizeof t->append.id - n, "-d%" PRIx32, t->number);
    return true;
}

static void append_all(struct deleting *d)
{
    struct tsp_record_writer *w = tsp_record_writer_new();
    struct qr_job            *j = job(d);
    struct kl_err             err = { 0 };
    bool                      fine = true;

    for (uint32_t i = 0; i < d->target_count && fine; i++)
        fine = make_record(&d->targets[i], w, &err);
    tsp_record_writer_free(w);
    if (!fine) {
        qr_job_fail(j, PQL_BAD_DATA, "%s", err.text);
        return;
    }
    d->left = d->target_count;
    for (uint32_t i = 0; i < d->target_count; i++) {
        qr_hold(j);
        j->q->bus->append(j->q->bus, &d->targets[i].append);
    }
}

/* ---- room in the catalogues ---- */

static void has_room(struct qr_lookup *l)
{
    struct target      *t = kl_container_of(l, struct target, lookup);
    struct deleting    *d = t->d;
    struct qr_manifest *m = l->code == KL_OK ? l->manifest : NULL;
    bool                full = m != NULL && m->m.deletion_count + d->names.selector_count > DELETIONS_LISTED_MAX;

    qr_manifest_unref(m);
    l->manifest = NULL;
    if (job(d)->ended)
        return;
    if (l->code != KL_OK)
        qr_job_fail(job(d), PQL_UNAVAILABLE, "nothing is deleted: partition %" PRIu32 ": its catalogue: %s",
                    t->number, l->err.text);
    else if (full)
        qr_job_fail(job(d), PQL_UNAVAILABLE, "nothing is deleted: %d deletions wait to be rewritten in partition "
                    "%" PRIu32 ": delete more at once, or clean_tombstones first", DELETIONS_LISTED_MAX, t->number);
    else if (--d->left == 0)
        append_all(d);
}

/* ---- the partitions ---- */

static void add_target(struct deleting *d, uint32_t number, size_t selector)
{
    uint32_t i = 0;

    while (i < d->target_count && d->targets[i].number != number)
        i++;
    if (i == d->target_count)
        d->targets[d->target_count++] = (struct target){ .d = d, .number = number };
    d->targets[i].selectors |= UINT64_C(1) << selector;
}

static void planned(struct qr_reread *r)
{
    struct deleting *d = kl_container_of(r, struct deleting, reread);
    struct qr_job   *j = job(d);
    uint32_t         all = tsp_placement_partitions(j->shard->table->placement);

    if (j->ended)
        return;
    if (r->code != KL_OK) {                            /* an older table may miss where data is by now */
        qr_job_fail(j, PQL_UNAVAILABLE, "nothing is deleted: the placement table cannot be read: %s", r->err.text);
        return;
    }
    d->targets = kl_new((all + 1) * sizeof *d->targets);       /* they stay where they are */
    for (size_t i = 0; i < d->names.selector_count; i++) {
        struct qr_fetch f = { .job = j, .matchers = d->names.selectors[i].matchers,
                              .matcher_count = d->names.selectors[i].count,
                              .from_ms = d->names.from_ms, .to_ms = d->names.to_ms };

        qr_fetch_plan(&f);
        for (size_t k = 0; k < f.part_count; k++)
            add_target(d, f.parts[k]->partition, i);
        qr_fetch_deinit(&f);
    }
    d->left = d->target_count;
    for (uint32_t i = 0; i < d->target_count && !j->ended; i++)
        look(&d->targets[i], has_room);
}

static void start(struct qr_job *j)
{
    struct deleting *d = of_job(j);

    if (!atomic_load(&j->shard->placement_known)) {
        qr_job_fail(j, PQL_UNAVAILABLE, "the placement table has not been read yet");
        return;
    }
    j->q->env->random->fill(j->q->env->random, d->who.bytes, sizeof d->who.bytes);
    d->reread.job = j;
    d->reread.done = planned;
    qr_placement_reread(&d->reread);
}

static void finish(struct qr_job *j)
{
    struct deleting *d = of_job(j);

    if (j->failure.kind == PQL_OK)
        kl_http_answer(d->r, 204, "text/plain; charset=utf-8", kl_span("", 0));
    else if (j->failure.kind == PQL_TIMEOUT)
        qr_api_error(d->r, PQL_TIMEOUT, "the deletion is not in every catalogue yet. Where the log has it, memory hides "
                     "it and the catalogue will follow; /api/v1/admin/tsdb/deletions tells. Asking again deletes "
                     "what was written meanwhile, too");
    else
        qr_api_error(d->r, j->failure.kind, "%s", j->failure.text);
}

static void release(struct qr_job *j)
{
    struct deleting *d = of_job(j);

    for (uint32_t i = 0; i < d->target_count; i++)
        kl_buf_deinit(&d->targets[i].record);
    free(d->targets);
    qr_names_deinit(&d->names);
    free(d);
}

/* False: answered. */
static bool selectors(struct deleting *d, struct kl_http_request *r)
{
    struct kl_err err;
    const char   *text;
    size_t        bytes = 0;

    for (size_t i = 0; (text = kl_http_param(r, "match[]", i)) != NULL; i++) {
        bytes += kl_http_param_size(r, "match[]", i);
        if (bytes > TEXT_MAX) {
            qr_api_error(r, PQL_BAD_DATA, "match[] of more than %d bytes in all", TEXT_MAX);
            return false;
        }
        if (qr_names_selector(&d->names, kl_span(text, kl_http_param_size(r, "match[]", i)), &err) != KL_OK) {
            qr_api_error(r, PQL_BAD_DATA, "invalid parameter \"match[]\": %s", err.text);
            return false;
        }
        if (d->names.selectors[i].count > BLK_DELETION_MATCHERS_MAX) {
            qr_api_error(r, PQL_BAD_DATA, "a selector has %zu matchers, at most %d are taken",
                         d->names.selectors[i].count, BLK_DELETION_MATCHERS_MAX);
            return false;
        }
    }
    if (d->names.selector_count == 0) {
        qr_api_error(r, PQL_BAD_DATA, "no match[] parameter provided");
        return false;
    }
    return true;
}

static void delete_series(void *ctx, struct kl_http_request *r)
{
    struct qr_http  *h = ctx;
    struct deleting *d = kl_new(sizeof *d);

    d->r = r;
    qr_names_init(&d->names);
    job(d)->start = start;
    job(d)->finish = finish;
    job(d)->release = release;
    if (!qr_api_job(h, r, job(d)) || !qr_api_time(r, "start", INT64_MIN, &d->names.from_ms) ||
        !qr_api_time(r, "end", INT64_MAX, &d->names.to_ms) || !selectors(d, r)) {
        release(job(d));
        return;
    }
    if (d->names.from_ms > d->names.to_ms) {
        qr_api_error(r, PQL_BAD_DATA, "invalid parameter \"end\": end timestamp must not be before start time");
        release(job(d));
        return;
    }
    qr_submit(h->q, job(d));
}

/* ---- what is listed ---- */

struct listing {
    struct qr_job job;
    struct kl_http_request *r;
    struct qr_lookup lookup;
    uint32_t partition, partitions;
    struct kl_buf out;
    size_t shown, pending;
    bool back, waiting;
};

static void match_text(const struct blk_deletion *d, struct kl_buf *out)
{
    static const char *const ops[] = { "=", "!=", "=~", "!~" };
    struct kl_buf            text = { 0 };

    for (uint32_t i = 0; i < d->matcher_count; i++) {
        kl_buf_adds(&text, i == 0 ? "{" : ",");
        kl_json_str(&text, d->matchers[i].name);
        kl_buf_adds(&text, ops[d->matchers[i].op]);
        kl_json_str(&text, d->matchers[i].value);
    }
    kl_buf_add8(&text, '}');
    kl_json_str(out, kl_buf_span(&text));
    kl_buf_deinit(&text);
}

static void bound(struct kl_buf *out, const char *name, int64_t ms)
{
    if (ms == INT64_MIN || ms == INT64_MAX)
        kl_buf_addf(out, ",\"%s\":null", name);
    else
        kl_buf_addf(out, ",\"%s\":%" PRId64, name, ms);
}

static void tell(struct listing *l, const struct blk_manifest *m, const struct blk_deletion *d)
{
    uint32_t left = 0, bad = 0;

    for (uint32_t i = 0; i < m->fileset_count; i++)
        if (blk_deletion_concerns(d, &m->filesets[i])) {
            left++;
            bad += m->filesets[i].quarantined;
        }
    l->pending += left > 0;
    kl_buf_addf(&l->out, "%s{\"partition\":%" PRIu32 ",\"sequence\":%" PRIu64 ",\"time\":%" PRId64 ",\"match\":",
                l->shown++ > 0 ? "," : "", m->partition, d->seq, d->at_ms);
    match_text(d, &l->out);
    bound(&l->out, "start", d->from_ms);
    bound(&l->out, "end", d->to_ms);
    kl_buf_addf(&l->out, ",\"state\":\"%s\",\"filesetsLeft\":%" PRIu32 ",\"filesetsQuarantined\":%" PRIu32 "}",
                left > 0 ? "pending" : "rewritten", left, bad);
}

static void go_on(struct listing *l);

static void looked_up(struct qr_lookup *k)
{
    struct listing     *l = kl_container_of(k, struct listing, lookup);
    struct qr_manifest *m = k->code == KL_OK ? k->manifest : NULL;

    if (k->code != KL_OK)
        qr_job_fail(&l->job, PQL_UNAVAILABLE, "partition %" PRIu32 ": %s", l->partition, k->err.text);
    for (uint32_t i = 0; m != NULL && i < m->m.deletion_count; i++)
        if (strcmp(m->m.deletions[i]->tenant, l->job.tenant) == 0)
            tell(l, &m->m, m->m.deletions[i]);
    qr_manifest_unref(m);
    k->manifest = NULL;
    l->partition++;
    l->back = true;
    if (l->waiting)
        go_on(l);
}

static void go_on(struct listing *l)
{
    l->waiting = false;
    while (!l->job.ended && l->partition < l->partitions) {
        l->back = false;
        l->lookup = (struct qr_lookup){ .job = &l->job, .partition = l->partition, .fresh = true,
                                        .done = looked_up };
        qr_lookup_start(&l->lookup);
        if (!l->back) {
            l->waiting = true;
            return;
        }
    }
    qr_job_done(&l->job);
    qr_drop(&l->job);
}

static void listing_start(struct qr_job *j)
{
    struct listing *l = kl_container_of(j, struct listing, job);

    if (!atomic_load(&j->shard->placement_known)) {
        qr_job_fail(j, PQL_UNAVAILABLE, "the placement table has not been read yet");
        return;
    }
    l->partitions = tsp_placement_partitions(j->shard->table->placement);
    qr_api_begin(&l->out);
    kl_buf_adds(&l->out, "{\"deletions\":[");
    qr_hold(j);
    go_on(l);
}

static void listing_finish(struct qr_job *j)
{
    struct listing *l = kl_container_of(j, struct listing, job);

    if (j->failure.kind != PQL_OK) {
        qr_api_error(l->r, j->failure.kind, "%s", j->failure.text);
        return;
    }
    kl_buf_addf(&l->out, "],\"pending\":%zu,\"done\":%s}", l->pending, l->shown == 0 ? "true" : "false");
    qr_api_end(&l->out, NULL, 0, NULL, 0);
    qr_api_send(l->r, "application/json", &l->out);
}

static void listing_release(struct qr_job *j)
{
    struct listing *l = kl_container_of(j, struct listing, job);

    kl_buf_deinit(&l->out);
    free(l);
}

static bool listing_gone(struct qr_job *j)
{
    return kl_http_gone(kl_container_of(j, struct listing, job)->r);
}

static void deletions(void *ctx, struct kl_http_request *r)
{
    struct qr_http *h = ctx;
    struct listing *l = kl_new(sizeof *l);

    l->r = r;
    kl_buf_init(&l->out, (size_t)h->q->o.query_memory_max_bytes);
    l->job.start = listing_start;
    l->job.finish = listing_finish;
    l->job.release = listing_release;
    l->job.gone = listing_gone;
    if (qr_api_job(h, r, &l->job))
        qr_submit(h->q, &l->job);
    else
        free(l);
}

void qr_api_delete_open(struct qr_http *h)
{
    qr_api_routes(h, "POST,PUT", "/admin/tsdb/delete_series", delete_series);
    qr_api_routes(h, "GET", "/admin/tsdb/deletions", deletions);
}
