/*
 * A range query out of pieces of earlier answers. Where there are some, the query's partitions are
 * asked how they stand before anything is evaluated: the owner says which record wrote last to each
 * hour (TSP_SEL_MARKS), the catalogue which filesets there are. A piece still holds when, for each
 * selector and over all time that the piece's steps look at,
 *
 *   - the partitions are the same, and their logs of the same incarnation;
 *   - the filesets of the tenant, and what hides something of them, are the same;
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
 * A piece is a stretch of two hours, twice that, ..., so that it has a few dozen steps: as long as the
 * windows that are cut, so that a cut or a merge does not void a whole day.
 */
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

#include "querier/reuse_priv.h"

enum { PART_LEAST_MS = 2 * 3600 * 1000, PART_STEPS = 32, HOUR_MS = 3600 * 1000 };

struct file { int64_t min_ms, max_ms; uint64_t hash; };
struct mark { int64_t hour; uint64_t seq; };
struct state {                                         /* how a partition stands for one need */
    uint32_t partition;
    uint64_t incarnation, applied, revision, hides, rest;
    struct file *files; size_t file_count;             /* of the tenant, that overlap */
    struct mark *marks; size_t mark_count;
};
struct need { uint32_t id; int64_t back_ms, ahead_ms; struct state *states; size_t state_count; };
struct todo { uint32_t from, to; struct pql_query *pql; };

struct qr_reuse {
    struct qr_query *x;
    struct kl_env_task task;
    struct qr_fetch *probes;
    size_t   need_count, left;
    struct need *needs;
    struct kl_buf key;
    uint64_t hash;
    int64_t  slack_ms, part_ms, fresh_ms;              /* fresh_ms: what is later is not kept */
    uint32_t steps;
    struct qr_segment *segments; uint32_t segment_count;   /* rising; between them lies what is to do */
    struct qr_piece **held;    uint32_t held_count;    /* of the segments */
    struct todo todo[QR_REUSE_TODO_MAX]; uint32_t todo_count, todo_at;
    bool     asked;                                    /* the partitions, before anything was evaluated */
    bool     whole;                                    /* evaluated as one, no piece used */
    bool     keeps, composed, off;
    struct pql_query *grave[QR_REUSE_TODO_MAX + 1]; uint32_t grave_count;
    uint32_t cached_steps;
    struct qr_piece **made; uint32_t made_count;
    struct kl_arena arena;
    struct pql_result result;
};

static int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b < 0); }

static int64_t time_of(const struct qr_reuse *r, uint32_t step)
{
    return r->x->params.start_ms + (int64_t)step * r->x->params.step_ms;
}

/* ---- how partitions stand ---- */

static uint64_t file_hash(const struct blk_info *i)
{
    uint64_t of[] = { (uint64_t)i->window_start_ms, (uint64_t)i->window_ms, i->id, i->generation,
                      i->incarnation, i->content, i->obeyed, i->quarantined };

    return kl_hash64(of, sizeof of);
}

static void read_files(struct state *s, const struct qr_manifest *m, const char *tenant, int64_t from_ms,
                       int64_t to_ms)
{
    if (m == NULL)
        return;
    s->revision = m->m.revision;
    s->hides = m->m.deletion_count == 0 ? m->m.deletions_made
                                        : kl_hash64((uint64_t[]){ m->m.deletions_made, m->m.deleted_seq,
                                                                  m->m.deletion_count }, 24);
    s->files = kl_new((m->m.fileset_count + 1) * sizeof *s->files);
    for (uint32_t i = 0; i < m->m.fileset_count; i++) {
        const struct blk_info *f = &m->m.filesets[i];

        if (f->series_count > 0 && f->min_ms <= to_ms && f->max_ms >= from_ms && strcmp(f->tenant, tenant) == 0)
            s->files[s->file_count++] = (struct file){ f->min_ms, f->max_ms, file_hash(f) };
    }
}

