/*
 * A range query out of pieces of earlier answers. Where there are some, the query's partitions are
 * asked how they stand before anything is evaluated: the owner says which record wrote last to each
 * hour (TSP_SEL_MARKS), the catalogue which filesets there are. A piece still holds when, for each
 * selector and over all time that the piece's steps look at,
 *
 *   - the partitions are the same, and their logs of the same incarnation;
 *   - the filesets of the tenant, and what hides something of them, are the same, or others that are made of
 *     the same (lineage.h), or besides them such as the log has told all of;
 *   - nothing was written since the log position up to which the piece was made.
 *
 * What no piece holds is evaluated, stretch by stretch, as queries of their own; what came out is kept
 * in pieces with how the partitions stood before, unless one of them answered with less; where nothing
 * was asked before, with how they stood by their own answers. Nothing is
 * kept of an answer that lacks something, or of steps that look at what is younger than
 * `querier.results_cache_fresh`; nor of a text whose value at a step may depend on the range
 * (pql_steady). Whatever is in doubt is evaluated as if there were no pieces.
 *
 * Warnings and infos of the language are kept with the steps at which they were noted, and told anew of
 * those that are in the answer. Where one takes the whole range to be worded (counts, the largest of the
 * parameters, what a subquery met), the range is evaluated as one.
 *
 * An evaluation asks the same partitions as the question how they stand. So all that a piece can save is
 * reading and evaluating samples, and where these were few (`querier.results_cache_least`) none is kept,
 * and nobody is asked.
 *
 * Time is cut into stretches of two hours, four, eight or a day, so that one has a few dozen steps and
 * none crosses midnight (UTC). A stretch is what holds or does not: about as long as the windows that are
 * cut, so that a cut, a late sample or a deletion voids little. What is kept in one is a block: a day, of
 * which every step is in an answer and old enough; there, each stretch stands or falls by itself, so what
 * little of a finished day is void is evaluated alone, and the day put together anew. Days that are not
 * whole, the last one above all, are kept by stretches, which become a block when they make a whole day.
 * Where a day has but a few steps a block is of as many days as have two dozen. Steps further apart than a
 * day, and ranges of more than so many stretches, have longer ones.
 */
#include <assert.h>
#include <stdlib.h>

#include "querier/reuse_priv.h"

enum { PART_LEAST_MS = 2 * 3600 * 1000, PART_STEPS = 32, BLOCK_STEPS = 24, DAY_MS = 24 * 3600 * 1000 };

/* ---- what there is, and what is to do ---- */

static void add_segment(struct qr_reuse *r, uint32_t from, uint32_t to, struct qr_piece *p)
{
    r->segments[r->segment_count++] = (struct qr_segment){ .from = from, .to = to, .piece = p };
    r->held[r->held_count++] = qr_piece_ref(p);
    r->cached_steps += to - from + 1;
}

static const struct qr_kept_query *kept_query(const struct qr_reuse *r)
{
    return qr_results_find(&r->x->job.shard->results, kl_buf_span(&r->key), r->hash);
}

/* The numbers of the first and last stretch. */
static int64_t first_number(const struct qr_reuse *r) { return qr_floor_div(r->x->params.start_ms, r->part_ms); }
static int64_t last_number(const struct qr_reuse *r) { return qr_floor_div(qr_reuse_time(r, r->steps - 1), r->part_ms); }

static bool has_pieces(const struct qr_reuse *r)       /* whether or not they still hold */
{
    return qr_results_any(kept_query(r), first_number(r), last_number(r));
}

/* The steps of the query that the piece has of that stretch, if it holds there. */
static bool add_part(struct qr_reuse *r, struct qr_piece *p, int64_t number)
{
    const struct pql_params *q = &r->x->params;
    struct qr_segment       *last = r->segment_count > 0 ? &r->segments[r->segment_count - 1] : NULL;
    int64_t                  first_ms, last_ms, from, to;

    if (p == NULL || !qr_reuse_part(r, p, number, &first_ms, &last_ms) ||
        !qr_reuse_holds(r, p, (uint32_t)(number - p->number), first_ms, last_ms))
        return false;
    from = qr_floor_div(first_ms - q->start_ms, q->step_ms);           /* the phase is the same */
    to = qr_floor_div(last_ms - q->start_ms, q->step_ms);
    from = from < 0 ? 0 : from;
    to = to > (int64_t)r->steps - 1 ? (int64_t)r->steps - 1 : to;
    if (from > to)
        return false;
    if (last != NULL && last->piece == p && (int64_t)last->to + 1 == from) {
        last->to = (uint32_t)to;
        r->cached_steps += (uint32_t)(to - from + 1);
    } else {
        add_segment(r, (uint32_t)from, (uint32_t)to, p);
    }
    return true;
}

