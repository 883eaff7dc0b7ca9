/*
 * The first simulated cluster life: samples are written, cut, flushed, read, while the process is
 * killed or the power fails at a random instant, again and again; then every acked sample is there
 * with its exact value, and nothing that was never sent. On half of all disks everything is encrypted.
 * Replayable: SEED=n runs one life alone.
 */
#include "../unit/ingestor/world.h"

#include "tests/sim/kit.h"

enum { LIVES = 200, LIVES_AT_ONCE = 20, SERIES = 24, PARTITIONS = 2, CRASHES = 3, ROUNDS = 60 };

struct truth {                                         /* of one (partition, series, time) */
    int64_t  time_ms;
    double   acked;                                    /* the last value acked */
    double   maybe[8]; unsigned maybe_count;           /* sent later, never acked: may be there or not */
    bool     has_ack;
};
struct life {
    struct world  w;
    uint64_t      seed, draws;
    struct truth *truths[PARTITIONS][SERIES];
    size_t        counts[PARTITIONS][SERIES], rooms[PARTITIONS][SERIES];
    bool          defined[PARTITIONS][SERIES];
    struct kl_store_faults faults;
    int64_t       clock_ms;
};

static uint64_t draw(struct life *l) { return kit_draw(&l->draws); }

static struct truth *truth_of(struct life *l, unsigned p, unsigned n, int64_t time_ms)
{
    for (size_t i = l->counts[p][n]; i-- > 0;)
        if (l->truths[p][n][i].time_ms == time_ms)
            return &l->truths[p][n][i];
    if (l->counts[p][n] == l->rooms[p][n]) {
        l->rooms[p][n] = l->rooms[p][n] == 0 ? 64 : l->rooms[p][n] * 2;
        l->truths[p][n] = kl_resize(l->truths[p][n], l->rooms[p][n] * sizeof(struct truth));
    }
    l->truths[p][n][l->counts[p][n]] = (struct truth){ .time_ms = time_ms };
    return &l->truths[p][n][l->counts[p][n]++];
}

/* ---- a record, and what it would make true ---- */

struct sent {
    struct w_append a;
    unsigned        p, count;
    struct { unsigned n; int64_t time_ms; double value; bool defines; } at[12];
};

static void send_some(struct life *l, struct sent *s)
{
    s->p = (unsigned)(draw(l) % PARTITIONS);
    s->count = 1 + (unsigned)(draw(l) % 12);
    for (unsigned i = 0; i < s->count; i++) {
        unsigned n = (unsigned)(draw(l) % SERIES), how = (unsigned)(draw(l) % 20);
        int64_t  t = w_now(&l->w) / 1000 * 1000;
        double   v = how < 10 ? (double)(draw(l) % 1000) : kl_bits_f64(draw(l) & ~(1ull << 62));

        if (how >= 18)
            t -= 1000 * (int64_t)(draw(l) % 200);      /* late */
        else if (how == 17)
            t += 1000 * (int64_t)(draw(l) % 90);       /* ahead */
        s->at[i].n = n;
        s->at[i].time_ms = t;
        s->at[i].value = v;
        s->at[i].defines = !l->defined[s->p][n];
        if (s->at[i].defines && l->seed % 3 != 0)
            w_define(&l->w, "anonymous", n);
    }
    /* A writer that repeats everything always: then only samples hold back the log's replay. */
    for (unsigned n = 0; n < SERIES && l->seed % 3 == 0; n++)
        w_define(&l->w, "anonymous", n);
    for (unsigned i = 0; i < s->count; i++)
        tsp_record_floats(l->w.writer, kl_span_str("anonymous"), s->at[i].n, &s->at[i].time_ms,
                          &s->at[i].value, 1);
    w_send(&l->w, s->p, &s->a);
}

static void settle(struct life *l, struct sent *s)
{
    for (unsigned i = 0; i < s->count; i++) {
        struct truth *t = truth_of(l, s->p, s->at[i].n, s->at[i].time_ms);

        if (s->a.done && s->a.op.code == KL_OK) {
            t->acked = s->at[i].value;
            t->has_ack = true;
            t->maybe_count = 0;
            l->defined[s->p][s->at[i].n] = true;
        } else if (t->maybe_count < 8) {
            t->maybe[t->maybe_count++] = s->at[i].value;
        }
    }
}

