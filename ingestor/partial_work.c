/*
 * What workers do for an aggregate: pages into columns, each hand its own; then the evaluation, of which each hand takes
 * items until there are none, and who is last goes on to what follows. None waits for another, and after its slice of
 * time each stands behind the work of others.
 */
#include "ingestor/partial.h"

#include <stdlib.h>

struct ing_hand *ing_partial_hand(struct ing_partial *x, unsigned number)
{
    struct ing_hand         *h = x->hands[number];
    const struct tsp_select *s = &x->a->of->select;

    if (h != NULL)
        return h;
    h = x->hands[number] = kl_new(sizeof *h);
    h->x = x;
    h->number = number;
    h->columns = (struct ing_columns){ .q = x->q, .worker = number, .budget = &x->budget, .tenant = s->tenant,
                                       .partition = x->a->p->number, .place = s->push, .from_ms = s->from_ms,
                                       .to_ms = s->to_ms };
    kl_buf_init(&h->page, ING_HAND_PAGE_MAX);
    return h;
}

enum kl_code ing_partial_late(const struct ing_partial *x, struct kl_err *err)
{
    if (atomic_load_explicit(&x->i->stopping, memory_order_relaxed))
        return kl_fail(err, KL_ECANCELED, "the ingestor is stopping");
    if (atomic_load_explicit(&x->a->stopped, memory_order_relaxed))
        return kl_fail(err, KL_ECANCELED, "the querier does not want it any more");
    return kl_env_mono_ns(x->i->env) < x->until_ns ? KL_OK
         : kl_fail(err, KL_ETIMEOUT, "an aggregate was not made in the time that its query has left");
}

/* ---- a page ---- */

static enum kl_code read_page(struct ing_hand *h, struct kl_err *err)
{
    const struct tsp_page *planned = ing_plan_page(h->plan);
    struct kl_fp           end = planned->cursor;
    bool                   more = planned->more;
    struct tsp_page        page;
    struct kl_cur          items;
    enum kl_code           code = ing_partial_late(h->x, err);

    kl_buf_reset(&h->page);
    if (code == KL_OK)
        ing_plan_render(h->plan, false, &h->page, &code, err);
    if (code != KL_OK || tsp_page_open(kl_buf_span(&h->page), &page, &items, err) != KL_OK)
        return err->code;
    if (page.more != more || (more && kl_fp_cmp(page.cursor, end) != 0))       /* the next one does not begin there */
        return kl_fail(err, KL_ELIMIT, "a page of an aggregate's series is larger than it may be");
    return ing_columns_page(&h->columns, items, err);
}

void ing_partial_read(struct kl_env_task *work)
{
    struct ing_hand *h = kl_container_of(work, struct ing_hand, work);

    h->code = read_page(h, &h->err);
    h->x->i->env->sched->post(h->x->a->p->shard->loop, &h->back);
}

/* ---- the evaluation ---- */

/* By who is first of those that fail; the others end at their next look. */
static void fail(struct ing_partial *x, const struct kl_err *err)
{
    if (atomic_exchange(&x->failed, true))
        return;
    x->code = err->code;
    x->err = *err;
}

static void take_items(struct kl_env_task *task)
{
    struct ing_hand    *h = kl_container_of(task, struct ing_hand, work);
    struct ing_partial *x = h->x;
    int64_t             until_ns = kl_env_mono_ns(x->i->env) + ING_HAND_SLICE_NS;
    struct kl_err       err;
    size_t              item;

    while (!atomic_load(&x->failed) && (item = atomic_fetch_add(&x->turn, 1)) < x->count) {
        x->item(x, item, h->number);
        if (ing_partial_late(x, &err) != KL_OK)
            fail(x, &err);
        if (kl_env_mono_ns(x->i->env) > until_ns) {
            x->i->env->sched->work(x->i->env->sched, task);
            return;
        }
    }
    if (atomic_fetch_sub(&x->left, 1) == 1)
        x->then(x);
}

/* The last thing that its caller does with x. */
static void fan(struct ing_partial *x, size_t count, void (*item)(struct ing_partial *x, size_t item, unsigned worker),
                void (*then)(struct ing_partial *x))
{
    struct kl_env_sched *sched = x->i->env->sched;
    unsigned             hands = count < x->hand_count ? (unsigned)count : x->hand_count;

    x->item = item;
    x->then = then;
    x->count = count;
    atomic_store(&x->turn, 0);
    atomic_store(&x->left, hands);
    for (unsigned k = 0; k < hands; k++)
        ing_partial_hand(x, k)->work = (struct kl_env_task){ .run = take_items };
    for (unsigned k = 0; k < hands; k++)               /* all are counted already: none of these is the last before its turn */
        sched->work(sched, &x->hands[k]->work);
}

static void evaluate(struct ing_partial *x, size_t item, unsigned worker) { pql_work(x->q, item, worker); }

static enum kl_code finish(struct ing_partial *x, struct kl_buf *out, struct kl_err *err)
{
    kl_buf_init(out, KL_BUS_MESSAGE_MAX);
    x->page.more = false;
    x->page.stale = x->stale;
    x->page.catalogue_revision = x->catalogue_revision;
    tsp_page_begin(out);
    if (pql_partial(x->q, out, err) != KL_OK)
        return err->code;
    tsp_page_end(out, &x->page);
    return KL_OK;
}

static void step(struct ing_partial *x)
{
    struct kl_err err;

    while (!atomic_load(&x->failed)) {
        enum pql_state st = pql_step(x->q);

        if (st == PQL_DONE) {
            if (finish(x, &x->a->page, &err) != KL_OK)
                fail(x, &err);
            break;
        }
        if (ing_partial_late(x, &err) != KL_OK) {
            fail(x, &err);
        } else if (st == PQL_WORK) {
            fan(x, pql_work_count(x->q), evaluate, step);
            return;
        } else if (x->fed) {
            kl_fail(&err, KL_EINVAL, "an aggregate of more than one selector");
            fail(x, &err);
        } else {
            pql_feed(x->q, 0, x->sort.series, x->sort.count);
            x->fed = true;
        }
    }
    x->i->env->sched->post(x->a->p->shard->loop, &x->back);
}

/* One: where few are to be sorted, all of it. */
static void begin_sort(struct ing_partial *x, size_t item, unsigned worker)
{
    unsigned count = 0;

    (void)item;
    (void)worker;
    while (count < x->hand_count && x->hands[count] != NULL) {
        x->columns[count] = &x->hands[count]->columns;
        count++;
    }
    ing_sort_begin(&x->sort, x->columns, count, x->hand_count);
    for (unsigned k = 0; k < count && x->sort.range_count == 1; k++)
        ing_sort_place(&x->sort, k);
    if (x->sort.range_count == 1)
        ing_sort_range(&x->sort, 0);
}

static void place(struct ing_partial *x, size_t item, unsigned worker)
{
    (void)worker;
    ing_sort_place(&x->sort, (unsigned)item);
}

static void sort_range(struct ing_partial *x, size_t item, unsigned worker)
{
    (void)worker;
    ing_sort_range(&x->sort, (unsigned)item);
}

static void placed(struct ing_partial *x) { fan(x, x->sort.range_count, sort_range, step); }

static void sort(struct ing_partial *x)
{
    if (atomic_load(&x->failed) || x->sort.range_count == 1)
        step(x);
    else
        fan(x, x->sort.all_count, place, placed);
}

void ing_partial_make(struct ing_partial *x) { fan(x, 1, begin_sort, sort); }
