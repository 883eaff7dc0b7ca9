/*
 * Questions: decoded, held until the log is applied as far as they ask, answered page by page.
 * What to answer is decided on the loop (plan), what it looks like is made as work (render).
 */
#include "ingestor/ing_priv.h"

#include "libkoal/base/mem.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { ASK_ARENA_MAX = 4 << 20, TIMEOUT_DEFAULT_MS = 10000, TIMEOUT_MAX_MS = 120000 };
enum { BUNDLE_WAIT_MS = 1000, UNSURE_WAIT_MS = 1000 };   /* one that is behind shall not hold up others */

static void refuse(struct ing_ingestor *i, struct kl_bus_question *q, enum kl_code code,
                   const char *words)
{
    kl_count(i->m.select_refused, 1);
    i->bus->answer(i->bus, q, code, kl_span_str(words));
}

/* ---- a question is answered when each of its asks is settled ---- */

static void question_free(struct ing_question *of)
{
    tsp_select_release(&of->select);
    kl_arena_deinit(&of->arena);
    kl_buf_deinit(&of->first);
    kl_buf_deinit(&of->others);
    free(of->asks);
    free(of);
}

static void send(struct ing_question *of)
{
    struct ing_ingestor *i = of->i;

    ing_told_question(of);
    if (of->code != KL_OK) {
        refuse(i, of->q, of->code, of->err.text);
    } else if (of->others.size == 0 ||
               of->first.size + of->others.size + 32 > KL_BUS_MESSAGE_MAX) {
        kl_bus_answer_take(i->bus, of->q, &of->first);
    } else {                                           /* in whatever order */
        tsp_bundle_add(&of->others, of->select.partition, kl_buf_span(&of->first));
        kl_bus_answer_take(i->bus, of->q, &of->others);
    }
    question_free(of);
}

/* Is there room for one more page beside those that are planned? The first is always answered. */
static bool has_room(const struct ing_question *of, const struct ing_partition *p)
{
    return p->number == of->select.partition || of->planned < TSP_SELECT_PAGE;
}

static void partial_ends(struct ing_ask *a, enum kl_code code)
{
    struct ing_counters *m = &a->p->i->m;
    struct ing_ask     **at = &a->p->partials;

    kl_count(code == KL_OK ? m->partials : a->stopped ? m->partials_stopped : m->partials_refused, 1);
    while (*at != a)
        at = &(*at)->next_partial;
    *at = a->next_partial;
}

/* With its page, or refused, or (KL_ELIMIT, of a bundle) left out. The ask goes with its question. */
void ing_ask_settle(struct ing_ask *a, enum kl_code code, const char *words)
{
    struct ing_question  *of = a->of;
    struct ing_partition *p = a->p;

    if (code == KL_OK) {
        kl_count(p->i->m.select_pages, 1);
        kl_count(p->i->m.select_bytes, a->page.size);
    }
    if (of->select.what == TSP_SEL_PARTIAL)
        partial_ends(a, code);
    if (p->number == of->select.partition) {
        of->code = code;
        if (code != KL_OK)
            kl_fail(&of->err, code, "%s", words);
        of->first = a->page;
        a->page = (struct kl_buf){ 0 };
    } else if (code == KL_OK) {
        if (of->others.size == 0)
            tsp_bundle_begin(&of->others);
        tsp_bundle_add(&of->others, p->number, kl_buf_span(&a->page));
    }
    kl_buf_deinit(&a->page);
    ing_plan_free(a->plan);
    ing_partial_free(a->partial);
    p->ask_count--;
    if (--of->left == 0)
        send(of);
}

static void render(struct kl_env_task *task)
{
    struct ing_ask *a = kl_container_of(task, struct ing_ask, work);

    ing_plan_render(a->plan, false, &a->page, &a->code, &a->err);
    a->p->i->env->sched->post(a->p->shard->loop, &a->back);
}

void ing_page_back(struct ing_partition *p)
{
    ing_snap_damaged(p);
    if (p->rendering == 0 && p->jobs != NULL && p->jobs->step == ING_LET_GO)
        ing_job_start(p);
    if (p->rendering == 0) {
        for (uint32_t t = 0; t < p->tenant_count && !ing_pass_reads(p); t++)
            ing_chunks_bury(p->tenants[t].head);
        ing_pass_swap(p);
    }
}

static void rendered(struct kl_env_task *task)
{
    struct ing_ask       *a = kl_container_of(task, struct ing_ask, back);
    struct ing_partition *p = a->p;

    ing_in(p->i);
    p->rendering--;
    ing_ask_settle(a, a->code, a->err.text);
    ing_page_back(p);
}

/* Let go, or swap, first: they shall not starve. */
bool ing_ask_waits(const struct ing_partition *p)
{
    return (p->jobs != NULL && p->jobs->step == ING_LET_GO) || ing_pass_swaps(p);
}