static bool read_marks(struct state *s, const struct qr_part *p)
{
    struct tsp_page page;
    struct kl_cur   c;
    struct kl_err   err;
    struct mark     m;
    size_t          room = 0;

    if (p->page_count != 1 ||
        tsp_page_open(kl_span(p->pages[0].bytes, p->pages[0].size), &page, &c, &err) != KL_OK || page.more)
        return false;
    s->applied = page.applied_seq;
    s->incarnation = page.incarnation;
    s->rest = tsp_marks_rest(&c);
    while (tsp_marks_next(&c, &m.hour, &m.seq)) {
        if (s->mark_count == room) {
            room = room == 0 ? 32 : room * 2;
            s->marks = kl_resize(s->marks, room * sizeof *s->marks);
        }
        s->marks[s->mark_count++] = m;
    }
    return !c.bad;
}

/* False: one of them did not say. */
static bool read_states(struct qr_reuse *r)
{
    for (size_t i = 0; i < r->need_count; i++) {
        struct qr_fetch *f = &r->probes[i];
        struct need     *n = &r->needs[i];

        if (f->probe_failed || f->part_count == 0)
            return false;
        n->states = kl_new(f->part_count * sizeof *n->states);
        n->state_count = f->part_count;
        for (size_t k = 0; k < f->part_count; k++) {
            struct state *s = &n->states[k];

            s->partition = f->parts[k]->partition;
            if (f->parts[k]->failed || !read_marks(s, f->parts[k]))
                return false;
            read_files(s, f->parts[k]->manifest, r->x->job.tenant, f->from_ms, f->to_ms);
        }
    }
    return true;
}

static void free_states(struct qr_reuse *r)
{
    for (size_t i = 0; i < r->need_count && r->needs != NULL; i++) {
        for (size_t k = 0; k < r->needs[i].state_count; k++) {
            free(r->needs[i].states[k].files);
            free(r->needs[i].states[k].marks);
        }
        free(r->needs[i].states);
    }
    free(r->needs);
}

static uint64_t files_of(const struct state *s, int64_t from_ms, int64_t to_ms)
{
    uint64_t sum = s->hides;                           /* in whatever order the manifest has them */

    for (size_t i = 0; i < s->file_count; i++)
        if (s->files[i].min_ms <= to_ms && s->files[i].max_ms >= from_ms)
            sum += s->files[i].hash;
    return sum;
}

/* The last record that wrote something of these hours. */
static uint64_t written(const struct state *s, int64_t from_ms, int64_t to_ms)
{
    int64_t  from = floor_div(from_ms, HOUR_MS), to = floor_div(to_ms, HOUR_MS);
    uint64_t last = 0, told = 0;

    for (size_t i = 0; i < s->mark_count; i++)
        if (s->marks[i].hour >= from && s->marks[i].hour <= to) {
            told++;
            last = s->marks[i].seq > last ? s->marks[i].seq : last;
        }
    if (told < (uint64_t)(to - from) + 1 && s->rest > last)
        last = s->rest;
    return last;
}

/* What the steps [first_ms, last_ms] look at, of one need. */
static int64_t sees_from(const struct qr_reuse *r, const struct need *n, int64_t first_ms)
{
    return first_ms - n->back_ms - r->slack_ms;
}
static int64_t sees_to(const struct qr_reuse *r, const struct need *n, int64_t last_ms)
{
    return last_ms + n->ahead_ms + r->slack_ms;
}

static bool holds(const struct qr_reuse *r, const struct qr_piece *p)
{
    int64_t  last_ms = p->first_ms + p->step_ms * ((int64_t)p->step_count - 1);
    uint32_t at = 0;

    for (size_t i = 0; i < r->need_count; i++) {
        const struct need *n = &r->needs[i];
        int64_t            from_ms = sees_from(r, n, p->first_ms), to_ms = sees_to(r, n, last_ms);

        for (size_t k = 0; k < n->state_count; k++, at++) {
            const struct state   *s = &n->states[k];
            const struct qr_seen *seen = &p->seen[at];

            if (at >= p->seen_count || seen->partition != s->partition ||
                seen->incarnation != s->incarnation || seen->files != files_of(s, from_ms, to_ms) ||
                written(s, from_ms, to_ms) > seen->applied)
                return false;
        }
    }
    return at == p->seen_count;
}

