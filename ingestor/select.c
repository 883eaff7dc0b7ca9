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

static void refuse(struct ing_ingestor *i, struct kl_bus_question *q, enum kl_code code,
                   const char *words)
{
    kl_count(i->m.select_refused, 1);
    i->bus->answer(i->bus, q, code, kl_span_str(words));
}

static void ask_free(struct ing_ask *a)
{
    tsp_select_release(&a->select);
    kl_arena_deinit(&a->arena);
    kl_buf_deinit(&a->page);
    ing_plan_free(a->plan);
    a->p->ask_count--;
    free(a);
}

static void ask_refuse(struct ing_ask *a, enum kl_code code, const char *words)
{
    refuse(a->p->i, a->q, code, words);
    ask_free(a);
}

static void render(struct kl_env_task *task)
{
    struct ing_ask *a = kl_container_of(task, struct ing_ask, work);

    ing_plan_render(a->plan, &a->page, &a->code, &a->err);
    a->p->i->env->sched->post(a->p->shard->loop, &a->back);
}

static void send(struct ing_ask *a)
{
    struct ing_ingestor *i = a->p->i;

    if (a->code != KL_OK) {
        ask_refuse(a, a->code, a->err.text);
        return;
    }
    kl_count(i->m.select_pages, 1);
    kl_count(i->m.select_bytes, a->page.size);
    i->bus->answer(i->bus, a->q, KL_OK, kl_buf_span(&a->page));
    ask_free(a);
}

static void rendered(struct kl_env_task *task)
{
    struct ing_ask       *a = kl_container_of(task, struct ing_ask, back);
    struct ing_partition *p = a->p;

    ing_in(p->i);
    p->rendering--;
    send(a);
    ing_snap_damaged(p);
    if (p->rendering == 0 && p->jobs != NULL && p->jobs->step == ING_LET_GO)
        ing_job_start(p);
    if (p->rendering == 0)
        ing_pass_swap(p);
}

static void answer(struct ing_ask *a)
{
    struct ing_partition *p = a->p;

    /* Let go, or swap, first: they shall not starve. */
    if ((p->jobs != NULL && p->jobs->step == ING_LET_GO) || ing_pass_swaps(p)) {
        a->next = p->held;
        p->held = a;
        return;
    }
    a->plan = ing_plan_new(p, a, &a->err);
    if (a->plan == NULL) {
        ask_refuse(a, a->err.code, a->err.text);
        return;
    }
    kl_buf_init(&a->page, KL_BUS_MESSAGE_MAX);
    if (ing_plan_is_small(a->plan)) {                  /* less than a hop to a worker and back */
        ing_plan_render(a->plan, &a->page, &a->code, &a->err);
        send(a);
        return;
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
        kl_fail(&err, KL_ETIMEOUT, "partition %" PRIu32 " has applied record %" PRIu64 " of %" PRIu64
                " and did not reach it in time", p->number, p->applied, a->need_seq);
        ask_refuse(a, err.code, err.text);
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
            ask_refuse(a, code, words);
        }
}

static bool serving(const struct ing_partition *p)
{
    return atomic_load(&p->state) == ING_LIVE && !p->reload;
}

/* Until need_seq is applied, if it is not yet. */
static void hold(struct ing_ask *a)
{
    struct ing_partition *p = a->p;

    if (!serving(p)) {
        ask_refuse(a, KL_EAGAIN, p->words.text);
    } else if (p->applied >= a->need_seq) {
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
        ask_refuse(a, op->code, op->err.text);
        return;
    }
    a->need_seq = op->last_seq;
    hold(a);
}

void ing_select(struct kl_bus_service *s, struct kl_bus_question *q)
{
    struct ing_partition *p = s->ctx;
    struct ing_ask       *a;
    struct kl_err         err;
    int64_t               wait_ms;

    kl_count(p->i->m.selects, 1);
    if (!serving(p)) {
        refuse(p->i, q, KL_EAGAIN, p->words.text);
        return;
    }
    if (p->ask_count == ING_ASKS_MAX) {
        refuse(p->i, q, KL_EAGAIN, "too many questions wait for this partition");
        return;
    }
    a = kl_new(sizeof *a);
    a->p = p;
    a->q = q;
    p->ask_count++;
    kl_arena_init(&a->arena, ASK_ARENA_MAX);
    if (tsp_select_decode(q->bytes, &a->arena, &a->select, &err) != KL_OK) {
        ask_refuse(a, err.code, err.text);
        return;
    }
    if (a->select.partition != p->number) {
        ask_refuse(a, KL_EINVAL, "a question to another partition");
        return;
    }
    wait_ms = a->select.timeout_ms <= 0 ? TIMEOUT_DEFAULT_MS
            : a->select.timeout_ms > TIMEOUT_MAX_MS ? TIMEOUT_MAX_MS : a->select.timeout_ms;
    a->until_ns = kl_env_mono_ns(p->i->env) + wait_ms * 1000000;
    if (a->select.consistency == TSP_READ_CAUSAL)
        a->need_seq = a->select.min_seq;
    if (a->select.consistency == TSP_READ_STRONG && !a->select.has_cursor) {
        a->info = (struct kl_bus_info){ .partition = p->number, .loop = p->shard->loop,
                                        .done = got_info };
        ing_out(p->i);
        p->i->bus->info(p->i->bus, &a->info);
        return;
    }
    hold(a);
}