static bool same(double a, double b) { return kl_f64_bits(a) == kl_f64_bits(b); }

static void check_answer(struct life *l, unsigned p, const struct w_answer *a)
{
    size_t held = 0, known = 0;

    for (unsigned n = 0; n < SERIES; n++) {
        const struct w_series *s = w_find(a, n);

        held += s == NULL ? 0 : s->count;
        for (size_t i = 0; i < l->counts[p][n]; i++) {
            const struct truth    *t = &l->truths[p][n][i];
            const struct w_sample *x = w_sample_at(s, t->time_ms);
            bool                   fine = x == NULL ? !t->has_ack
                                                    : t->has_ack && same(x->value, t->acked);

            known += x != NULL;
            for (unsigned k = 0; x != NULL && k < t->maybe_count; k++)
                fine |= same(x->value, t->maybe[k]);
            ck_assert_msg(fine, "seed %" PRIu64 ": partition %u, series %u at %" PRId64
                          ": %s, acked %d %a, answered %a", l->seed, p, n, t->time_ms,
                          x == NULL ? "missing" : "wrong", t->has_ack, t->acked,
                          x == NULL ? 0.0 : x->value);
        }
    }
    ck_assert_msg(held == known, "seed %" PRIu64 ": %zu samples that nobody sent", l->seed,
                  held - known);
}

static void read_partition(struct life *l, unsigned p, struct w_answer *a)
{
    struct kl_err err = { 0 };

    ck_assert_msg(w_read_all(&l->w, w_all(p, "anonymous"), a, &err) == KL_OK, "seed %" PRIu64
                  ": %s", l->seed, err.text);
}

static void check(struct life *l)
{
    for (unsigned p = 0; p < PARTITIONS; p++) {
        struct w_answer a;

        read_partition(l, p, &a);
        check_answer(l, p, &a);
        w_answer_free(&a);
    }
}

/* Where the doorman places a series is its own affair; it must be in one partition. */
static void check_everywhere(struct life *l)
{
    struct w_answer all = { 0 };

    for (unsigned p = 0; p < PARTITIONS; p++) {
        struct w_answer a;

        read_partition(l, p, &a);
        for (size_t i = 0; i < a.count; i++) {
            size_t           before = all.count;
            struct w_series *to = w_series_of(&all, a.series[i].fp, kl_buf_span(&a.series[i].labels));

            ck_assert_uint_eq(all.count, before + 1);
            for (size_t k = 0; k < a.series[i].count; k++)
                w_put(to, a.series[i].at[k]);
        }
        w_answer_free(&a);
    }
    check_answer(l, 0, &all);
    w_answer_free(&all);
}

/* Three lives of four make snapshots, so that a crash may come at any point of one, and most spill
 * whatever is sealed. */
static void snapshots(struct life *l)
{
    l->w.snapshot_ms = l->seed % 4 == 0 ? 0 : 300 + (int64_t)(draw(l) % 5000);
    l->w.spill_least_bytes = l->seed % 5 == 0 ? 1000 : 1;
}

/* Two lives of three have an object storage that fails now and then, loses its answers, lists what was,
 * or is away for a while. A start, and whoever looks at the end, finds it well again. */
static void store_weather(struct life *l)
{
    if (l->seed % 3 == 1)
        return;
    l->faults.before = l->faults.after = l->faults.cut = draw(l) % 3 == 0 ? (unsigned)(draw(l) % 300) : 0;
    l->faults.stale = draw(l) % 4 == 0 ? 300 : 0;
    l->faults.down = draw(l) % 6 == 0;
}

/* Half of all lives, by twenties: so that each kind of life above is among them. */
static void encrypted(struct life *l)
{
    struct kl_err err;

    if (l->seed / 20 % 2 == 1)
        ck_assert_int_eq(kl_keys_parse(kl_span_str("00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"),
                                       &l->w.keys, &err), KL_OK);
}

static void store_well(struct life *l)
{
    l->faults = (struct kl_store_faults){ .seed = l->faults.seed };
}

