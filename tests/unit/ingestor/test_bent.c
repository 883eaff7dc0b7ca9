/* An ingestor on a bus that bends what the log says: a reader hears less than there is, or of another log. */
#include "fixture.h"

/*
 * A bus that says at some moment that the log was made anew: all incarnations are other ones from
 * then on, and numbers begin at 1 again. Only what an ingestor calls while reading is bent.
 */
static struct { struct kl_bus *in; struct kl_bus out; uint64_t shift, forget, ahead;
                struct kl_bus_reader *readers[8]; unsigned count;
                void (*record)(struct kl_bus_reader *, const struct kl_bus_record *);
                void (*caught_up)(struct kl_bus_reader *, uint64_t);
                void (*done)(struct kl_bus_info *); } bent;

static void bent_record(struct kl_bus_reader *r, const struct kl_bus_record *rec)
{
    struct kl_bus_record other = *rec;

    if (r->partition == 0) {
        other.incarnation += bent.shift;
        other.seq -= bent.forget;
    }
    bent.record(r, &other);
}

static void bent_caught_up(struct kl_bus_reader *r, uint64_t last_seq)
{
    bent.caught_up(r, last_seq - (r->partition == 0 ? bent.forget : 0));
}

static void bent_open(struct kl_bus *b, struct kl_bus_reader *r)
{
    (void)b;
    bent.record = r->record;
    bent.caught_up = r->caught_up;
    r->record = bent_record;
    r->caught_up = bent_caught_up;
    if (r->partition == 0) {
        r->from_seq += bent.forget;
        bent.readers[bent.count++ % 8] = r;
    }
    bent.in->read_open(bent.in, r);
}

static void bent_done(struct kl_bus_info *op)
{
    if (op->partition == 0) {
        op->incarnation += bent.shift;
        op->last_seq += bent.ahead - bent.forget;
        op->first_seq = bent.forget > 0 ? 1 : op->first_seq;
    }
    bent.done(op);
}

static void bent_info(struct kl_bus *b, struct kl_bus_info *op)
{
    (void)b;
    if (op->done != bent_done && op->loop != w.loop) {
        /* Loading and strong reads have handlers of their own; one at a time is enough here. */
        bent.done = op->done;
        op->done = bent_done;
    }
    bent.in->info(bent.in, op);
}

#define BENT(ret, name, type)                                                                  \
    static ret bent_##name(struct kl_bus *b, type *op) { (void)b; bent.in->name(bent.in, op); }
BENT(void, append, struct kl_bus_append)
BENT(void, read_close, struct kl_bus_reader)
BENT(void, purge, struct kl_bus_purge)
BENT(void, serve, struct kl_bus_service)
BENT(void, unserve, struct kl_bus_service)
BENT(void, kv, struct kl_bus_kv)
BENT(void, watch, struct kl_bus_watch)
BENT(void, unwatch, struct kl_bus_watch)
static void bent_answer(struct kl_bus *b, struct kl_bus_question *q, enum kl_code code,
                        struct kl_span bytes)
{
    (void)b;
    bent.in->answer(bent.in, q, code, bytes);
}

static struct { struct kl_env_task task; struct kl_err err; } breaks;

static void breaks_run(struct kl_env_task *task)       /* on the reader's loop, as the bus would */
{
    struct kl_bus_reader *r = bent.readers[bent.count - 1];

    (void)task;
    r->broken(r, KL_ECORRUPT, 4711, 1, &breaks.err);
}

static bool bent_end(struct kl_bus *b, uint32_t partition, uint64_t *last_seq)
{
    (void)b, (void)partition, (void)last_seq;
    return false;                                      /* to be asked for */
}

/* The ingestor anew, on the bent bus; all others stay on the real one. */
static void bent_begin(bool knows_end)
{
    struct kl_bus *real = w.bus;

    memset(&bent, 0, sizeof bent);
    bent.in = real;
    bent.out = (struct kl_bus){ .append = bent_append, .info = bent_info, .read_open = bent_open,
                                .read_close = bent_read_close, .purge = bent_purge,
                                .serve = bent_serve, .unserve = bent_unserve, .answer = bent_answer,
                                .kv = bent_kv, .watch = bent_watch, .unwatch = bent_unwatch,
                                .end = knows_end ? bent_end : NULL, .env = w.env };
    ing_free(w.ing);
    kl_env_sim_run(w.sim, 1000);
    w.bus = &bent.out;
    w_ingestor(&w);
    w.bus = real;
    w_ready(&w);
}

static struct { struct kl_env_task task; struct kl_bus_reader *reader; uint64_t last_seq; int64_t ago_ms; } told;

static void told_run(struct kl_env_task *task)         /* on the reader's loop, as the bus would */
{
    (void)task;
    told.reader->end(told.reader, told.last_seq, kl_env_mono_ns(w.env) - told.ago_ms * 1000000);
}

