#ifndef TEST_SNAP_WORLD_H
#define TEST_SNAP_WORLD_H
/* A world whose ingestor makes snapshots: what is written into it, read from it, and compared. */
#include "world.h"

static struct world w;
static const char   T[] = "anonymous";

static bool         killed;                           /* then the disk has handles that nobody closes */

static inline void teardown(void)
{
    w_stop(&w);
    if (!killed)
        w_deinit(&w);
}

static inline struct w_answer read_all(uint32_t partition)
{
    struct w_answer a;
    struct kl_err   err = { 0 };

    /* A damaged snapshot costs the partition a moment. */
    for (int tries = 0; w_read_all(&w, w_all(partition, T), &a, &err) != KL_OK; tries++) {
        ck_assert_msg(tries < 100, "%s", err.text);
        kl_env_sim_run(w.sim, 100);
    }
    return a;
}

static inline uint64_t counted(const char *name)
{
    char full[100];

    snprintf(full, sizeof full, "koalemos_ingestor_%s_total", name);
    return atomic_load(&kl_metrics_add(w.metrics, KL_COUNTER, full, "", "")->bits);
}

static inline double shown(const char *name)
{
    char full[100];

    snprintf(full, sizeof full, "koalemos_ingestor_%s", name);
    return kl_bits_f64(atomic_load(&kl_metrics_add(w.metrics, KL_GAUGE, full, "", "")->bits));
}

/* Until every partition's snapshot has what was written. */
static inline void pass(void)
{
    uint64_t before = counted("snapshots");
    int64_t  quiet = 0;

    for (int n = 0; quiet < 5000; n++, quiet += 100) {
        ck_assert_int_lt(n, 5000);
        kl_env_sim_run(w.sim, 100);
        if (counted("snapshots") != before)
            quiet = 0;
        before = counted("snapshots");
    }
}

static inline void restart(bool crash)
{
    killed |= crash;
    if (crash)
        w_crash(&w, true, 99);
    else
        w_stop(&w);
    w_start(&w);
    w_ready(&w);
}

static inline void check_same(const struct w_answer *before, const struct w_answer *after)
{
    ck_assert_uint_eq(before->count, after->count);
    for (size_t s = 0; s < before->count; s++) {
        const struct w_series *x = &before->series[s], *y = NULL;

        for (size_t k = 0; k < after->count; k++)
            if (kl_fp_cmp(after->series[k].fp, x->fp) == 0)
                y = &after->series[k];
        ck_assert_ptr_nonnull(y);
        ck_assert(kl_span_eq(kl_buf_span(&x->labels), kl_buf_span(&y->labels)));
        ck_assert_uint_eq(x->count, y->count);
        for (size_t i = 0; i < x->count; i++) {
            ck_assert_int_eq(x->at[i].time_ms, y->at[i].time_ms);
            ck_assert_int_eq(x->at[i].start_ms, y->at[i].start_ms);
            ck_assert_int_eq(x->at[i].hist, y->at[i].hist);
            ck_assert(kl_f64_bits(x->at[i].value) == kl_f64_bits(y->at[i].value));
        }
    }
}

/* Everything a head may hold: full chunks, tails, late samples, histograms, start times. */
static inline void write_all(unsigned rounds)
{
    static const struct kl_hist_span span = { 0, 2 };
    static int64_t  t;
    double          counts[2] = { 1, 2 };

    if (t == 0)
        t = w_now(&w) - 300000;                        /* in the window that is open */
    for (unsigned r = 0; r < rounds; r++, t += 1000) {
        for (unsigned n = 0; n < 6; n++) {
            int64_t at = r % 13 == 5 && n == 3 ? t - 400000 : t;
            double  v = n < 2 ? (double)(r * n) : (double)(r * r % 1009) / 7.0 * n;

            w_define(&w, T, n);
            tsp_record_floats(w.writer, kl_span_str(T), n, &at, &v, 1);
            if (n == 4)
                tsp_record_start_time(w.writer, kl_span_str(T), n, at, t - 77000);
        }
        struct kl_hist h = { .schema = 2, .count = 3, .sum = r, .pos_span_count = 1, .pos_count = 2,
                             .pos_spans = &span, .pos = counts };

        w_define(&w, T, 9);
        tsp_record_hist(w.writer, kl_span_str(T), 9, t, &h);
        w_send_wait(&w, 0);
    }
}
#endif