static void live(uint64_t seed)
{
    struct life *l = kl_new(sizeof *l);

    l->seed = seed;
    l->draws = seed * 1000003;
    w_init(&l->w, seed, PARTITIONS);
    l->faults.seed = seed;
    l->w.faults = &l->faults;
    l->w.orphans_ms = seed % 5 == 0 ? 0 : 20000;
    l->w.compacts = seed % 4 != 0;                     /* most lives merge filesets beside all else */
    snapshots(l);
    encrypted(l);
    w_start(&l->w);
    w_ready(&l->w);
    for (unsigned round = 0; round < ROUNDS; round++) {
        enum { AT_ONCE = 3 };
        struct sent     *sent[AT_ONCE];
        bool             flushes = draw(l) % 12 == 0, crash = draw(l) % 16 == 0;
        int64_t          until;

        store_weather(l);
        if (draw(l) % 8 == 0)                          /* some call to the disk will fail, once */
            kl_env_disk_sim_fail(l->w.disk, 1 + draw(l) % 80, draw(l) % 2 ? KL_EIO : KL_ELIMIT);

        for (int i = 0; i < AT_ONCE; i++) {
            sent[i] = kl_new(sizeof *sent[i]);
            send_some(l, sent[i]);
        }
        if (flushes)
            kit_flush(l->w.ing, l->w.loop);
        if (crash) {                                   /* somewhere in the middle of it all */
            uint64_t steps = draw(l) % 400;

            until = kl_env_mono_ns(l->w.env) + INT64_C(5000000000);
            while (steps-- > 0 && kl_env_sim_step(l->w.sim, until))
                ;
        } else {
            kl_env_sim_run(l->w.sim, (int64_t)(draw(l) % 6000));
            for (int i = 0; i < AT_ONCE; i++)
                ck_assert(w_until(&l->w, &sent[i]->a.done));
        }
        for (int i = 0; i < AT_ONCE; i++) {
            settle(l, sent[i]);
            /* A log that could not be written is never written again: an operator starts anew. */
            crash |= sent[i]->a.done && sent[i]->a.op.code != KL_OK;
        }
        if (draw(l) % 2 == 0 || crash)
            kl_env_disk_sim_fail(l->w.disk, 0, KL_EIO);
        if (crash) {
            w_crash(&l->w, draw(l) % 2 == 0, draw(l));
            store_well(l);
            memset(l->defined, 0, sizeof l->defined);  /* a new writer defines anew */
            tsp_record_start(l->w.writer);
            w_start(&l->w);
            w_ready(&l->w);
            check(l);
        }
    }
    w_crash(&l->w, true, draw(l));
    store_well(l);
    kl_env_disk_sim_fail(l->w.disk, 0, KL_EIO);
    w_start(&l->w);
    w_ready(&l->w);
    check(l);
    w_stop(&l->w);
    kl_keys_unref(l->w.keys);
    tsp_record_writer_free(l->w.writer);               /* the disk has handles of killed processes */
    for (unsigned p = 0; p < PARTITIONS; p++)
        for (unsigned n = 0; n < SERIES; n++)
            free(l->truths[p][n]);
    free(l);
}

START_TEST(after_any_crash_every_acked_sample_is_there_exactly)
{
    kit_lives(_i, LIVES_AT_ONCE, LIVES, live);
}
END_TEST

/* ---- the same, pushed through the doorman ---- */

struct pushed {
    struct kit_push push;
    unsigned        count;
    struct { unsigned n; int64_t time_ms; double value; } at[16];
};

static struct dm_doorman *doorman_new(struct life *l)
{
    struct dm_options  o = kit_doorman(l->w.log, l->w.metrics);
    struct dm_doorman *d;
    struct kl_err      err = { 0 };

    o.linger_ms = (int64_t)(draw(l) % 2) * 20;
    d = dm_new(l->w.env, l->w.bus, &o);
    for (int n = 0; n < 100 && !dm_ready(d, &err); n++)
        kl_env_sim_run(l->w.sim, 100);
    ck_assert_msg(dm_ready(d, &err), "%s", err.text);
    return d;
}

static void push_some(struct life *l, struct dm_doorman *d, struct pushed *s)
{
    struct kl_buf body = { 0 };

    s->count = 1 + (unsigned)(draw(l) % 16);
    for (unsigned i = 0; i < s->count; i++) {
        unsigned n = (unsigned)(draw(l) % SERIES);
        int64_t  t = w_now(&l->w) / 1000 * 1000 - 1000 * (int64_t)(draw(l) % 8 ? 0 : draw(l) % 200);
        double   v = draw(l) % 2 ? (double)(draw(l) % 1000) : (double)(int64_t)draw(l) / 1e9;

        s->at[i].n = n;
        s->at[i].time_ms = t;
        s->at[i].value = v;
        kl_buf_addf(&body, "%s{host=\"h%u\",code=\"%u\"} %.17g %" PRId64 "\n",
                    n % 2 ? "requests_total" : "temperature", n, n % 4, v, t);
    }
    kit_push(&s->push, d, (unsigned)(draw(l) % 2), body, (struct kl_fp){ 0 }, w_now(&l->w));
}

