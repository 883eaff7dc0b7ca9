/*
 * An aggregate of a partition's series, for a querier that wants no more of them. The series are planned on
 * the loop and rendered as work, page by page, as they would be for the bus; each page is read into columns
 * by who rendered it, and when all are there a worker evaluates the text with the querier's own language. So
 * what is aggregated is, sample by sample, what the querier would have been sent. Between two pages, and
 * while it evaluates, nothing of the partition is held.
 *
 * Between pages, and between items of the evaluation, who makes it looks whether it is still wanted.
 * A few at a time, each with a bound on its memory; past that, as with all that this cannot do, the answer
 * is a refusal with words, and the querier asks for the series instead.
 */
#include "ingestor/columns.h"
#include "ingestor/ing_priv.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { SERIES_COST = 512 };                            /* bytes of memory_max that allow one series */

struct ing_partial {
    struct ing_ingestor *i;
    struct ing_question  of;                           /* for the series, in place of the ask's own */
    struct pql_query    *q;
    struct ing_columns   columns;
    struct tsp_page      page;                         /* of the last page; counts for all */
    uint64_t             catalogue_revision;           /* the highest of all pages */
    bool                 stale;
    int64_t              until_ns;
    const _Atomic bool  *stopped;                      /* the ask's */
};

void ing_partial_free(struct ing_partial *x)
{
    if (x == NULL)
        return;
    atomic_fetch_sub(&x->i->partials, 1);
    tsp_select_release(&x->of.select);
    ing_columns_free(&x->columns);
    pql_free(x->q);
    free(x);
}

/* What the text wants is what is asked for. */
static bool same_matchers(const struct pql_need *n, const struct tsp_select *s)
{
    if (n->matcher_count != s->matcher_count || n->from_ms != s->from_ms || n->to_ms != s->to_ms)
        return false;
    for (uint32_t i = 0; i < n->matcher_count; i++) {
        uint32_t k = 0;

        while (k < s->matcher_count && !(n->matchers[i].op == s->matchers[k].op &&
                                         kl_span_eq(n->matchers[i].name, s->matchers[k].name) &&
                                         kl_span_eq(n->matchers[i].value, s->matchers[k].value)))
            k++;
        if (k == s->matcher_count)
            return false;
    }
    return true;
}

static enum kl_code parse(struct ing_partial *x, const struct tsp_select *s, struct kl_err *err)
{
    const struct tsp_push *push = &s->push;
    uint64_t               most = x->i->o.pushdown_memory_max_bytes;
    struct pql_params      p = {
        .text = push->text, .instant = push->steps == 1, .start_ms = push->start_ms,
        .end_ms = push->start_ms + (int64_t)(push->steps - 1) * push->step_ms, .step_ms = push->step_ms,
        .lookback_ms = push->lookback_ms, .memory_max_bytes = most, .samples_max = push->samples_max,
        .series_max = most / SERIES_COST + 1, .tally = push->tally, .samples_per_step = push->tally,
        .notes_by_steps = true, .partial = true,
    };
    struct pql_failure     failure;
    const struct pql_need *needs;

    if (push->step_ms > INT64_MAX / 4 / TSP_PUSH_STEPS_MAX || push->start_ms > INT64_MAX / 4 ||
        push->start_ms < INT64_MIN / 4)
        return kl_fail(err, KL_EINVAL, "an aggregate at times that are out of bounds");
    x->q = pql_new(&p, &failure);
    if (x->q == NULL)
        return kl_fail(err, KL_EINVAL, "an aggregate that is none: %s", failure.text);
    if (pql_step(x->q) != PQL_NEED || pql_needs(x->q, &needs) != 1 || !same_matchers(needs, s))
        return kl_fail(err, KL_EINVAL, "an aggregate of other series than are asked for");
    return KL_OK;
}

struct ing_partial *ing_partial_new(struct ing_ask *a, struct kl_err *err)
{
    struct ing_ingestor     *i = a->p->i;
    const struct tsp_select *s = &a->of->select;
    int64_t                  wait_ms = s->timeout_ms > 0 ? s->timeout_ms : 10000;
    struct ing_partial      *x;

    if (atomic_fetch_add(&i->partials, 1) >= i->o.pushdown_max) {
        atomic_fetch_sub(&i->partials, 1);
        kl_fail(err, KL_EAGAIN, "as many aggregates as may be are being made here already");
        return NULL;
    }
    x = kl_new(sizeof *x);
    x->i = i;
    x->stopped = &a->stopped;
    x->until_ns = a->of->begun_ns + (wait_ms < INT32_MAX ? wait_ms : INT32_MAX) * INT64_C(1000000);
    x->of.i = i;
    x->of.select = *s;
    x->of.select.what = TSP_SEL_SERIES;
    x->of.select.limit = 0;
    if (parse(x, s, err) != KL_OK) {
        ing_partial_free(x);
        return NULL;
    }
    x->columns = (struct ing_columns){ .q = x->q, .tenant = s->tenant, .partition = a->p->number,
                                       .place = s->push, .from_ms = s->from_ms, .to_ms = s->to_ms };
    return x;
}

struct ing_question *ing_partial_question(struct ing_partial *x) { return &x->of; }

static enum kl_code late(struct ing_partial *x, struct kl_err *err)
{
    if (atomic_load_explicit(&x->i->stopping, memory_order_relaxed))
        return kl_fail(err, KL_ECANCELED, "the ingestor is stopping");
    if (atomic_load_explicit(x->stopped, memory_order_relaxed))
        return kl_fail(err, KL_ECANCELED, "the querier does not want it any more");
    return kl_env_mono_ns(x->i->env) < x->until_ns ? KL_OK
         : kl_fail(err, KL_ETIMEOUT, "an aggregate was not made in the time that its query has left");
}

enum kl_code ing_partial_page(struct ing_partial *x, struct kl_span bytes, bool *more, struct kl_err *err)
{
    struct kl_cur items;

    if (late(x, err) != KL_OK || tsp_page_open(bytes, &x->page, &items, err) != KL_OK ||
        ing_columns_page(&x->columns, items, err) != KL_OK)
        return err->code;
    if (x->page.catalogue_revision > x->catalogue_revision)
        x->catalogue_revision = x->page.catalogue_revision;
    x->stale |= x->page.stale;
    x->of.select.has_cursor = *more = x->page.more;
    x->of.select.cursor_fp = x->page.cursor;
    return KL_OK;
}

enum kl_code ing_partial_finish(struct ing_partial *x, struct kl_buf *out, struct kl_err *err)
{
    bool fed = false;

    for (enum pql_state st; (st = pql_step(x->q)) != PQL_DONE;) {
        if (late(x, err) != KL_OK)
            return err->code;
        if (st == PQL_NEED && fed)
            return kl_fail(err, KL_EINVAL, "an aggregate of more than one selector");
        if (st == PQL_NEED)
            ing_columns_feed(&x->columns);
        fed = true;
        for (size_t k = 0; st == PQL_WORK && k < pql_work_count(x->q); k++) {
            pql_work(x->q, k, 0);
            if (late(x, err) != KL_OK)
                return err->code;
        }
    }
    x->page.more = false;
    x->page.stale = x->stale;
    x->page.catalogue_revision = x->catalogue_revision;
    tsp_page_begin(out);
    if (pql_partial(x->q, out, err) != KL_OK)
        return err->code;
    tsp_page_end(out, &x->page);
    return KL_OK;
}
