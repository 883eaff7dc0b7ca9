/*
 * The live half of a partition: its owner is asked page by page until it has no more. An owner that
 * is busy or away is asked again, twice; a partition that stays silent is named in the answer.
 *
 * The first pages of several partitions of one owner come together, for one question. What is not
 * among them is asked for again, together; where the owner refuses, one by one. Where a partition has
 * other members, a question that takes longer than most is put to the next of them too (libkoal/base/hedge.h),
 * and so is one for an aggregate; how long most of those take is known of themselves.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "querier/qr_priv.h"

static void ask(struct qr_part *p);

static void give_up(struct qr_part *p, const struct kl_err *err)
{
    struct qr_fetch *f = p->f;

    if (f->what == TSP_SEL_PARTIAL) {                  /* nothing is lost: the series are asked for */
        qr_push_failed(p, err);
        qr_part_end(p);
        return;
    }
    p->failed = true;
    f->parts_failed++;
    f->last_err = *err;
    /* Said at the end when none answered: then there is no answer to be incomplete. */
    if (f->part_count > 1 || !f->job->partial)
        qr_fetch_incomplete(f, "partition %" PRIu32 ": %s", p->partition, err->text);
    if (f->job->ended || f->part_count == 1)
        qr_part_end(p);
    else
        qr_stored_start(p);
}

static void try_again(struct kl_env_timer *timer)
{
    struct qr_part *p = kl_container_of(timer, struct qr_part, retry);
    struct qr_job  *j = p->f->job;

    if (j->ended)
        qr_part_end(p);
    else
        ask(p);
    qr_drop(j);
}

static bool keep_page(struct qr_part *p, struct qr_page page, struct kl_err *err)
{
    size_t           size = page.size;
    struct qr_fetch *f = p->f;

    if (!kl_budget_take(&f->job->budget, size)) {
        qr_over_budget(f->job, err);
        return false;
    }
    if (p->page_count == p->page_room) {
        p->page_room = p->page_room == 0 ? 4 : p->page_room * 2;
        p->pages = kl_resize(p->pages, p->page_room * sizeof *p->pages);
    }
    p->pages[p->page_count++] = page;
    f->page_bytes += size;
    kl_count(f->job->q->m.pages, 1);
    kl_count(f->job->q->m.page_bytes, size);
    return true;
}

/* The last text of a page is where the next one begins. */
static struct kl_span last_text(struct kl_cur items)
{
    struct kl_span last = { NULL, 0 };

    while (kl_cur_left(&items) > 0 && !items.bad) {
        struct kl_span text = kl_cur_span(&items);

        if (!items.bad)
            last = text;
    }
    return last;
}

/* KL_OK: the page is kept; *more says whether to ask on. */
static enum kl_code take_page(struct qr_part *p, struct qr_page got, bool *more,
                              struct kl_err *err)
{
    struct qr_fetch *f = p->f;
    struct tsp_page  page;
    struct kl_cur    items;
    bool             texts = f->what == TSP_SEL_NAMES || f->what == TSP_SEL_VALUES;

    if (tsp_page_open(kl_span(got.bytes, got.size), &page, &items, err) != KL_OK)
        return kl_within(err, "partition %" PRIu32, p->partition);
    if (page.more && (f->what == TSP_SEL_METADATA || f->what == TSP_SEL_PARTIAL))
        return kl_fail(err, KL_ECORRUPT, "partition %" PRIu32 ": what has no pages, in pages",
                       p->partition);
    if (page.more) {
        struct kl_span text = texts ? last_text(items) : kl_span(NULL, 0);

        /* The cursor must move, or the paging would never end. */
        if (kl_cur_left(&items) == 0 ||
            (p->has_cursor && (texts ? kl_span_cmp(text, p->cursor_text) <= 0
                                     : kl_fp_cmp(page.cursor, p->cursor) <= 0)))
            return kl_fail(err, KL_ECORRUPT, "partition %" PRIu32 ": a page that leads nowhere",
                           p->partition);
        p->has_cursor = true;
        p->cursor = page.cursor;
        p->cursor_text = text;
    }
    if (!keep_page(p, got, err))
        return KL_ELIMIT;
    if (page.catalogue_revision > p->catalogue_revision)
        p->catalogue_revision = page.catalogue_revision;
    if (page.placement_revision > f->placement_revision)
        f->placement_revision = page.placement_revision;
    if (page.stale && !p->stale)
        qr_fetch_incomplete(f, "partition %" PRIu32 ": the newest samples may be missing: none of its "
                            "ingestors knows where its log ends now", p->partition);
    p->stale |= page.stale;
    *more = page.more;
    return KL_OK;
}

