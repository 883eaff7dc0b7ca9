/* One answer of pieces and of what was evaluated, what is said of it, and the pieces that are kept of it. */
#include "querier/reuse_priv.h"

#include <stdlib.h>

static const struct pql_result *result_of(const struct qr_stretch *t) { return pql_result(t->pql); }

/* The evaluation that says what is said of the whole: the one that was, or the one that was parsed first,
 * told what the others said. */
static struct pql_query *speaker(const struct qr_reuse *r) { return r->whole ? r->todo[0].pql : r->grave[0]; }

static bool tell_stretch(struct pql_query *q, const struct qr_stretch *t, const struct qr_reuse *r)
{
    uint32_t               asked_from = t->from - (t->from == t->to && t->from > 0);
    const struct pql_said *said;
    const char *const     *texts;
    uint32_t               count;
    struct kl_arena        arena;
    bool                   fits;

    kl_arena_init(&arena, (size_t)r->x->job.q->o.query_memory_max_bytes);
    fits = pql_said_cut(t->pql, t->from - asked_from, t->to - t->from + 1, &arena, &said, &count);
    if (fits)
        pql_said_again(q, said, count, 0, t->to - t->from, t->from);
    kl_arena_deinit(&arena);
    for (size_t i = 0, n = pql_said_besides(t->pql, false, &texts); i < n; i++)
        pql_warn(q, "%s", texts[i]);
    for (size_t i = 0, n = pql_said_besides(t->pql, true, &texts); i < n; i++)
        pql_info(q, "%s", texts[i]);
    return fits;
}

static void tell_piece(struct pql_query *q, const struct qr_segment *s, const struct qr_reuse *r)
{
    const struct qr_piece *p = s->piece;
    uint32_t               from = (uint32_t)((qr_reuse_time(r, s->from) - p->first_ms) / p->step_ms);

    pql_said_again(q, p->said, p->said_count, from, from + s->to - s->from, s->from);
    if (p->info != NULL)
        pql_info(q, "%s", p->info);
}

/* What is said of the answer; false: no memory for it. */
static bool say(struct qr_reuse *r)
{
    struct pql_query        *q = speaker(r);
    const struct pql_result *said = pql_result(q);
    uint32_t                 todo = 0;

    for (uint32_t i = 0; i < r->segment_count && !r->whole; i++)
        if (r->segments[i].piece != NULL)
            tell_piece(q, &r->segments[i], r);
        else if (!tell_stretch(q, &r->todo[todo++], r))
            return false;
    if (!r->whole && !pql_said_tell(q))
        return false;
    r->result.warnings = said->warnings;
    r->result.warning_count = said->warning_count;
    r->result.infos = said->infos;
    r->result.info_count = said->info_count;
    return true;
}

/* May pieces be kept of it, as far as words go? `info`: what its fetch said, or NULL. */
static bool words_can_be_cut(const struct qr_reuse *r, const char **info)
{
    const struct pql_query *q = speaker(r);
    const char *const      *texts;
    size_t                  infos;

    *info = NULL;
    if (!pql_said_by_steps(q) || pql_said_besides(q, false, &texts) > 0)
        return false;
    infos = pql_said_besides(q, true, &texts);
    *info = infos == 1 ? texts[0] : NULL;
    return infos == 0 || (infos == 1 && r->need_count == 1);
}

/* Is there a segment that has all of these steps already? */
static bool kept_already(const struct qr_reuse *r, uint32_t from, uint32_t to)
{
    for (uint32_t i = 0; i < r->segment_count; i++)
        if (r->segments[i].piece != NULL && r->segments[i].from <= from && r->segments[i].to >= to)
            return true;
    return false;
}

/* The last step of `count` that lies before that time. */
static uint32_t last_before(const struct qr_reuse *r, uint32_t count, int64_t end_ms)
{
    int64_t to = (end_ms - 1 - r->x->params.start_ms) / r->x->params.step_ms;

    return to < count ? (uint32_t)to : count - 1;
}

/* Is that step the first of its block, and is the last one among `count`? */
static bool whole_block(const struct qr_reuse *r, uint32_t from, uint32_t count, int64_t *number, uint32_t *to)
{
    int64_t part = qr_floor_div(qr_reuse_time(r, from), r->part_ms), step_ms = r->x->params.step_ms;

    *number = qr_floor_div(part, r->block) * r->block;
    if (r->block == 1 || qr_reuse_time(r, from) - step_ms >= *number * r->part_ms)
        return false;
    *to = last_before(r, count, (*number + r->block) * r->part_ms);
    return qr_reuse_time(r, *to) + step_ms >= (*number + r->block) * r->part_ms;
}

/* What is said of these steps, and how things stand; false: no memory for it. */
static bool finish_piece(const struct qr_reuse *r, struct qr_piece *p, uint32_t from, const char *info)
{
    const struct pql_said *said;
    uint32_t               count;
    struct kl_arena        arena;
    bool                   fits;

    if (info != NULL && p->series_count > 0) {         /* where there is no series it is not known */
        p->info = kl_strdup(info);
        p->bytes += strlen(info) + 1;
    }
    kl_arena_init(&arena, (size_t)r->x->job.q->o.query_memory_max_bytes);
    fits = pql_said_cut(speaker(r), from, p->step_count, &arena, &said, &count) && qr_piece_say(p, said, count);
    kl_arena_deinit(&arena);
    if (fits)
        qr_reuse_note_seen(r, p);
    return fits;
}

