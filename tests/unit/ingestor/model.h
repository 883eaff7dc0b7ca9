#ifndef TEST_INGESTOR_MODEL_H
#define TEST_INGESTOR_MODEL_H
/* One ingestor in a simulated world, and a model of every sample that it should answer with. */
#include "world.h"

static struct world w;
static const char   T[] = "anonymous";
enum { SERIES = 6, POINTS = 400 };
static double  sent[SERIES][POINTS];                   /* by ten seconds since `base` */
static bool    has[SERIES][POINTS];
static int64_t base;
static bool    crashed;                                /* a killed process leaves handles open */

static inline void restart(void)
{
    w_stop(&w);
    w_start(&w);
    w_ready(&w);
}

/* With whatever options `w` was given since w_init. */
static inline void model_begin(void)
{
    memset(has, 0, sizeof has);
    w_start(&w);
    w_ready(&w);
    base = w_now(&w) / 240000 * 240000;
}

static inline void teardown(void)
{
    w_stop(&w);
    if (!crashed)
        w_deinit(&w);
}

static inline int64_t at(unsigned point) { return base + (int64_t)point * 10000; }

static inline void put(unsigned series, unsigned point, double value)
{
    w_write(&w, 0, T, series, at(point), value);
    sent[series][point] = value;
    has[series][point] = true;
}

static inline void compare(const struct w_answer *a, const char *when)
{
    size_t held = 0, known = 0;

    for (unsigned s = 0; s < SERIES; s++) {
        const struct w_series *x = w_find(a, s);

        held += x == NULL ? 0 : x->count;
        for (unsigned p = 0; p < POINTS; p++) {
            const struct w_sample *got = w_sample_at(x, at(p));

            ck_assert_msg((got != NULL) == has[s][p], "%s: series %u, point %u is %s", when, s, p,
                          got != NULL ? "there" : "not there");
            ck_assert_msg(got == NULL || got->value == sent[s][p], "%s: series %u, point %u: %f, not "
                          "%f", when, s, p, got->value, sent[s][p]);
            known += got != NULL;
        }
    }
    ck_assert_msg(held == known, "%s: samples that nobody sent", when);
}

static inline void check(const char *when)
{
    struct w_answer a;
    struct kl_err   err = { 0 };

    ck_assert_msg(w_read_all(&w, w_all(0, T), &a, &err) == KL_OK, "%s: %s", when, err.text);
    compare(&a, when);
    w_answer_free(&a);
}

static inline void flush(void)
{
    struct kl_err err = { 0 };

    ck_assert_msg(w_flush(&w, NULL, &err) == KL_OK, "%s", err.text);
}

/* A killed process frees nothing. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "detect_leaks=0"; }
#endif
