#ifndef TEST_INGESTOR_FIXTURE_H
#define TEST_INGESTOR_FIXTURE_H
/* What suites of a whole ingestor begin with: two partitions, ready, and questions that must succeed. */
#include "tests/suite.h"
#include "world.h"

static struct world w;
static const char   T[] = "anonymous";

static inline void setup(void)
{
    w_init(&w, 7, 2);
    w_start(&w);
    w_ready(&w);
}

static inline void teardown(void)
{
    w_stop(&w);
    w_deinit(&w);
}

static inline struct w_answer read_all(uint32_t partition)
{
    struct w_answer a;
    struct kl_err   err = { 0 };

    ck_assert_msg(w_read_all(&w, w_all(partition, T), &a, &err) == KL_OK, "%s", err.text);
    return a;
}

static inline void flush_ok(uint32_t *filesets)
{
    struct kl_err err = { 0 };

    ck_assert_msg(w_flush(&w, filesets, &err) == KL_OK, "%s", err.text);
}

static inline struct tsp_logmark mark_of(uint32_t partition)
{
    struct w_kv        kv = { .op = { .kind = KL_BUS_KV_GET, .loop = w.loop, .done = w_kv_done } };
    struct tsp_logmark m;
    struct kl_err      err = { 0 };

    tsp_logmark_key(kv.op.key, sizeof kv.op.key, partition);
    w.bus->kv(w.bus, &kv.op);
    ck_assert(w_until(&w, &kv.done));
    ck_assert_int_eq(kv.op.code, KL_OK);
    ck_assert_msg(tsp_logmark_decode(kl_span(kv.op.got, kv.op.got_size), &m, &err) == KL_OK, "%s", err.text);
    free(kv.op.got);
    return m;
}
#endif