/* Pieces of what came out, for the next time. On a worker. */
static void cut(struct qr_reuse *r, const char *info)
{
    const struct pql_params *p = &r->x->params;
    size_t                   most = r->x->job.q->o.results_cache_bytes / r->x->job.q->shard_count / 4;
    uint32_t                 steps = r->steps;

    if (qr_piece_weight(&r->result) > most)                     /* one question has no more room */
        return;
    for (size_t i = 0; i < r->need_count; i++)         /* what lies too near to now is not kept */
        while (steps > 0 && qr_reuse_sees_to(r, &r->needs[i], qr_reuse_time(r, steps - 1)) > r->fresh_ms)
            steps--;
    r->made = kl_new(((size_t)(p->end_ms - p->start_ms) / (size_t)r->part_ms + 2) * sizeof *r->made);
    for (uint32_t from = 0, to; from < steps; from = to + 1) {
        int64_t          number;
        bool             block = whole_block(r, from, steps, &number, &to);
        struct qr_piece *piece;

        if (!block) {
            number = qr_floor_div(qr_reuse_time(r, from), r->part_ms);
            to = last_before(r, steps, (number + 1) * r->part_ms);
        }
        if (kept_already(r, from, to))
            continue;
        piece = qr_piece_cut(&r->result, qr_reuse_time(r, from), p->step_ms, to - from + 1, most);
        if (piece == NULL)
            return;
        piece->number = number;
        piece->parts = block ? r->block : 1;
        if (finish_piece(r, piece, from, info))
            r->made[r->made_count++] = piece;
        else
            qr_piece_unref(piece);
    }
}

static void composed(struct kl_env_task *task)
{
    struct qr_reuse   *r = kl_container_of(task, struct qr_reuse, task);
    struct qr_query   *x = r->x;
    struct qr_shard   *s = x->job.shard;
    struct qr_metrics *m = &s->q->m;

    for (uint32_t i = 0; i < r->made_count; i++)
        qr_results_put(&s->results, kl_buf_span(&r->key), r->hash, r->made[i]);
    r->made_count = 0;
    kl_count(m->results_steps, r->steps);
    kl_count(m->results_hits, r->cached_steps);
    kl_gauge_set(m->results_bytes, (double)s->results.bytes);
    if (!x->job.ended && r->result.type != PQL_MATRIX) {
        qr_job_fail(&x->job, PQL_EXECUTION, "the answer is larger than the query's memory");
    } else if (!x->job.ended) {
        x->result = &r->result;
        qr_job_done(&x->job);
    }
    qr_drop(&x->job);
}

static void compose_work(struct kl_env_task *task)
{
    struct qr_reuse *r = kl_container_of(task, struct qr_reuse, task);
    struct qr_query *x = r->x;
    const char      *info;

    if (r->segment_count == 1 && r->segments[0].result != NULL)
        r->result = *r->segments[0].result;
    if (r->result.type != PQL_MATRIX &&
        !qr_compose(r->segments, r->segment_count, x->params.start_ms, x->params.step_ms, &r->arena,
                    &r->result))
        r->result.type = PQL_SCALAR;
    if (r->result.type == PQL_MATRIX && !say(r))
        r->result.type = PQL_SCALAR;
    if (r->result.type == PQL_MATRIX && r->keeps && words_can_be_cut(r, &info))
        cut(r, info);
    task->run = composed;
    x->job.q->env->sched->post(x->job.shard->loop, task);
}

static int by_from(const void *a, const void *b)
{
    const struct qr_segment *x = a, *y = b;

    return x->from < y->from ? -1 : x->from > y->from;
}

void qr_reuse_compose(struct qr_reuse *r)
{
    struct qr_query *x = r->x;

    r->composed = true;
    for (uint32_t i = 0; i < r->todo_count; i++)
        r->segments[r->segment_count++] = (struct qr_segment){ .from = r->todo[i].from, .to = r->todo[i].to,
                                                               .result = result_of(&r->todo[i]) };
    qsort(r->segments, r->segment_count, sizeof *r->segments, by_from);
    r->keeps = true;
    for (const struct qr_round *round = x->round; round != NULL; round = round->before)
        for (size_t i = 0; i < round->count; i++)
            r->keeps = r->keeps && (r->asked ? qr_reuse_read_enough(r, &round->fetches[i])
                                             : qr_reuse_note_fetch(r, &round->fetches[i]));
    for (size_t i = 0; i < r->need_count; i++)
        r->keeps = r->keeps && r->needs[i].states != NULL;
    r->result.type = PQL_SCALAR;                       /* until there is a matrix */
    kl_arena_init(&r->arena, (size_t)x->job.q->o.query_memory_max_bytes);
    qr_hold(&x->job);
    r->task.run = compose_work;
    x->job.q->env->sched->work(x->job.q->env->sched, &r->task);
}