void ing_ask_hold(struct ing_ask *a)
{
    a->next = a->p->held;
    a->p->held = a;
}

static void answer(struct ing_ask *a)
{
    struct ing_partition *p = a->p;

    if (a->of->select.what == TSP_SEL_PARTIAL) {
        ing_partial_go(a);
        return;
    }
    if (ing_ask_waits(p)) {
        ing_ask_hold(a);
        return;
    }
    if (!has_room(a->of, p)) {
        ing_ask_settle(a, KL_ELIMIT, "");
        return;
    }
    a->plan = ing_plan_new(p, a->of, &a->err);
    if (a->plan == NULL) {
        ing_ask_settle(a, a->err.code, a->err.text);
        return;
    }
    a->of->planned += ing_plan_size(a->plan);
    kl_buf_init(&a->page, KL_BUS_MESSAGE_MAX);
    if (ing_plan_is_small(a->plan)) {                  /* less than a hop to a worker and back */
        ing_plan_render(a->plan, true, &a->page, &a->code, &a->err);
        if (a->code == KL_OK || a->code == KL_ELIMIT) {
            ing_ask_settle(a, a->code, a->err.text);
            return;
        }
    }
    a->work = (struct kl_env_task){ .run = render };
    a->back = (struct kl_env_task){ .run = rendered };
    p->rendering++;
    ing_out(p->i);
    p->i->env->sched->work(p->i->env->sched, &a->work);
}

void ing_asks_resume(struct ing_partition *p)
{
    struct ing_ask *held = p->held;

    p->held = NULL;
    while (held != NULL) {
        struct ing_ask *a = held;

        held = a->next;
        answer(a);
    }
}

void ing_asks_check(struct ing_partition *p)
{
    int64_t now_ns = kl_env_mono_ns(p->i->env);

    for (struct ing_ask **at = &p->asks; *at != NULL;) {
        struct ing_ask *a = *at;
        struct kl_err   err;

        if (p->applied < a->need_seq && now_ns < a->until_ns) {
            at = &a->next;
            continue;
        }
        *at = a->next;
        if (p->applied >= a->need_seq) {
            answer(a);
            continue;
        }
        kl_fail(&err, a->of->select.also_count > 0 || a->unsure ? KL_EAGAIN : KL_ETIMEOUT, "partition %" PRIu32
                " has applied record %" PRIu64 " of %" PRIu64 " and did not reach it in time",
                p->number, p->applied, a->need_seq);
        ing_ask_settle(a, err.code, err.text);
    }
}

void ing_asks_end(struct ing_partition *p, enum kl_code code, const char *words)
{
    struct ing_ask *lists[2] = { p->asks, p->held };

    p->asks = p->held = NULL;
    for (int k = 0; k < 2; k++)
        while (lists[k] != NULL) {
            struct ing_ask *a = lists[k];

            lists[k] = a->next;
            ing_ask_settle(a, code, words);
        }
}

bool ing_serving(const struct ing_partition *p)
{
    return atomic_load(&p->state) == ING_LIVE && !p->reload;
}

/* Until need_seq is applied, if it is not yet. */
static void hold(struct ing_ask *a)
{
    struct ing_partition *p = a->p;

    if (!ing_serving(p)) {
        ing_ask_settle(a, KL_EAGAIN, p->words.text);
    } else if (p->applied >= a->need_seq || a->stopped) {
        answer(a);
    } else {
        a->next = p->asks;
        p->asks = a;
    }
}

static void got_info(struct kl_bus_info *op)
{
    struct ing_ask *a = kl_container_of(op, struct ing_ask, info);

    ing_in(a->p->i);
    if (op->code != KL_OK) {
        kl_within(&op->err, "ask for the log's end");
        ing_ask_settle(a, a->unsure ? KL_EAGAIN : op->code, op->err.text);
        return;
    }
    ing_log_told(a->p, op->last_seq, a->asked_ns);
    a->need_seq = op->last_seq;
    hold(a);
}

static void ask_start(struct ing_question *of, struct ing_partition *p, int64_t until_ns)
{
    const struct tsp_select *s = &of->select;
    struct kl_bus           *bus = p->i->bus;
    struct ing_ask          *a = &of->asks[of->begun++];

    a->p = p;
    a->of = of;
    if (s->what == TSP_SEL_PARTIAL) {
        a->next_partial = p->partials;
        p->partials = a;
    }
    a->until_ns = until_ns;
    p->ask_count++;
    a->asked_ns = kl_env_mono_ns(p->i->env);
    a->unsure = s->consistency == TSP_READ_DEFAULT && !s->has_cursor && ing_log_stale_ms(p) > ING_STALE_MS;
    if (a->unsure && until_ns > a->asked_ns + UNSURE_WAIT_MS * INT64_C(1000000))
        a->until_ns = a->asked_ns + UNSURE_WAIT_MS * INT64_C(1000000);
    if (s->consistency == TSP_READ_CAUSAL)
        a->need_seq = s->min_seq;
    if ((s->consistency == TSP_READ_STRONG || a->unsure) && !s->has_cursor &&
        (bus->end == NULL || !bus->end(bus, p->number, &a->need_seq))) {
        a->info = (struct kl_bus_info){ .partition = p->number, .loop = p->shard->loop,
                                        .done = got_info };
        ing_out(p->i);
        bus->info(bus, &a->info);
        return;
    }
    hold(a);
}