/* Frees the page's bytes when they are not kept. */
static void go_on_with(struct qr_part *p, struct qr_page page)
{
    struct qr_job *j = p->f->job;
    struct kl_err  err = { 0 };
    bool           more = false;
    enum kl_code   code = take_page(p, page, &more, &err);

    if (code != KL_OK && !page.borrowed)
        free(page.bytes);
    if (code == KL_ELIMIT) {
        qr_job_fail(j, PQL_EXECUTION, "%s", err.text);
        qr_part_end(p);
    } else if (code != KL_OK) {
        give_up(p, &err);
    } else if (more) {
        ask(p);
    } else {
        qr_stored_start(p);
    }
}

/* ---- a question: to one partition, or to several of one owner ---- */

/*
 * One that is not answered in the time that most are is put to the next member as well: `twin` is then
 * the other of the two, while both are out. The first good answer counts; the other is `over`: by then its
 * fetch may have begun anew, and its parts be gone.
 */
struct question {
    struct qr_fetch     *f;
    struct kl_bus_ask    ask;
    struct kl_buf        bytes;
    struct kl_env_timer  hedge;
    struct question     *twin;
    bool                 over, second, partial;
    uint64_t             whom;                         /* qr_members_silent */
    struct qr_pushed     pushed;                       /* where it is partial and put */
    int64_t              sent_ns;
    uint32_t             count;
    struct qr_part      *parts[];                      /* NULL: has its page */
};

static void answered(struct kl_bus_ask *op);
static void hedge(struct kl_env_timer *timer);

static void question_free(struct question *q)
{
    kl_buf_deinit(&q->bytes);
    free(q);
}

/* To another than `but`, 0: nobody. NULL: it cannot be put into words, and the job has failed. */
static struct question *question_new(struct qr_fetch *f, struct qr_part *const *parts, uint32_t count,
                                     uint64_t but)
{
    struct qr_job     *j = f->job;
    struct tsp_select *s = f->select;
    struct qr_part    *p = parts[0];
    int64_t            left_ms = qr_job_left_ms(j);
    struct question   *q = kl_new(sizeof *q + count * sizeof *parts);
    struct kl_err      err = { 0 };

    q->f = f;
    q->count = count;
    q->second = but != 0;
    q->partial = f->what == TSP_SEL_PARTIAL;
    memcpy(q->parts, parts, count * sizeof *parts);
    s->partition = p->partition;
    s->consistency = p->any ? TSP_READ_ANY : j->strong ? TSP_READ_STRONG : TSP_READ_DEFAULT;
    s->min_seq = 0;
    for (uint32_t i = 0; i < j->after_count && !j->strong; i++)
        if (j->after[i].partition == p->partition) {
            s->consistency = TSP_READ_CAUSAL;
            s->min_seq = j->after[i].seq;
        }
    s->has_cursor = p->has_cursor;
    s->cursor_fp = p->cursor;
    s->cursor_text = p->cursor_text;
    s->timeout_ms = qr_members_another(p) ? QR_ASK_PATIENCE_MS : QR_ASK_TIMEOUT_MS;
    if (left_ms < s->timeout_ms)
        s->timeout_ms = left_ms < 1 ? 1 : left_ms;
    if (q->partial)
        s->timeout_ms = qr_push_timeout_ms(j, qr_members_another(p));
    s->trace = p->trace;
    s->also_count = count - 1;
    for (uint32_t i = 1; i < count; i++)
        s->also[i - 1] = parts[i]->partition;
    q->ask = (struct kl_bus_ask){ .timeout_ms = s->timeout_ms, .loop = j->shard->loop, .done = answered };
    q->whom = qr_members_subject(p, but, q->ask.subject, sizeof q->ask.subject);
    if (q->partial)
        qr_pushed_begin(&q->pushed, f, p->partition, q->ask.subject, &s->push);
    kl_buf_init(&q->bytes, KL_BUS_MESSAGE_MAX);
    if (tsp_select_encode(s, &q->bytes, &err) != KL_OK) {
        if (q->partial)
            qr_pushed_end(&q->pushed);
        question_free(q);
        qr_job_fail(j, qr_kind_of(err.code), "%s", err.text);
        return NULL;
    }
    q->ask.question = kl_buf_span(&q->bytes);
    return q;
}