static void tell_end(uint64_t last_seq, int64_t ago_ms)
{
    for (unsigned n = 0; n < bent.count; n++)
        if (bent.readers[n]->partition == 0)
            told.reader = bent.readers[n];
    told.task.run = told_run;
    told.last_seq = last_seq;
    told.ago_ms = ago_ms;
    w.env->sched->post(told.reader->loop, &told.task);
    kl_env_sim_run(w.sim, 10);
}

static enum kl_code read_page(enum tsp_consistency consistency, bool *stale)
{
    struct w_answer   a = { 0 };
    struct kl_err     err = { 0 };
    struct tsp_select s = w_all(0, T);
    enum kl_code      code;

    s.consistency = consistency;
    code = w_live(&w, s, &a, &err);
    *stale = a.page.stale;
    w_answer_free(&a);
    return code;
}

START_TEST(who_does_not_hear_where_the_log_ends_asks_and_refuses_or_says_that_it_is_stale)
{
    uint64_t last;
    bool     stale;

    bent_begin(false);
    last = w_write(&w, 0, T, 1, w_now(&w), 1);
    kl_env_sim_run(w.sim, 100);
    ck_assert_int_eq(read_page(TSP_READ_DEFAULT, &stale), KL_OK);      /* the start knew the end */
    kl_env_sim_run(w.sim, 4000);
    ck_assert_int_eq(read_page(TSP_READ_ANY, &stale), KL_OK);
    ck_assert(stale);
    ck_assert_int_eq(read_page(TSP_READ_DEFAULT, &stale), KL_OK);      /* it asks */
    ck_assert_int_eq(read_page(TSP_READ_ANY, &stale), KL_OK);
    ck_assert(!stale);
    kl_env_sim_run(w.sim, 4000);
    bent.ahead = 1;                                    /* a record that does not come */
    ck_assert_int_eq(read_page(TSP_READ_DEFAULT, &stale), KL_EAGAIN);
    ck_assert_int_eq(read_page(TSP_READ_ANY, &stale), KL_OK);
    ck_assert(stale);
    tell_end(last, 500);
    ck_assert_int_eq(read_page(TSP_READ_DEFAULT, &stale), KL_OK);
    ck_assert_int_eq(read_page(TSP_READ_ANY, &stale), KL_OK);
    ck_assert(!stale);
    kl_env_sim_run(w.sim, 2700);                       /* that was asked 3.2 s ago */
    ck_assert_int_eq(read_page(TSP_READ_DEFAULT, &stale), KL_EAGAIN);
    tell_end(last + 1, 0);                             /* there is a record that it has not seen */
    ck_assert_int_eq(read_page(TSP_READ_DEFAULT, &stale), KL_EAGAIN);
    w_write(&w, 0, T, 1, w_now(&w), 2);
    kl_env_sim_run(w.sim, 100);
    ck_assert_int_eq(read_page(TSP_READ_DEFAULT, &stale), KL_OK);
}
END_TEST

START_TEST(a_log_made_anew_under_a_running_ingestor_loses_nothing_that_was_applied)
{
    struct w_answer a;
    struct kl_err   err = { 0 };
    uint64_t        last = 0;
    int64_t         t = w_now(&w);

    bent_begin(true);
    for (int i = 0; i < 30; i++)
        last = w_write(&w, 0, T, 1, t + i, i);
    kl_env_sim_run(w.sim, 1000);                       /* applied; none of it in any fileset */
    bent.shift = 77;
    bent.forget = last;
    kl_fail(&err, KL_ECORRUPT, "the stream was made anew");
    ck_assert_uint_ge(bent.count, 1);
    breaks.task.run = breaks_run;
    breaks.err = err;
    w.env->sched->post(bent.readers[bent.count - 1]->loop, &breaks.task);
    kl_env_sim_run(w.sim, 10000);
    w_ready(&w);
    for (int i = 30; i < 40; i++)
        w_write(&w, 0, T, 1, t + i, i);
    kl_env_sim_run(w.sim, 1000);
    {
        struct tsp_logmark m = mark_of(0);

        ck_assert_uint_eq(m.lost_count, 1);
        ck_assert_uint_eq(m.lost[0].first_seq, last + 1);
        ck_assert_uint_eq(m.incarnation, m.lost[0].incarnation + 77);
    }
    {
        struct tsp_select s = w_all(0, T);

        s.consistency = TSP_READ_DEFAULT;
        ck_assert_msg(w_read_all(&w, s, &a, &err) == KL_OK, "%s", err.text);
    }
    ck_assert_uint_eq(a.count, 1);
    ck_assert_uint_eq(a.series[0].count, 40);
    for (int i = 0; i < 40; i++)
        ck_assert(a.series[0].at[i].value == i);
    w_answer_free(&a);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("ingestor: a bent log");
    TCase *t = tcase_create("world");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t,
                   who_does_not_hear_where_the_log_ends_asks_and_refuses_or_says_that_it_is_stale);
    tcase_add_test(t, a_log_made_anew_under_a_running_ingestor_loses_nothing_that_was_applied);
    suite_add_tcase(s, t);

    return run_suite(s);
}