static void settle_push(struct life *l, struct pushed *s)
{
    for (unsigned i = 0; i < s->count; i++) {
        struct truth *t = truth_of(l, 0, s->at[i].n, s->at[i].time_ms);

        if (s->push.done && s->push.p.status == 204) {
            t->acked = s->at[i].value;
            t->has_ack = true;
            t->maybe_count = 0;
        } else if (t->maybe_count < 8) {
            t->maybe[t->maybe_count++] = s->at[i].value;
        }
    }
    if (s->push.done && s->push.p.status != 204)
        ck_assert_msg(s->push.p.status == 503, "seed %" PRIu64 ": %u %s", l->seed, s->push.p.status, s->push.p.text);
}

static void live_pushed(uint64_t seed)
{
    struct life       *l = kl_new(sizeof *l);
    struct dm_doorman *d;

    l->seed = seed;
    l->draws = seed * 7000003;
    w_init(&l->w, seed, PARTITIONS);
    l->faults.seed = seed;
    l->w.faults = &l->faults;
    l->w.orphans_ms = seed % 5 == 0 ? 0 : 20000;
    l->w.compacts = seed % 4 != 0;
    snapshots(l);
    encrypted(l);
    w_start(&l->w);
    w_ready(&l->w);
    d = doorman_new(l);
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct pushed *s = kl_new(sizeof *s);
        bool           crash = draw(l) % 12 == 0;

        store_weather(l);
        if (draw(l) % 10 == 0)
            kl_env_disk_sim_fail(l->w.disk, 1 + draw(l) % 60, draw(l) % 2 ? KL_EIO : KL_ELIMIT);
        push_some(l, d, s);
        if (draw(l) % 12 == 0)
            kit_flush(l->w.ing, l->w.loop);
        if (crash) {
            uint64_t steps = draw(l) % 400;
            int64_t  until = kl_env_mono_ns(l->w.env) + INT64_C(5000000000);

            while (steps-- > 0 && kl_env_sim_step(l->w.sim, until))
                ;
        } else {
            /* One at a time: of two pushes at once nobody knows whose value wins. */
            ck_assert(w_until(&l->w, &s->push.done));
            kl_env_sim_run(l->w.sim, (int64_t)(draw(l) % 6000));
            crash = s->push.p.status != 204;
        }
        settle_push(l, s);
        if (crash) {
            kl_env_disk_sim_fail(l->w.disk, 0, KL_EIO);
            store_well(l);
            w_crash(&l->w, draw(l) % 2 == 0, draw(l));
            w_start(&l->w);
            w_ready(&l->w);
            check_everywhere(l);
            d = doorman_new(l);
        }
    }
    kl_env_disk_sim_fail(l->w.disk, 0, KL_EIO);
    store_well(l);
    w_crash(&l->w, true, draw(l));
    w_start(&l->w);
    w_ready(&l->w);
    check_everywhere(l);
    w_stop(&l->w);
    kl_keys_unref(l->w.keys);
    tsp_record_writer_free(l->w.writer);
    for (unsigned n = 0; n < SERIES; n++)
        free(l->truths[0][n]);
    free(l);
}

START_TEST(after_any_crash_every_push_that_was_answered_204_is_there_exactly)
{
    kit_lives(_i, LIVES_AT_ONCE, LIVES, live_pushed);
}
END_TEST

/* A killed process frees nothing, and there are many of them here. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "detect_leaks=0"; }

int main(void)
{
    TCase *t = tcase_create("lives");

    tcase_set_timeout(t, 300);
    tcase_add_loop_test(t, after_any_crash_every_acked_sample_is_there_exactly, 0,
                        LIVES / LIVES_AT_ONCE);
    tcase_add_loop_test(t, after_any_crash_every_push_that_was_answered_204_is_there_exactly, 0,
                        LIVES / LIVES_AT_ONCE);
    return kit_run("pipeline", t);
}