static bool note_seen(const struct qr_reuse *r, struct qr_piece *p)
{
    int64_t  last_ms = p->first_ms + p->step_ms * ((int64_t)p->step_count - 1);
    uint32_t count = 0;

    for (size_t i = 0; i < r->need_count; i++)
        count += (uint32_t)r->needs[i].state_count;
    p->seen = kl_arena_alloc(&p->arena, (count + 1) * sizeof *p->seen);
    if (p->seen == NULL)
        return false;
    for (size_t i = 0; i < r->need_count; i++) {
        const struct need *n = &r->needs[i];

        for (size_t k = 0; k < n->state_count; k++)
            p->seen[p->seen_count++] = (struct qr_seen){
                n->states[k].partition, n->states[k].incarnation, n->states[k].applied,
                files_of(&n->states[k], sees_from(r, n, p->first_ms), sees_to(r, n, last_ms)) };
    }
    p->bytes = sizeof *p + p->arena.used_bytes;
    return true;
}

static struct need *need_of(const struct qr_reuse *r, const struct qr_fetch *f)
{
    for (size_t i = 0; i < r->need_count; i++)
        if (r->needs[i].id == f->id)
            return &r->needs[i];
    return NULL;
}

/* How a partition stood, by what it answered: all of that came from records up to the least position. */
static bool note_answers(struct state *s, const struct qr_part *p)
{
    s->applied = UINT64_MAX;
    for (size_t i = 0; i < p->page_count; i++) {
        struct tsp_page page;
        struct kl_cur   c;
        struct kl_err   err;

        if (tsp_page_open(kl_span(p->pages[i].bytes, p->pages[i].size), &page, &c, &err) != KL_OK ||
            (i > 0 && page.incarnation != s->incarnation))
            return false;
        s->incarnation = page.incarnation;
        s->applied = page.applied_seq < s->applied ? page.applied_seq : s->applied;
    }
    return p->page_count > 0 && !p->failed;
}

/* The evaluation was the first to ask; false: not all said. */
static bool note_fetch(struct qr_reuse *r, const struct qr_fetch *f)
{
    struct need *n = need_of(r, f);

    if (n == NULL || n->states != NULL || f->part_count == 0)
        return false;
    n->states = kl_new(f->part_count * sizeof *n->states);
    n->state_count = f->part_count;
    for (size_t k = 0; k < f->part_count; k++) {
        struct state *s = &n->states[k];

        s->partition = f->parts[k]->partition;
        if (!note_answers(s, f->parts[k]))
            return false;
        read_files(s, f->parts[k]->manifest, r->x->job.tenant, sees_from(r, n, r->x->params.start_ms),
                   sees_to(r, n, time_of(r, r->steps - 1)));
    }
    return true;
}

/* Did all that the evaluation read stand at least as the partitions did before? */
static bool read_enough(const struct qr_reuse *r, const struct qr_fetch *f)
{
    const struct need *n = need_of(r, f);

    if (n == NULL || f->part_count != n->state_count)
        return false;
    for (size_t k = 0; k < f->part_count; k++) {
        const struct qr_part *p = f->parts[k];
        const struct state   *s = &n->states[k];

        if (p->partition != s->partition || p->failed ||
            (s->revision > 0 && (p->manifest == NULL || p->manifest->m.revision < s->revision)))
            return false;
        for (size_t i = 0; i < p->page_count; i++) {
            struct tsp_page page;
            struct kl_cur   c;
            struct kl_err   err;

            if (tsp_page_open(kl_span(p->pages[i].bytes, p->pages[i].size), &page, &c, &err) != KL_OK ||
                page.incarnation != s->incarnation || page.applied_seq < s->applied)
                return false;
        }
    }
    return true;
}

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
static int64_t first_number(const struct qr_reuse *r) { return floor_div(r->x->params.start_ms, r->part_ms); }
static int64_t last_number(const struct qr_reuse *r) { return floor_div(time_of(r, r->steps - 1), r->part_ms); }