static struct kl_hedge *hedge_of(const struct question *q)
{
    struct qr_shard *s = q->f->job->shard;

    return q->partial ? &s->push_hedge : &s->hedge;
}

static void put(struct question *q)
{
    struct qr_job *j = q->f->job;

    q->sent_ns = kl_env_mono_ns(j->q->env);
    if (!q->second)
        kl_hedge_asked(hedge_of(q), j->q->o.hedge_percent);
    if (!q->second && j->hedges && j->q->o.hedge_percent > 0 && qr_members_another(q->parts[0])) {
        int64_t after_ms = kl_hedge_after_ms(hedge_of(q));

        if (after_ms < q->ask.timeout_ms) {
            q->hedge.fire = hedge;
            qr_hold(j);
            j->q->env->sched->arm(j->shard->loop, &q->hedge, after_ms);
        }
    }
    qr_hold(j);
    j->q->bus->ask(j->q->bus, &q->ask);
}

static void hedge(struct kl_env_timer *timer)
{
    struct question *q = kl_container_of(timer, struct question, hedge);
    struct qr_job   *j = q->f->job;

    if (!j->ended && !q->pushed.stopped && kl_hedge_may(hedge_of(q))) {
        q->twin = question_new(q->f, q->parts, q->count, q->whom);
        if (q->twin != NULL) {
            q->twin->twin = q;
            kl_count(j->q->m.hedges, 1);
            put(q->twin);
        }
    }
    qr_drop(j);
}

static void ask(struct qr_part *p)
{
    struct question *q = question_new(p->f, &p, 1, 0);

    if (q != NULL)
        put(q);
    else
        qr_part_end(p);
}

static void one_answered(struct question *q)
{
    struct kl_bus_ask *op = &q->ask;
    struct qr_part    *p = q->parts[0];
    struct qr_job     *j = p->f->job;

    if (j->ended) {
        if (op->code == KL_OK)
            free(op->answer);
        qr_part_end(p);
    } else if (op->code != KL_OK && q->partial) {
        if (op->code == KL_ETIMEOUT && qr_members_all_silent(p))
            qr_push_silent(p);
        give_up(p, &op->err);
    } else if ((op->code == KL_EAGAIN && p->tries + 1 < QR_ASK_TRIES) ||
               (op->code == KL_ETIMEOUT && qr_members_another(p))) {
        p->tries++;
        kl_count(j->q->m.retries, 1);
        p->retry.fire = try_again;
        qr_hold(j);
        j->q->env->sched->arm(j->shard->loop, &p->retry, QR_RETRY_MS * p->tries);
    } else if (op->code == KL_EAGAIN && !p->any && !j->strong && j->after_count == 0) {
        p->any = true;                                 /* what may be stale is better than nothing */
        p->tries = 0;
        ask(p);
    } else if (op->code != KL_OK) {
        give_up(p, &op->err);
    } else {
        go_on_with(p, (struct qr_page){ op->answer, op->answer_size, false });
    }
}

/* ---- several at once ---- */