static void find_pieces(struct qr_reuse *r)
{
    const struct qr_kept_query *q = kept_query(r);
    int64_t                     last = last_number(r);

    for (int64_t number = first_number(r); q != NULL && number <= last; number++) {
        int64_t block = qr_floor_div(number, r->block) * r->block;

        if (r->block == 1 || !add_part(r, qr_results_piece(q, block, r->block), number))
            add_part(r, qr_results_piece(q, number, 1), number);
    }
}

static void drop_segment(struct qr_reuse *r, uint32_t i)
{
    r->cached_steps -= r->segments[i].to - r->segments[i].from + 1;
    memmove(r->segments + i, r->segments + i + 1, (r->segment_count - i - 1) * sizeof *r->segments);
    r->segment_count--;
}

/* The stretches between the segments; false: they are too many. */
static bool list_gaps(struct qr_reuse *r)
{
    uint32_t at = 0;

    r->todo_count = 0;
    for (uint32_t i = 0; i <= r->segment_count; i++) {
        uint32_t until = i < r->segment_count ? r->segments[i].from : r->steps;

        if (at < until) {
            if (r->todo_count == QR_REUSE_TODO_MAX)
                return false;
            r->todo[r->todo_count++] = (struct qr_stretch){ .from = at, .to = until - 1 };
        }
        at = i < r->segment_count ? r->segments[i].to + 1 : at;
    }
    return true;
}

/* Evaluating a little again costs less than many small queries: the smallest pieces are given up. */
static void plan(struct qr_reuse *r)
{
    while (!list_gaps(r)) {
        uint32_t least = 0;

        for (uint32_t i = 1; i < r->segment_count; i++)
            if (r->segments[i].to - r->segments[i].from < r->segments[least].to - r->segments[least].from)
                least = i;
        drop_segment(r, least);
    }
}

/* ---- evaluating ---- */

static void evaluate(struct qr_reuse *r)
{
    struct qr_query  *x = r->x;
    struct pql_params p = x->params;
    struct qr_stretch      *t = &r->todo[r->todo_at];
    uint32_t          from = t->from, to = t->to;

    /* At one step alone a few things are done another way than over several. */
    if (from == to && from > 0)
        from--;
    else if (from == to)
        to++;
    p.start_ms = qr_reuse_time(r, from);
    p.end_ms = qr_reuse_time(r, to);
    x->job.pql = t->pql = pql_new(&p, &x->parse_failure);
    assert(t->pql != NULL);                            /* the same text was parsed before */
    qr_decode_deinit(&x->decode);
    memset(&x->decode, 0, sizeof x->decode);
    qr_query_go(x);
}

/* As if there were no pieces: the query that was made first, or another like it. */
static void as_one(struct qr_reuse *r, const char *why)
{
    for (uint32_t i = 0; i < r->todo_count && i <= r->todo_at; i++)    /* what was fetched speaks of them */
        r->grave[r->grave_count++] = r->todo[i].pql;
    r->whole = true;
    r->x->reuse_passed = why;
    r->segment_count = r->cached_steps = 0;
    r->todo_count = 1;
    r->todo_at = 0;
    r->todo[0] = (struct qr_stretch){ .to = r->steps - 1 };
    evaluate(r);
}

/* Was there more to read and evaluate than asking how partitions stand, the next time, would cost? */
static bool worth(const struct qr_reuse *r)
{
    const struct qr_cost *c = &r->x->job.cost;

    return c->filesets > 0 || c->samples + c->series * r->steps >= r->x->job.q->o.results_cache_least;
}

bool qr_reuse_done(struct qr_query *x)
{
    struct qr_reuse         *r = x->reuse;
    const struct pql_result *result = pql_result(x->job.pql);

    if (r == NULL || r->composed || r->off || (result->failure.kind != PQL_OK && r->whole))
        return false;
    if (result->failure.kind != PQL_OK) {              /* its words may be of the stretch: once more */
        as_one(r, "a piece of it failed");
        return true;
    }
    if (!r->whole && !pql_said_by_steps(x->job.pql)) { /* the next time as well, then */
        qr_results_forget(&x->job.shard->results, kl_buf_span(&r->key), r->hash);
        as_one(r, "what is said of it takes the whole range");
        return true;
    }
    if (!r->asked && !worth(r)) {
        x->reuse_passed = "it is evaluated as quickly as it is looked for";
        return false;
    }
    r->todo_at++;
    if (r->todo_at < r->todo_count)
        evaluate(r);
    else
        qr_reuse_compose(r);
    return true;
}