/* Whether or not they still hold. */
static bool has_pieces(const struct qr_reuse *r)
{
    const struct qr_kept_query *q = kept_query(r);

    for (int64_t number = first_number(r); q != NULL && number <= last_number(r); number++)
        if (qr_results_piece(q, number) != NULL)
            return true;
    return false;
}

static void find_pieces(struct qr_reuse *r)
{
    const struct pql_params    *p = &r->x->params;
    const struct qr_kept_query *q = kept_query(r);
    int64_t                     number = first_number(r), last = last_number(r);

    for (; q != NULL && number <= last; number++) {
        struct qr_piece *k = qr_results_piece(q, number);
        int64_t          first, end;

        if (k == NULL || !holds(r, k))
            continue;
        first = floor_div(k->first_ms - p->start_ms, p->step_ms);      /* the phase is the same */
        end = first + k->step_count - 1;
        first = first < 0 ? 0 : first;
        end = end > (int64_t)r->steps - 1 ? (int64_t)r->steps - 1 : end;
        if (first <= end)
            add_segment(r, (uint32_t)first, (uint32_t)end, k);
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
            r->todo[r->todo_count++] = (struct todo){ .from = at, .to = until - 1 };
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

static void compose(struct qr_reuse *r);

static void evaluate(struct qr_reuse *r)
{
    struct qr_query  *x = r->x;
    struct pql_params p = x->params;
    struct todo      *t = &r->todo[r->todo_at];
    uint32_t          from = t->from, to = t->to;

    /* At one step alone a few things are done another way than over several. */
    if (from == to && from > 0)
        from--;
    else if (from == to)
        to++;
    p.start_ms = time_of(r, from);
    p.end_ms = time_of(r, to);
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
    r->todo[0] = (struct todo){ .to = r->steps - 1 };
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
        compose(r);
    return true;
}

/* ---- composing, and keeping ---- */

static const struct pql_result *result_of(const struct todo *t) { return pql_result(t->pql); }

/* The evaluation that says what is said of the whole: the one that was, or the one that was parsed first,
 * told what the others said. */
static struct pql_query *speaker(const struct qr_reuse *r) { return r->whole ? r->todo[0].pql : r->grave[0]; }

static bool tell_stretch(struct pql_query *q, const struct todo *t, const struct qr_reuse *r)
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
    uint32_t               from = (uint32_t)((time_of(r, s->from) - p->first_ms) / p->step_ms);

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

/* Pieces of what came out, for the next time. On a worker. */
static void cut(struct qr_reuse *r, const char *info)
{
    const struct pql_params *p = &r->x->params;
    size_t                   most = r->x->job.q->o.results_cache_bytes / r->x->job.q->shard_count / 4;
    uint32_t                 steps = r->steps;

    if (qr_piece_weight(&r->result) > most)                     /* one question has no more room */
        return;
    for (size_t i = 0; i < r->need_count; i++)         /* what lies too near to now is not kept */
        while (steps > 0 && sees_to(r, &r->needs[i], time_of(r, steps - 1)) > r->fresh_ms)
            steps--;
    r->made = kl_new(((size_t)(p->end_ms - p->start_ms) / (size_t)r->part_ms + 2) * sizeof *r->made);
    for (uint32_t from = 0, to; from < steps; from = to + 1) {
        int64_t          number = floor_div(time_of(r, from), r->part_ms);
        int64_t          end_ms = (number + 1) * r->part_ms - 1;
        struct qr_piece *piece;

        to = (uint32_t)((end_ms - p->start_ms) / p->step_ms);
        to = to < steps ? to : steps - 1;
        if (kept_already(r, from, to))
            continue;
        piece = qr_piece_cut(&r->result, time_of(r, from), p->step_ms, to - from + 1, most);
        if (piece == NULL)
            return;
        piece->number = number;
        /* What is said comes with a series; where there is none it is not known. */
        if (info != NULL && piece->series_count > 0) {
            size_t size = strlen(info) + 1;
            piece->info = kl_arena_copy(&piece->arena, info, size);
        }
        if ((info != NULL && piece->info == NULL) ||
            !pql_said_cut(speaker(r), from, to - from + 1, &piece->arena, &piece->said, &piece->said_count) ||
            !note_seen(r, piece))
            qr_piece_unref(piece);
        else
            r->made[r->made_count++] = piece;
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

static void compose(struct qr_reuse *r)
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
            r->keeps = r->keeps && (r->asked ? read_enough(r, &round->fetches[i])
                                             : note_fetch(r, &round->fetches[i]));
    for (size_t i = 0; i < r->need_count; i++)
        r->keeps = r->keeps && r->needs[i].states != NULL;
    r->result.type = PQL_SCALAR;                       /* until there is a matrix */
    kl_arena_init(&r->arena, (size_t)x->job.q->o.query_memory_max_bytes);
    qr_hold(&x->job);
    r->task.run = compose_work;
    x->job.q->env->sched->work(x->job.q->env->sched, &r->task);
}

/* ---- the beginning ---- */

/* The query that is there. */
static void as_it_is(struct qr_reuse *r)
{
    r->whole = true;
    r->todo_count = 1;
    r->todo[0] = (struct todo){ .to = r->steps - 1, .pql = r->x->job.pql };
    qr_query_went(r->x);
}

static void probed_all(struct qr_reuse *r)
{
    struct qr_query *x = r->x;

    if (!read_states(r)) {
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
        compose(r);
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
        f->from_ms = sees_from(r, &r->needs[i], x->params.start_ms);
        f->to_ms = sees_to(r, &r->needs[i], time_of(r, r->steps - 1));
        f->done = probed;
    }
    for (size_t i = 0; i < r->need_count && !x->job.ended; i++)
        qr_fetch_start(&r->probes[i]);
    qr_drop(&x->job);
}

static void make_key(struct qr_reuse *r)
{
    const struct pql_params *p = &r->x->params;
    int64_t                  phase = p->start_ms - floor_div(p->start_ms, p->step_ms) * p->step_ms;

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
    if (p->instant || (p->tally && !x->explain) || p->result_limit > 0 || p->text.size > QR_REUSE_TEXT_MAX)
        return "not such a query";
    if (p->start_ms < -far || p->end_ms > far || p->step_ms > far / PQL_POINTS_MAX)
        return "times beyond all reason";
    if (p->end_ms == p->start_ms || p->end_ms < p->start_ms + (QR_REUSE_STEPS_MIN - 1) * p->step_ms ||
        p->start_ms + (QR_REUSE_STEPS_MIN - 1) * p->step_ms > fresh_ms)
        return "too few steps are old enough";
    if (!pql_steady(p->text, p->step_ms, slack_ms))
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
    r->part_ms = PART_LEAST_MS;
    while (r->part_ms / x->params.step_ms < PART_STEPS ||
           (x->params.end_ms - x->params.start_ms) / r->part_ms > QR_REUSE_PARTS_MAX / 2)
        r->part_ms *= 2;
    r->need_count = count;
    r->needs = kl_new(count * sizeof *r->needs);
    make_key(r);
    stretches = (size_t)(last_number(r) - first_number(r)) + 1;
    r->segments = kl_new((stretches + QR_REUSE_TODO_MAX) * sizeof *r->segments);
    r->held = kl_new(stretches * sizeof *r->held);
    for (size_t i = 0; i < count; i++) {
        r->needs[i].id = needs[i].id;
        r->needs[i].back_ms = x->params.start_ms - needs[i].from_ms;
        r->needs[i].ahead_ms = needs[i].to_ms - time_of(r, r->steps - 1);
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
    free_states(r);
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