/* Those of `also` that this loop owns and that can answer; the others are left out of the bundle. */
static uint32_t at_hand(const struct ing_question *of, const struct ing_partition *p,
                        struct ing_partition *also[TSP_ALSO_MAX])
{
    uint32_t count = 0;

    for (uint32_t k = 0; k < of->select.also_count && of->select.what != TSP_SEL_PARTIAL; k++) {
        uint32_t              n = of->select.also[k];
        struct ing_partition *x = n < p->i->o.partitions ? &p->i->partitions[n] : NULL;
        bool                  again = x == p;

        for (uint32_t m = 0; m < count; m++)
            again |= also[m] == x;
        if (x != NULL && !again && x->shard == p->shard && ing_serving(x) &&
            (of->select.consistency != TSP_READ_DEFAULT || ing_log_stale_ms(x) <= ING_STALE_MS) &&
            x->ask_count < ING_ASKS_MAX)
            also[count++] = x;
    }
    return count;
}

/* ---- a question that is not wanted any more ---- */

static bool take_out(struct ing_ask **list, const struct ing_ask *a)
{
    for (; *list != NULL; list = &(*list)->next)
        if (*list == a) {
            *list = a->next;
            return true;
        }
    return false;
}

/* One that waits ends here; one that is being made, at the worker's next look; one that has asked for the
 * log's end, when it is told. */
static void stop(struct ing_partition *p, const struct tsp_push *which)
{
    struct ing_ask *a = p->partials;

    while (a != NULL && (a->of->select.push.asker != which->asker || a->of->select.push.number != which->number))
        a = a->next_partial;
    if (a == NULL)                                     /* it has been answered */
        return;
    a->stopped = true;
    if (take_out(&p->asks, a) || take_out(&p->held, a))
        ing_ask_settle(a, KL_ECANCELED, "the querier does not want it any more");
}

void ing_select(struct kl_bus_service *s, struct kl_bus_question *q)
{
    struct ing_partition *p = s->ctx, *also[TSP_ALSO_MAX];
    struct ing_question  *of;
    struct kl_err         err;
    int64_t               wait_ms, until_ns;
    uint32_t              count;

    kl_count(p->i->m.selects, 1);
    if (!ing_serving(p)) {
        refuse(p->i, q, KL_EAGAIN, p->words.text);
        return;
    }
    of = kl_new(sizeof *of);
    of->q = q;
    of->i = p->i;
    kl_arena_init(&of->arena, ASK_ARENA_MAX);
    if (tsp_select_decode(q->bytes, &of->arena, &of->select, &err) != KL_OK ||
        (of->select.partition != p->number &&
         kl_fail(&err, KL_EINVAL, "a question to another partition"))) {
        refuse(p->i, q, err.code, err.text);
        question_free(of);
        return;
    }
    if (of->select.what == TSP_SEL_STOP) {
        stop(p, &of->select.push);
        p->i->bus->answer(p->i->bus, q, KL_OK, kl_span("", 0));
        question_free(of);
        return;
    }
    if (p->ask_count == ING_ASKS_MAX) {
        refuse(p->i, q, KL_EAGAIN, "too many questions wait for this partition");
        question_free(of);
        return;
    }
    wait_ms = of->select.timeout_ms <= 0 ? TIMEOUT_DEFAULT_MS
            : of->select.timeout_ms > TIMEOUT_MAX_MS ? TIMEOUT_MAX_MS : of->select.timeout_ms;
    if (of->select.also_count > 0 && wait_ms > BUNDLE_WAIT_MS)
        wait_ms = BUNDLE_WAIT_MS;
    until_ns = kl_env_mono_ns(p->i->env) + wait_ms * 1000000;
    count = at_hand(of, p, also);
    of->asks = kl_new((count + 1) * sizeof *of->asks);
    of->left = of->asked = count + 1;                  /* before any of them may settle */
    of->begun_ns = kl_env_mono_ns(p->i->env);
    ask_start(of, p, until_ns);
    for (uint32_t k = 0; k < count; k++)
        ask_start(of, also[k], until_ns);
}