/* ---- the beginning ---- */

/* The query that is there. */
static void as_it_is(struct qr_reuse *r)
{
    r->whole = true;
    r->todo_count = 1;
    r->todo[0] = (struct qr_stretch){ .to = r->steps - 1, .pql = r->x->job.pql };
    qr_query_went(r->x);
}

static void probed_all(struct qr_reuse *r)
{
    struct qr_query *x = r->x;

    if (!qr_reuse_read_states(r)) {
        x->reuse_passed = "a partition did not say how it stands";
        r->off = true;                                 /* questions may still be out: it goes later */
        qr_query_went(x);
        return;
    }
    find_pieces(r);
    plan(r);
    if (r->segment_count == 0) {
        as_it_is(r);
        return;
    }
    r->grave[r->grave_count++] = x->job.pql;           /* probes that are out still speak of it */
    if (r->todo_count > 0)
        evaluate(r);
    else
        qr_reuse_compose(r);
}

static void probed(struct qr_fetch *f)
{
    struct qr_reuse *r = kl_container_of(f->job, struct qr_query, job)->reuse;

    if (--r->left == 0)
        probed_all(r);
}

static void probe(struct qr_reuse *r, const struct pql_need *needs)
{
    struct qr_query *x = r->x;

    r->asked = true;
    r->left = r->need_count;
    r->probes = kl_new(r->need_count * sizeof *r->probes);
    qr_hold(&x->job);
    for (size_t i = 0; i < r->need_count && !x->job.ended; i++) {
        struct qr_fetch *f = &r->probes[i];

        f->job = &x->job;
        f->id = needs[i].id;
        f->what = TSP_SEL_MARKS;
        f->probe = true;
        f->matchers = needs[i].matchers;
        f->matcher_count = needs[i].matcher_count;
        f->from_ms = qr_reuse_sees_from(r, &r->needs[i], x->params.start_ms);
        f->to_ms = qr_reuse_sees_to(r, &r->needs[i], qr_reuse_time(r, r->steps - 1));
        f->done = probed;
    }
    for (size_t i = 0; i < r->need_count && !x->job.ended; i++)
        qr_fetch_start(&r->probes[i]);
    qr_drop(&x->job);
}

static void choose_parts(struct qr_reuse *r)
{
    int64_t step_ms = r->x->params.step_ms, range_ms = r->x->params.end_ms - r->x->params.start_ms;

    r->part_ms = PART_LEAST_MS;
    while (r->part_ms < DAY_MS && r->part_ms / step_ms < PART_STEPS)
        r->part_ms = r->part_ms == 4 * PART_LEAST_MS ? DAY_MS : r->part_ms * 2;
    while (r->part_ms / step_ms == 0 || range_ms / r->part_ms > QR_REUSE_PARTS_MAX / 2)
        r->part_ms *= 2;
    r->block = r->part_ms < DAY_MS ? (uint32_t)(DAY_MS / r->part_ms) : 1;
    while (r->part_ms * r->block / step_ms < BLOCK_STEPS)
        r->block *= 2;
}

static void make_key(struct qr_reuse *r)
{
    const struct pql_params *p = &r->x->params;
    int64_t                  phase = p->start_ms - qr_floor_div(p->start_ms, p->step_ms) * p->step_ms;

    kl_buf_adds(&r->key, r->x->job.tenant);
    kl_buf_add8(&r->key, 0);
    kl_buf_add64(&r->key, (uint64_t)p->step_ms);
    kl_buf_add64(&r->key, (uint64_t)phase);
    kl_buf_add64(&r->key, (uint64_t)p->lookback_ms);
    kl_buf_add64(&r->key, (uint64_t)r->part_ms);
    kl_buf_add(&r->key, p->text.at, p->text.size);
    r->hash = kl_hash64(r->key.at, r->key.size);
}