static void keep_bundle(struct qr_fetch *f, void *bytes)
{
    f->bundles = kl_resize(f->bundles, (f->bundle_count + 1) * sizeof *f->bundles);
    f->bundles[f->bundle_count++] = bytes;
}

static struct qr_part *take_part(struct question *q, uint32_t partition)
{
    for (uint32_t i = 0; i < q->count; i++)
        if (q->parts[i] != NULL && q->parts[i]->partition == partition) {
            struct qr_part *p = q->parts[i];

            q->parts[i] = NULL;
            return p;
        }
    return NULL;
}

/* Gives each partition its page. False: the answer is nothing that it can be. */
static bool take_bundle(struct question *q)
{
    struct qr_job *j = q->f->job;
    void          *bytes = q->ask.answer;
    struct kl_err  err;
    struct kl_cur  c;
    struct kl_span page;
    uint32_t       partition;
    enum kl_code   code = tsp_bundle_open(kl_span(bytes, q->ask.answer_size), &c, &err);

    if (code == KL_EINVAL) {                           /* the first's page alone */
        go_on_with(take_part(q, q->parts[0]->partition),
                   (struct qr_page){ bytes, q->ask.answer_size, false });
        return true;
    }
    keep_bundle(q->f, bytes);
    while (code == KL_OK && !j->ended && tsp_bundle_next(&c, &partition, &page)) {
        struct qr_part *p = take_part(q, partition);

        if (p != NULL)
            go_on_with(p, (struct qr_page){ (void *)page.at, page.size, true });
    }
    return code == KL_OK && q->parts[0] == NULL;       /* else it would lead nowhere */
}

static void many_answered(struct question *q)
{
    struct kl_bus_ask *op = &q->ask;
    struct qr_fetch   *f = q->f;
    struct qr_job     *j = f->job;
    bool               together = false;
    uint32_t           n = 0;

    qr_parts_begin(f);
    if (j->ended && op->code == KL_OK)
        free(op->answer);
    else if (op->code == KL_OK)
        together = take_bundle(q);
    for (uint32_t i = 0; i < q->count; i++)
        if (q->parts[i] != NULL)
            q->parts[n++] = q->parts[i];
    for (uint32_t i = 0; i < n && (j->ended || !together); i++) {
        struct qr_part *p = q->parts[i];

        if (j->ended) {
            qr_part_end(p);
        } else if (op->code == KL_ETIMEOUT && !qr_members_another(p)) {
            give_up(p, &op->err);                      /* it would say nothing once more */
        } else {
            p->tries += op->code == KL_ETIMEOUT;
            ask(p);
        }
    }
    if (together && !j->ended && n > 0)
        qr_live_start(f, q->parts, n);
    qr_parts_end(f);
}

/* Of two questions the other may have better luck, unless it is the aggregate itself that cannot be made. */
static bool leaves_it(const struct question *q)
{
    return q->f->job->ended || (q->ask.code != KL_OK && !(q->partial && (q->ask.code == KL_EINVAL || q->ask.code == KL_ELIMIT)));
}

static void answered(struct kl_bus_ask *op)
{
    struct question *q = kl_container_of(op, struct question, ask), *twin = q->twin;
    struct qr_job   *j = q->f->job;

    if (q->hedge.armed) {
        j->q->env->sched->disarm(j->shard->loop, &q->hedge);
        qr_drop(j);                                    /* never the last: the question holds it too */
    }
    if (q->partial)
        qr_pushed_end(&q->pushed);
    if (twin != NULL)
        twin->twin = NULL;
    if (op->code == KL_OK)
        kl_hedge_answered(hedge_of(q), kl_env_mono_ns(j->q->env) - q->sent_ns);
    else if (op->code == KL_ETIMEOUT)
        qr_members_silent(j->shard, q->whom);
    if (q->over) {
        if (op->code == KL_OK)
            free(op->answer);
    } else if (twin != NULL && leaves_it(q)) {
        if (op->code == KL_OK)
            free(op->answer);                          /* all is left to the other */
    } else {
        if (twin != NULL) {
            twin->over = true;
            if (twin->partial)
                qr_stop(&twin->pushed);
            kl_count(j->q->m.hedges_won, q->second);
        }
        if (q->count == 1)
            one_answered(q);
        else
            many_answered(q);
    }
    question_free(q);
    qr_drop(j);
}

