/*
 * An aggregate of a partition's series, for a querier that wants no more of them. The series are planned on
 * the loop and rendered as work, page by page, as they would be for the bus; each page is read into columns
 * by who rendered it, and when all are there workers evaluate the text with the querier's own language. So
 * what is aggregated is, sample by sample, what the querier would have been sent. While it evaluates, nothing of the
 * partition is held.
 *
 * Several pages are out at once, one a hand; the loop plans one at a time and does what else there is in between. Then
 * the hands take items of the evaluation; the language's answer does not depend on how many they are, nor on which
 * of them read what.
 *
 * Between pages, and between items of the evaluation, who makes it looks whether it is still wanted.
 * A few at a time, each with a bound on its memory; past that, as with all that this cannot do, the answer
 * is a refusal with words, and the querier asks for the series instead.
 */
#include "ingestor/partial.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { SERIES_COST = 512 };                            /* bytes of memory_max that allow one series */

void ing_partial_free(struct ing_partial *x)
{
    if (x == NULL)
        return;
    atomic_fetch_sub(&x->i->partials, 1);
    tsp_select_release(&x->of.select);
    for (unsigned k = 0; k < x->hand_count; k++)
        if (x->hands[k] != NULL) {
            ing_columns_free(&x->hands[k]->columns);
            kl_buf_deinit(&x->hands[k]->page);
            free(x->hands[k]);
        }
    ing_sort_end(&x->sort);
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
        .notes_by_steps = true, .partial = true, .workers = x->hand_count,
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

static struct ing_partial *begin(struct ing_ask *a, struct kl_err *err)
{
    struct ing_ingestor     *i = a->p->i;
    const struct tsp_select *s = &a->of->select;
    int64_t                  wait_ms = s->timeout_ms > 0 ? s->timeout_ms : 10000;
    unsigned                 workers = i->env->sched->workers(i->env->sched);
    struct ing_partial      *x;

    if (atomic_fetch_add(&i->partials, 1) >= i->o.pushdown_max) {
        atomic_fetch_sub(&i->partials, 1);
        kl_fail(err, KL_EAGAIN, "as many aggregates as may be are being made here already");
        return NULL;
    }
    x = kl_new(sizeof *x);
    x->i = i;
    x->a = a;
    x->hand_count = workers < ING_HANDS_MAX ? workers : ING_HANDS_MAX;
    x->budget.cap_bytes = i->o.pushdown_memory_max_bytes;
    x->more = true;
    x->until_ns = a->of->begun_ns + (wait_ms < INT32_MAX ? wait_ms : INT32_MAX) * INT64_C(1000000);
    x->of.i = i;
    x->of.select = *s;
    x->of.select.what = TSP_SEL_SERIES;
    x->of.select.limit = 0;
    if (parse(x, s, err) != KL_OK) {
        ing_partial_free(x);
        return NULL;
    }
    return x;
}

/* ---- pages ---- */

static void plan(struct ing_partial *x);

static void failed(struct ing_partial *x, enum kl_code code, const char *words)
{
    if (x->code == KL_OK)
        x->code = kl_fail(&x->err, code, "%s", words);
}

static void planned(struct kl_env_task *task)
{
    struct ing_partial *x = kl_container_of(task, struct ing_partial, next);

    ing_in(x->i);
    x->planning = false;
    x->out--;
    plan(x);
}

static void came_back(struct kl_env_task *task)
{
    struct ing_hand      *h = kl_container_of(task, struct ing_hand, back);
    struct ing_partial   *x = h->x;
    struct ing_partition *p = x->a->p;

    ing_in(x->i);
    p->rendering--;
    h->busy = false;
    x->out--;
    ing_plan_free(h->plan);
    h->plan = NULL;
    if (h->code != KL_OK)
        failed(x, h->code, h->err.text);
    ing_page_back(p);
    plan(x);
}

static void made(struct kl_env_task *task)
{
    struct ing_partial *x = kl_container_of(task, struct ing_partial, back);

    ing_in(x->i);
    ing_ask_settle(x->a, x->code, x->err.text);
}

/* Nothing is out, and no more is to be planned. */
static void all_read(struct ing_partial *x)
{
    if (x->code != KL_OK) {
        ing_ask_settle(x->a, x->code, x->err.text);
        return;
    }
    x->back = (struct kl_env_task){ .run = made };
    ing_out(x->i);
    ing_partial_make(x);
}

static struct ing_hand *idle(struct ing_partial *x)
{
    for (unsigned k = 0; k < x->hand_count; k++)
        if (x->hands[k] == NULL || !x->hands[k]->busy)
            return ing_partial_hand(x, k);
    return NULL;
}

static void hand_out(struct ing_partial *x, struct ing_hand *h)
{
    struct kl_env_sched *sched = x->i->env->sched;

    x->page = *ing_plan_page(h->plan);
    if (x->page.catalogue_revision > x->catalogue_revision)
        x->catalogue_revision = x->page.catalogue_revision;
    x->stale |= x->page.stale;
    x->of.select.has_cursor = x->more = x->page.more;
    x->of.select.cursor_fp = x->page.cursor;
    h->busy = true;
    h->work = (struct kl_env_task){ .run = ing_partial_read };
    h->back = (struct kl_env_task){ .run = came_back };
    x->out++;
    x->a->p->rendering++;
    ing_out(x->i);
    sched->work(sched, &h->work);
    if (!x->more || x->planning || idle(x) == NULL)
        return;
    x->planning = true;                                /* what else the loop has to do comes first */
    x->next = (struct kl_env_task){ .run = planned };
    x->out++;
    ing_out(x->i);
    sched->post(x->a->p->shard->loop, &x->next);
}

/* The next page, if there is one and a hand for it; when all have come back, what follows. */
static void plan(struct ing_partial *x)
{
    struct ing_ask       *a = x->a;
    struct ing_partition *p = a->p;
    struct ing_hand      *h;
    struct kl_err         err;

    if (a->stopped)
        failed(x, KL_ECANCELED, "the querier does not want it any more");
    else if (!ing_serving(p))
        failed(x, KL_EAGAIN, p->words.text);
    if (x->code == KL_OK && x->more && ing_ask_waits(p)) {
        if (x->out == 0)                               /* else it comes here again */
            ing_ask_hold(a);
        return;
    }
    h = x->code == KL_OK && x->more ? idle(x) : NULL;
    if (h != NULL && (h->plan = ing_plan_new(p, &x->of, &err)) != NULL)
        hand_out(x, h);
    else if (h != NULL)
        failed(x, err.code, err.text);
    if (x->out == 0)
        all_read(x);
}

void ing_partial_go(struct ing_ask *a)
{
    if (a->partial == NULL && (a->partial = begin(a, &a->err)) == NULL)
        ing_ask_settle(a, a->err.code, a->err.text);
    else
        plan(a->partial);
}