/* Why not; NULL: it may be. */
static const char *unfit(const struct qr_query *x, int64_t fresh_ms, int64_t *slack_ms)
{
    const struct pql_params *p = &x->params;
    static const int64_t     far = INT64_C(1) << 50;

    if (x->job.q->o.results_cache_bytes == 0)
        return "the cache is off";
    if (!x->job.reuses)
        return "the cache is off for this tenant";
    if (x->rows_max_ms != -1)                          /* an answer that is near is not kept for others */
        return "max_source_resolution";
    if (!qr_query_plans_here(x->job.pql))              /* each stretch is a query of its own */
        return "it takes long to plan";
    if (p->instant || (p->tally && !x->explain) || p->result_limit > 0 || p->text.size > QR_REUSE_TEXT_MAX)
        return "not such a query";
    if (p->start_ms < -far || p->end_ms > far || p->step_ms > far / PQL_POINTS_MAX)
        return "times beyond all reason";
    if (p->end_ms == p->start_ms || p->end_ms < p->start_ms + (QR_REUSE_STEPS_MIN - 1) * p->step_ms ||
        p->start_ms + (QR_REUSE_STEPS_MIN - 1) * p->step_ms > fresh_ms)
        return "too few steps are old enough";
    *slack_ms = x->slack_ms;
    if (!(x->steady_known ? x->steady : pql_steady(p->text, p->step_ms, slack_ms)))
        return "its value at a step may depend on the range";
    return NULL;
}

bool qr_reuse_start(struct qr_query *x)
{
    const struct qr_options *o = &x->job.q->o;
    const struct pql_need   *needs;
    struct qr_reuse         *r;
    int64_t                  slack_ms = 0, fresh_ms = kl_env_now_ms(x->job.q->env) - o->results_cache_fresh_ms;
    size_t                   count, stretches;

    x->reuse_passed = unfit(x, fresh_ms, &slack_ms);
    if (x->reuse_passed != NULL)
        return false;
    x->state = pql_step(x->job.pql);
    count = x->state == PQL_NEED ? pql_needs(x->job.pql, &needs) : 0;
    if (count == 0 || count > QR_REUSE_NEEDS_MAX) {
        x->reuse_passed = "no selectors, or too many";
        qr_query_went(x);
        return true;
    }
    r = x->reuse = kl_new(sizeof *r);
    r->x = x;
    r->slack_ms = slack_ms;
    r->fresh_ms = fresh_ms;
    r->steps = (uint32_t)((x->params.end_ms - x->params.start_ms) / x->params.step_ms) + 1;
    choose_parts(r);
    r->need_count = count;
    r->needs = kl_new(count * sizeof *r->needs);
    make_key(r);
    stretches = (size_t)(last_number(r) - first_number(r)) + 1;
    r->segments = kl_new((stretches + QR_REUSE_TODO_MAX) * sizeof *r->segments);
    r->held = kl_new(stretches * sizeof *r->held);
    for (size_t i = 0; i < count; i++) {
        r->needs[i].id = needs[i].id;
        r->needs[i].back_ms = x->params.start_ms - needs[i].from_ms;
        r->needs[i].ahead_ms = needs[i].to_ms - qr_reuse_time(r, r->steps - 1);
    }
    if (has_pieces(r))
        probe(r, needs);
    else
        as_it_is(r);
    return true;
}

void qr_reuse_free(struct qr_query *x)
{
    struct qr_reuse *r = x->reuse;

    if (r == NULL)
        return;
    x->reuse = NULL;
    for (uint32_t i = 0; i < r->todo_count + r->grave_count; i++) {
        struct pql_query *pql = i < r->todo_count ? r->todo[i].pql : r->grave[i - r->todo_count];

        if (pql != x->job.pql)                         /* that is the query's */
            pql_free(pql);
    }
    for (size_t i = 0; i < r->need_count && r->probes != NULL; i++)
        qr_fetch_deinit(&r->probes[i]);
    qr_reuse_free_states(r);
    for (uint32_t i = 0; i < r->held_count; i++)
        qr_piece_unref(r->held[i]);
    for (uint32_t i = 0; i < r->made_count; i++)
        qr_piece_unref(r->made[i]);
    free(r->made);
    free(r->held);
    free(r->segments);
    free(r->probes);
    kl_buf_deinit(&r->key);
    kl_arena_deinit(&r->arena);
    free(r);
}

void qr_reuse_parts(const struct qr_query *x, void (*each)(void *ctx, const struct qr_part *p), void *ctx)
{
    const struct qr_reuse *r = x->reuse;

    for (size_t i = 0; r != NULL && r->probes != NULL && i < r->need_count; i++)
        for (size_t k = 0; k < r->probes[i].part_count; k++)
            each(ctx, r->probes[i].parts[k]);
}

void qr_reuse_tell(const struct qr_query *x, uint64_t *steps, uint64_t *cached, uint32_t *pieces)
{
    const struct qr_reuse *r = x->reuse;

    *steps = r != NULL ? r->steps : 0;
    *cached = r != NULL ? r->cached_steps : 0;
    *pieces = 0;
    for (uint32_t i = 0; r != NULL && i < r->segment_count; i++)
        *pieces += r->segments[i].piece != NULL;
}