void qr_live_start(struct qr_fetch *f, struct qr_part *const *parts, uint32_t count)
{
    struct question *q = question_new(f, parts, count, 0);

    if (q != NULL) {
        put(q);
        return;
    }
    for (uint32_t i = 0; i < count; i++)
        qr_part_end(parts[i]);
}

/* ---- reading the pages, later, in the merge ---- */

static void parse_series(struct qr_part *p, struct qr_source *s, struct kl_cur *c, bool chunks,
                         struct kl_err *err)
{
    while (kl_cur_left(c) > 0 && !c->bad && err->code == KL_OK) {
        struct qr_found       found = { .partition = p->partition };
        struct kl_span        labels;
        struct blk_chunk_ref *refs = NULL;
        uint64_t              count = 0;

        found.fp.hi = kl_cur_64(c);
        found.fp.lo = kl_cur_64(c);
        labels = kl_cur_span(c);
        if (chunks)
            count = kl_cur_v(c);
        if (c->bad || count > kl_cur_left(c) || labels.size > KL_LABELS_BYTES_MAX)
            break;
        if (count > 0) {
            refs = kl_arena_alloc(&s->arena, count * sizeof *refs);
            if (refs == NULL) {
                qr_over_budget(p->f->job, err);
                return;
            }
        }
        for (uint64_t i = 0; i < count; i++) {
            refs[i].first_ms = kl_cur_z(c);
            refs[i].last_ms = (int64_t)((uint64_t)refs[i].first_ms + kl_cur_v(c));
            refs[i].count = (uint32_t)kl_cur_v(c);
            refs[i].kind = kl_cur_8(c);
            refs[i].bytes = kl_cur_span(c);
        }
        found.labels = (struct kl_labels){ labels.at, labels.size };
        found.chunks = refs;
        found.chunk_count = (uint32_t)count;
        /* The order is what merging rests on. */
        if (c->bad || (s->count > 0 && kl_fp_cmp(s->found[s->count - 1].fp, found.fp) >= 0)) {
            c->bad = true;
            break;
        }
        qr_source_found(p->f->job, s, &found, err);
    }
    if (err->code == KL_OK && (c->bad || kl_cur_left(c) > 0))
        kl_fail(err, KL_ECORRUPT, "partition %" PRIu32 ": a damaged page", p->partition);
}

void qr_live_parse(struct qr_part *p, struct qr_source *s, struct kl_err *err)
{
    for (size_t i = 0; i < p->page_count && err->code == KL_OK; i++) {
        struct tsp_page page;
        struct kl_cur   c;

        if (tsp_page_open(kl_span(p->pages[i].bytes, p->pages[i].size), &page, &c, err) != KL_OK)
            return;
        switch (p->f->what) {
        case TSP_SEL_SERIES:
        case TSP_SEL_LABELS:
        case TSP_SEL_EXEMPLARS:
            parse_series(p, s, &c, p->f->what != TSP_SEL_LABELS, err);
            break;
        case TSP_SEL_NAMES:
        case TSP_SEL_VALUES:
            while (kl_cur_left(&c) > 0 && !c.bad && err->code == KL_OK) {
                struct kl_span text = kl_cur_span(&c);

                if (!c.bad)
                    qr_source_text(p->f->job, s, text, err);
            }
            if (c.bad)
                kl_fail(err, KL_ECORRUPT, "partition %" PRIu32 ": a damaged page", p->partition);
            break;
        case TSP_SEL_METADATA:
        case TSP_SEL_MARKS:
        case TSP_SEL_PARTIAL:
        case TSP_SEL_STOP:
            break;                                     /* merge.c reads these straight */
        }
    }
}
